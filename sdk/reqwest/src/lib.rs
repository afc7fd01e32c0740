//! reqwest's requests over bowline's connection-aware client.
//!
//! reqwest chooses a connection when the headers are complete, so nothing above it can write a
//! proof that belongs to the connection. [`Transport`] takes reqwest's requests, gives reqwest's
//! responses, and sends with a [`bowline_http_client::Client`], which makes one session-binding proof
//! per connection. There are three ways to call it: [`Transport::execute`], a
//! [`tower_service::Service`] and a [`reqwest_middleware::Middleware`].
//!
//! Upstream: <https://github.com/seanmonstar/reqwest/issues/1949>.
//!
//! # In place of `send`
//!
//! reqwest builds the request, and bowline sends it:
//!
//! ```no_run
//! # async fn example(token: &str) -> Result<(), Box<dyn std::error::Error>> {
//! use bowline_http_client::{Client, Identity, Trust};
//! use bowline_reqwest::Transport;
//!
//! let agent = Client::builder()
//!     .identity(Identity::from_pem_files("agent.pem", "agent-key.pem")?)
//!     .trust(Trust::from_pem_file("ca.pem")?)
//!     .build()?;
//! let transport = Transport::new(agent);
//! let http = reqwest::Client::new();
//!
//! // before: http.get("https://api.example.com/things").bearer_auth(token).send().await?;
//! let request = http.get("https://api.example.com/things").bearer_auth(token).build()?;
//! let response = transport.execute(request).await?;
//!
//! let things: Vec<String> = response.error_for_status()?.json().await?;
//! # Ok(()) }
//! ```
//!
//! # As a middleware
//!
//! One more line where the client is built, and no other change:
//!
//! ```no_run
//! # use bowline_http_client::Client;
//! # async fn example(agent: Client, token: &str) -> Result<(), Box<dyn std::error::Error>> {
//! use bowline_reqwest::Transport;
//! use reqwest_middleware::ClientBuilder;
//!
//! let http = ClientBuilder::new(reqwest::Client::new())
//!     // .with(tracing).with(retries): the middlewares that you have
//!     .with(Transport::new(agent)) // new, and last
//!     .build();
//! let response = http.get("https://api.example.com/things").bearer_auth(token).send().await?;
//! # Ok(()) }
//! ```
//!
//! [`Transport::new`] also takes an [`Authorized`], a client with a token source. Then the requests
//! need no `bearer_auth`: each carries a token of the source, which replaces it in time.
//!
//! ```no_run
//! # async fn example(agent: bowline_http_client::Client, source: bowline_token::OAuth)
//! # -> Result<(), Box<dyn std::error::Error>> {
//! use bowline_reqwest::{Authorized, Transport};
//!
//! let agent = Authorized::new(agent, source, "https://api.example.com")?;
//! let http = reqwest_middleware::ClientBuilder::new(reqwest::Client::new())
//!     .with(Transport::new(agent))
//!     .build();
//! let response = http.get("https://api.example.com/things").send().await?;
//! # Ok(()) }
//! ```
//!
//! It must be the last: it never calls `next`, so no middleware after it runs. Middlewares before
//! it see the same requests and responses as with reqwest. If one of them sends a request again,
//! that attempt gets a proof for its own connection, because the proof is made below it (CL-2). A
//! retry should check [`Error::may_have_been_processed`] first; see [Errors](#errors) for
//! `reqwest-retry`.
//!
//! `ClientWithMiddleware::as_ref` still returns the inner `reqwest::Client`. A request that is sent
//! with *that* has no proof.
//!
//! # What is bypassed
//!
//! In all three cases a `reqwest::Client` only builds requests. What it adds while it *builds* one
//! stays: URL, query, headers set on the request, `bearer_auth`, JSON, form and
//! multipart bodies, the request's own time-out, and `RequestInitialiser`s of reqwest-middleware.
//! What it would add or do while it *sends* one is missing:
//!
//! | `reqwest::ClientBuilder` | here |
//! |---|---|
//! | `default_headers`, `user_agent`, and the `Accept: */*` that it always sends | not sent: reqwest adds them while it sends. Set them on the request, or with `with_init` of reqwest-middleware: `.with_init(\|r: RequestBuilder\| r.header("user-agent", "agent/1"))` |
//! | certificates, CRLs, `identity`, TLS versions, SNI, early data, `danger_…`, `tls_info` | the bowline client's [`Trust`](bowline_http_client::Trust) and [`Identity`](bowline_http_client::Identity) |
//! | `pool_…`, `http1_…`, `http2_…`, `http3_…`, `tcp_…`, `local_address`, `interface`, `unix_socket`, `connector_layer`, `connection_verbose` | the bowline client's [`Limits`](bowline_http_client::Limits) and [`HttpVersions`](bowline_http_client::HttpVersions) |
//! | `proxy`, `no_proxy`, system proxies | the bowline client's [`Proxies`](bowline_http_client::Proxies) |
//! | `resolve`, `dns_resolver`, `hickory_dns` | the system's resolver |
//! | `redirect`, `referer` | no redirect is followed (CL-6): the caller gets the 3xx response |
//! | `cookie_store`, `cookie_provider` | no cookie is kept or sent; `Response::cookies` reads what the server sent |
//! | `gzip`, `brotli`, `zstd`, `deflate` | no compression is requested and nothing is decompressed |
//! | `timeout`, `read_timeout`, `connect_timeout` | [`Timeouts`](bowline_http_client::Timeouts) of the bowline client, and the request's own time-out |
//! | `retry`, and the retry after a protocol-level refusal | the bowline client's own retries (CL-5, CL-7) |
//! | `https_only` | always, except for plaintext on loopback if the bowline client allows it |
//!
//! The HTTP version of a *request* is ignored: ALPN decides, and the response shows the version in
//! use. `remote_addr` of a *response* is `None`, and `upgrade` fails.
//!
//! # Time-outs
//!
//! A request's own time-out (`RequestBuilder::timeout`) means what reqwest documents: it runs from
//! the start of the request until the response's body has ended. If it expires before the head, the
//! request fails with [`ErrorKind::Timeout`]; if it expires later, reading the body fails with a
//! `reqwest::Error` whose `is_timeout` is true.
//!
//! # Extensions
//!
//! A request's extensions reach the bowline client, and a response's extensions reach the caller.
//! Pass an [`AccessToken`](bowline_http_client::AccessToken), an
//! [`Operation`](bowline_http_client::Operation) and the other extensions of
//! [`Client::send`](bowline_http_client::Client::send) with `.with_extension(..)` of reqwest-middleware,
//! or make the `reqwest::Request` from an [`http::Request`]. After a final refusal
//! `Response::extensions` has a [`BindingRefusal`](bowline_http_client::bind::BindingRefusal). If both
//! the request and the middleware stack have a value of one type, the stack's value is used.
//!
//! # Errors
//!
//! Only reqwest can make a `reqwest::Error` with a meaning, so requests fail with an [`Error`] of
//! this crate, which holds bowline's own error, that of the client or of the token source. Other crates wrap it in their types;
//! [`Error::find`] finds it there:
//!
//! ```no_run
//! # async fn example(http: reqwest_middleware::ClientWithMiddleware) {
//! if let Err(error) = http.get("https://api.example.com/things").send().await {
//!     match bowline_reqwest::Error::find(&error) {
//!         Some(e) if e.is_worth_another_try() => println!("not processed, send it again: {e}"),
//!         Some(e) if e.may_have_been_processed() => println!("check before a retry: {e}"),
//!         _ => println!("{error}"),
//!     }
//! }
//! # }
//! ```
//!
//! - From [`Transport::execute`] and the tower service, it is the error.
//! - From a middleware stack, it is inside `reqwest_middleware::Error::Middleware`. That variant
//!   returns `false` from `is_timeout`, `is_connect` and the like, whatever is inside, and the
//!   default strategy of `reqwest-retry` treats it as fatal: it sends again after some responses
//!   (5xx, 408, 429) and never after an error. Give it a strategy that checks
//!   [`Error::is_worth_another_try`].
//! - From reading a response's body, it is among the sources of the `reqwest::Error`.
//!
//! Requirement ids such as `CL-6` refer to the project's wire profile.

mod body;
mod error;
mod transport;

pub use bowline_http_client::{Client, Error as ClientError, ErrorKind as ClientErrorKind, Fault};
pub use bowline_token::{Authorized, Error as TokenError, ErrorKind as TokenErrorKind};
pub use error::{Error, ErrorKind};
pub use transport::Transport;
