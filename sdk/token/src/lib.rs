//! Where access tokens come from, for [`bowline_http_client`]: fixed, a file that is watched, OAuth over
//! mutual TLS, token exchange, and refresh tokens.
//!
//! A [`TokenSource`] gives one token after the other for one resource. It tells the client what
//! only the source knows: that a token succeeds another (the cause `token` of a proof), and which
//! certificate an opaque token belongs to (CL-8).
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use bowline_http_client::{Client, Identity, Trust};
//! use bowline_token::{
//!     AuthorizationServer, Authorized, ClientAuthentication, OAuth, RequiredBinding,
//! };
//!
//! let client = Client::builder()
//!     .identity(Identity::from_pem_files("agent.pem", "agent-key.pem")?)
//!     .trust(Trust::from_pem_file("ca.pem")?)
//!     .build()?;
//! // The resource names its authorization server (RFC 9728), whose metadata names the token
//! // endpoint (RFC 8414).
//! let server = AuthorizationServer::for_resource("https://api.example.com")
//!     .only(["https://as.example.com"]);
//! let source = OAuth::builder(client.clone(), server, ClientAuthentication::tls("agent"))
//!     .scope("things:read")
//!     .bound(RequiredBinding::Session)
//!     .build()?;
//!
//! // Each request carries a token, and the proof that fits its connection.
//! let agent = Authorized::new(client.clone(), source.clone(), "https://api.example.com")?;
//! let request = http::Request::get("https://api.example.com/things")
//!     .body(http_body_util::Empty::new())?;
//! let response = agent.send(request).await?;
//! println!("{}, {} token request(s)", response.status(), source.counts().requested);
//!
//! // A new certificate: first a token that is bound to it, then the switch. No call fails.
//! let next = Identity::from_pem_files("agent-2.pem", "agent-2-key.pem")?;
//! bowline_token::replace_identity(&client, &[std::sync::Arc::new(source)], next).await?;
//! # Ok(()) }
//! ```
//!
//! | source | gives |
//! |---|---|
//! | [`Fixed`] | one token, until it expires |
//! | [`TokenFile`] | the token in a file that another program replaces |
//! | [`OAuth`] | tokens of the client's own (`client_credentials`), exchanged (RFC 8693), or by a refresh token in a file ([`Builder::refresh`]) |
//! | [`Exchanges`] | an [`OAuth`] source for each incoming token |
//!
//! To write a transport for another protocol, take an `Arc<dyn TokenSource>`, ask it for each
//! request, and use [`Token::attach`] and [`is_invalid_token`] as [`Authorized`] does.
//!
//! It does not do: authorization code, browser, client secrets, dynamic registration. It validates no token: what it reads from a JWT matters to its own client only.
//! Nothing runs in the background while no caller asks.
//!
//! Requirement ids such as `CL-8` refer to the project's wire profile.

mod authorized;
mod blocking_pool;
mod cache;
mod clock;
mod error;
mod file;
mod fixed;
mod oauth;
mod observe;
mod replace;
#[doc(hidden)]
pub mod shared;
mod source;

pub use authorized::{Authorized, SentAgain, SentToken, is_invalid_token};
pub use bowline_http_client::{
    AccessToken, Algorithm, Body, Client, Error as ClientError, Fault, Identity, KeyError,
    KeyErrorKind, MintError, MintErrorKind, Thumbprint, TokenSourceId,
};
pub use bowline_proof::{AssertionClaims, AssertionKey};
pub use cache::Counts;
pub use clock::Clock;
pub use error::{Error, ErrorKind, OAuthErrorCode};
pub use file::{TokenFile, TokenFileOptions};
pub use fixed::Fixed;
#[cfg(unix)]
pub use oauth::SeedOwner;
pub use oauth::{
    AuthorizationServer, Builder, ClientAuthentication, Exchanges, OAuth, RequiredBinding,
    resource_metadata,
};
pub use observe::{Event, Observer, Reason};
pub use replace::replace_identity;
pub use source::{Token, TokenSource, new_source_id};
