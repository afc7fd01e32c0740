//! The resource server's end of TLS-session-bound access tokens: it terminates mutual TLS, knows each connection, and lets
//! a request through only if its token is presented on the connection that its proof was made for.
//!
//! | step | by |
//! |---|---|
//! | a TCP stream becomes a TLS stream and its [`ConnectionFacts`] | [`Acceptor`], many at a time in a [`Listener`] |
//! | each request gets the facts of its connection | [`serve`], or `axum::serve` with [`PeerFacts`] |
//! | the access token is valid (RS-2) | a [`TokenValidator`], such as [`JwtValidator`] |
//! | token, certificate, proof and connection belong together (RS-1..RS-13) | [`BindingLayer`] |
//! | a token that is bound to a DPoP key comes with a proof that was never used (RFC 9449) | [`BindingLayer::dpop`] |
//! | the handler learns what the request was bound to | [`Binding`], a request extension |
//!
//! Ids such as `RS-6` cite the requirements of the project's wire profile.
//!
//! ```no_run
//! # async fn run(router: axum::Router) -> Result<(), Box<dyn std::error::Error>> {
//! use bowline_server::*;
//!
//! let identity = ServerIdentity::from_pem_files("server.pem", "server.key")?;
//! let tls = ServerTls::builder(identity, ClientAuth::Required(roots_from_pem_file("clients.pem")?)).build()?;
//! let listener = Listener::bind("0.0.0.0:8443", Acceptor::new(tls)).await?;
//!
//! let keys = JwksUrl::new("https://authority.example.com/jwks")?;
//! let validator = JwtValidator::builder("https://authority.example.com", "https://api.example.com", keys).build();
//! let binding = BindingLayer::new(validator)
//!     .origins(["https://api.example.com".parse()?])
//!     .policy(Policy::Require);
//!
//! let stop = async { tokio::signal::ctrl_c().await.expect("signals can be heard") };
//! serve(listener, router.layer(binding), ServeOptions::default(), stop).await;
//! # Ok(())
//! # }
//! ```
//!
//! What it does not do: it validates no opaque token, and takes nobody's word for a connection that it did not terminate
//! itself.

mod acceptor;
mod binding;
mod clock;
mod dpop;
mod event;
mod facts;
mod jwt;
mod layer;
mod linger;
mod listener;
mod memory;
mod serve;
mod tls;
mod token;

pub use self::acceptor::{AcceptError, AcceptErrorKind, Acceptor};
pub use self::binding::{Binding, BindingClass};
pub use self::clock::Clock;
pub use self::dpop::{Dpop, DpopNonces, Insertion, MemoryReplayStore, ProofId, ReplayStore};
pub use self::event::{ServerEvent, VerifierObserver};
pub use self::facts::{ClientCertificate, ConnectionFacts, ConnectionId};
pub use self::jwt::{Jwks, JwksError, JwksUrl, JwtValidator, JwtValidatorBuilder};
pub use self::layer::{BindingLayer, BindingService, Policy, RequestClaims};
pub use self::linger::Lingering;
#[cfg(feature = "axum")]
pub use self::listener::PeerFacts;
pub use self::listener::{Connection, Listener};
pub use self::serve::{ServeOptions, serve, serve_connection};
pub use self::tls::{
    ClientAuth, MAX_TICKET_LIFETIME, ServerIdentity, ServerTls, ServerTlsBuilder, TlsError, TlsErrorKind,
    roots_from_pem, roots_from_pem_file,
};
pub use self::token::{TokenError, TokenErrorKind, TokenValidator, ValidToken};
