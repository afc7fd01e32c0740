//! reqwest's requests over bowline's connection-aware client.
//!
//! reqwest chooses a connection when the headers are complete, so nothing above it can write a
//! proof that belongs to the connection. [`Transport`] takes reqwest's requests, gives reqwest's
//! responses, and does everything between with a [`bowline_client::Client`]: the session-binding
//! proof is made below it, once per connection. It has three faces: [`Transport::execute`], a
//! [`tower_service::Service`] and a [`reqwest_middleware::Middleware`].
//!
//! # In place of `send`
//!
//! reqwest's builder makes the request, and no longer sends it:
//!
//! ```no_run
//! # async fn example(token: &str) -> Result<(), Box<dyn std::error::Error>> {
//! use bowline_client::{Client, Identity, Trust};
//! use bowline_reqwest::Transport;
//!
//! let agent = Client::builder()
//!     .identity(Identity::from_pem_files("agent.pem", "agent-key.pem")?)
//!     .trust(Trust::pem_file("ca.pem")?)
//!     .build()?;
//! let transport = Transport::new(agent);
//! let http = reqwest::Client::new();
//!
//! // before: let response = http.get("https://api.example.com/things").bearer_auth(token).send().await?;
//! let request = http.get("https://api.example.com/things").bearer_auth(token).build()?;
//! let response = transport.execute(request).await?;
//!
//! let things: Vec<String> = response.error_for_status()?.json().await?;
//! # Ok(()) }
//! ```
//!
//! # As a middleware
//!
//! One line more where the client is built, and no other change:
//!
//! ```no_run
//! # async fn example(agent: bowline_client::Client, token: &str) -> Result<(), Box<dyn std::error::Error>> {
//! use bowline_reqwest::Transport;
//! use reqwest_middleware::ClientBuilder;
//!
//! let http = ClientBuilder::new(reqwest::Client::new())
//!     // .with(tracing).with(retries): whatever there was
//!     .with(Transport::new(agent)) // new, and last
//!     .build();
//! let response = http.get("https://api.example.com/things").bearer_auth(token).send().await?;
//! # Ok(()) }
//! ```
//!
//! It must be the last: it never calls `next`, so no middleware after it runs. Middlewares before
//! it see what they would see above reqwest. One that sends again gets a proof that fits the
//! connection of that sending, because the proof is made below it (CL-2); it should ask
//! [`Error::may_have_been_processed`] first, and see [Errors](#errors) for what `reqwest-retry`
//! makes of them.
//!
//! `ClientWithMiddleware::as_ref` still gives the inner `reqwest::Client` out: what is sent with
//! *that* has no proof.
//!
//! # What is bypassed
//!
//! With either face a `reqwest::Client` does no more than build requests. What it adds while it
//! *builds* one stays: URL, query, headers set on the request, `bearer_auth`, JSON, form and
//! multipart bodies, the request's own time-out, and `RequestInitialiser`s of reqwest-middleware.
//! What it adds or does when it *sends* one is gone:
//!
//! | `reqwest::ClientBuilder` | here |
//! |---|---|
//! | `default_headers`, `user_agent`, and the `Accept: */*` that it always sends | not sent: reqwest adds them while it sends. Set them on the request, or with `with_init` of reqwest-middleware: `.with_init(\|r: RequestBuilder\| r.header("user-agent", "agent/1"))` |
//! | certificates, CRLs, `identity`, TLS versions, SNI, early data, `danger_…`, `tls_info` | the bowline client's [`Trust`](bowline_client::Trust) and [`Identity`](bowline_client::Identity) |
//! | `pool_…`, `http1_…`, `http2_…`, `http3_…`, `tcp_…`, `local_address`, `interface`, `unix_socket`, `connector_layer`, `connection_verbose` | the bowline client's [`Limits`](bowline_client::Limits) and [`HttpVersions`](bowline_client::HttpVersions) |
//! | `proxy`, `no_proxy`, system proxies | the bowline client's [`Proxies`](bowline_client::Proxies) |
//! | `resolve`, `dns_resolver`, `hickory_dns` | the system's resolver |
//! | `redirect`, `referer` | no redirect is followed (CL-6): the caller gets the 3xx response |
//! | `cookie_store`, `cookie_provider` | no cookie is kept or sent; `Response::cookies` reads what came |
//! | `gzip`, `brotli`, `zstd`, `deflate` | nothing is asked for and nothing is unpacked |
//! | `timeout`, `read_timeout`, `connect_timeout` | [`Timeouts`](bowline_client::Timeouts) of the bowline client, and the request's own time-out |
//! | `retry`, and the sending again after a protocol-level refusal | what the bowline client sends again by itself (CL-5, CL-7) |
//! | `https_only` | always, save plaintext on loopback where the bowline client allows it |
//!
//! Of a *request*, the HTTP version is not obeyed: ALPN decides, and the response's version says
//! what came of it. Of a *response*, `remote_addr` is `None` and `upgrade` fails.
//!
//! # Time-outs
//!
//! A request's own time-out (`RequestBuilder::timeout`) means what reqwest documents: it runs from
//! when the request begins until the response's body has ended. If it strikes before the head, the
//! request fails with [`ErrorKind::Timeout`]; if it strikes later, reading the body fails with a
//! `reqwest::Error` whose `is_timeout` is true.
//!
//! # Extensions
//!
//! A request's extensions reach the bowline client, and a response's the caller. An
//! [`AccessToken`](bowline_client::AccessToken), an [`Operation`](bowline_client::Operation) and
//! whatever else [`Client::send`](bowline_client::Client::send) looks for go in by
//! `.with_extension(..)` of reqwest-middleware, or by making the `reqwest::Request` from an
//! [`http::Request`]. After a final refusal a [`Refusal`](bowline_client::bind::Refusal) comes out
//! by `Response::extensions`. Where both the request and the middleware stack have a value of one
//! type, the stack's counts.
//!
//! # Errors
//!
//! Nobody but reqwest can make a `reqwest::Error` that says what it means, so requests fail with an
//! [`Error`] of this crate, which keeps bowline's own. It comes through other people's types and is
//! found again by [`Error::find`]:
//!
//! ```no_run
//! # async fn example(http: reqwest_middleware::ClientWithMiddleware) {
//! if let Err(error) = http.get("https://api.example.com/things").send().await {
//!     match bowline_reqwest::Error::find(&error) {
//!         Some(e) if e.is_worth_another_try() => println!("not processed, send it again: {e}"),
//!         Some(e) if e.may_have_been_processed() => println!("look before you send it again: {e}"),
//!         _ => println!("{error}"),
//!     }
//! }
//! # }
//! ```
//!
//! - From [`Transport::execute`] and the tower service, it is the error.
//! - From a middleware stack, it is inside `reqwest_middleware::Error::Middleware`. That variant
//!   answers `false` to `is_timeout`, `is_connect` and the like, whatever is inside, and the
//!   default strategy of `reqwest-retry` takes it for fatal: it sends again after some responses
//!   (5xx, 408, 429) and never after an error. Give it a strategy that asks
//!   [`Error::is_worth_another_try`].
//! - From reading a response's body, it is among the sources of the `reqwest::Error`.
//!
//! Requirement ids such as `CL-6` refer to the project's wire profile.

mod body;
mod error;
mod transport;

pub use error::{Error, ErrorKind};
pub use transport::Transport;
