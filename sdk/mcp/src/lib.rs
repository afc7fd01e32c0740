//! rmcp transports over bowline's connection-aware client.
//!
//! [`StreamableHttp`] takes the place of rmcp's own HTTP client. Above it nothing changes:
//! rmcp still handles sessions, event streams, resumption and cancellation. Below it, each
//! request's connection is chosen first, and the request carries the session-binding proof that
//! fits this connection. A proof is made once per connection.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use bowline_http_client::{AccessToken, Client, Identity, Trust};
//! use rmcp::ServiceExt;
//!
//! let client = Client::builder()
//!     .identity(Identity::from_pem_files("agent.pem", "agent-key.pem")?)
//!     .trust(Trust::from_pem_file("ca.pem")?)
//!     .build()?;
//! let token = AccessToken::new("eyJ...")?;
//!
//! let transport = bowline_mcp::transport(client.clone(), "https://mcp.example.com/mcp", token);
//! let agent = ().serve(transport).await?;
//! let tools = agent.list_all_tools().await?;
//! println!("{} tools for {} signature(s)", tools.len(), client.stats().totals.signatures());
//! # Ok(()) }
//! ```
//!
//! Custom headers, limits and retries are set in rmcp's configuration:
//!
//! ```no_run
//! # fn example(client: bowline_http_client::Client, token: bowline_http_client::AccessToken) {
//! use bowline_mcp::{RequestBoundCalls, StreamableHttp};
//! use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
//!
//! let config = StreamableHttpClientTransportConfig::with_uri("https://mcp.example.com/mcp")
//!     .max_json_response_size(1024 * 1024);
//! let transport = StreamableHttp::new(client).token(token).transport_with(config);
//! # let _ = transport; }
//! ```
//!
//! The token may come from a [`TokenSource`], which replaces it in
//! time, and chosen calls may have a proof of their own:
//!
//! ```no_run
//! # fn example(client: bowline_http_client::Client, source: bowline_token::OAuth) {
//! use bowline_mcp::{RequestBoundCalls, StreamableHttp};
//!
//! let transport = StreamableHttp::new(client)
//!     .source(source)
//!     .request_bound_calls(
//!         RequestBoundCalls::none().for_target("tools/call", "transfer").for_destructive(),
//!     )
//!     .transport("https://mcp.example.com/mcp");
//! # let _ = transport; }
//! ```
//!
//! rmcp's own authorization manager and its `AuthClient` work as well: wrap a [`StreamableHttp`]
//! without a token. The feature `auth` adds `OAuthHttp`, with which the authorization server sees
//! the client's certificate.
//!
//! The feature `legacy-sse`, on by default, has `LegacySse`: the HTTP+SSE transport of MCP revision
//! 2024-11-05.
//!
//! Requests are counted under their MCP method: see [`operation`]. Requirement ids such as `CL-6`
//! refer to the project's wire profile.

mod error;
#[cfg(feature = "legacy-sse")]
mod legacy_sse;
#[cfg(feature = "auth")]
mod oauth;
pub mod operation;
mod redact;
mod request_bound;
mod streamable_http;

pub use bowline_http_client::{
    AccessToken, Client, Error as ClientError, ErrorKind as ClientErrorKind, Fault, Operation,
    Protocol,
};
pub use bowline_token::{Error as TokenError, ErrorKind as TokenErrorKind, TokenSource};
pub use bowline_transport::{Call, RequestBoundCalls};
pub use error::{Error, ErrorKind, may_have_been_processed};
#[cfg(feature = "legacy-sse")]
pub use legacy_sse::{CONNECTION_CLOSED, LegacySse, LegacySseWorker};
#[cfg(feature = "auth")]
pub use oauth::OAuthHttp;
pub use streamable_http::{StreamableHttp, transport};
