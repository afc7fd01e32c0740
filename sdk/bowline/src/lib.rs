//! OAuth access tokens bound to the TLS connection that they travel on.
//!
//! A session-bound token (`draft-mw-oauth-tls-session-bound-tokens`) is of no use on any other
//! connection, even together with its proof. The client of this crate chooses the connection first,
//! signs once per token and connection, keeps connections so that it seldom must sign again, and
//! counts why it had to.
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `client` | yes | [`Client`] and what it takes, at the root; [`request`], [`bind`], [`client`] |
//! | `token` | yes | [`token`]: access tokens from a file, from OAuth over mutual TLS, by RFC 8693, by a refresh token |
//! | `server` | no | `server`: the verifier as tower middleware, and the listener it needs |
//! | `mcp` | no | `mcp`: rmcp transports |
//! | `a2a` | no | `a2a`: transports of the official A2A client |
//! | `reqwest` | no | `reqwest`: reqwest's requests and middlewares over [`Client`] |
//! | `metrics` | no | feeds the `metrics` facade, at both ends |
//! | `redis` | no | `server::RedisReplayStore`: a store of used proofs for servers of several nodes |
//! | `full` | no | all of them |
//!
//! Nothing else lives in this crate: each item is documented where it is defined.
//!
//! # `client`
//!
//! ```no_run
//! # #[cfg(feature = "client")]
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use bowline::{Client, Identity, Trust};
//!
//! let client = Client::builder()
//!     .identity(Identity::from_pem_files("agent.pem", "agent-key.pem")?)
//!     .trust(Trust::from_pem_file("ca.pem")?)
//!     .build()?;
//! let request = http::Request::get("https://api.example.com/things")
//!     .header("authorization", "Bearer eyJ...")
//!     .body(String::new())?;
//! let response = client.send(request).await?;
//! println!("{} after {} signature(s)", response.status(), client.stats().totals.signatures());
//! # Ok(()) }
//! ```
//!
//! # `token`
//!
//! The client gets its own tokens, from the authorization server that the resource names:
//!
//! ```no_run
//! # #[cfg(feature = "token")]
//! # async fn example(client: bowline::Client) -> Result<(), Box<dyn std::error::Error>> {
//! use bowline::token::{
//!     AuthorizationServer, Authorized, ClientAuthentication, OAuth, RequiredBinding,
//! };
//!
//! let server = AuthorizationServer::for_resource("https://api.example.com")
//!     .only(["https://as.example.com"]);
//! let source = OAuth::builder(client.clone(), server, ClientAuthentication::tls("agent"))
//!     .bound(RequiredBinding::Session)
//!     .build()?;
//! let agent = Authorized::new(client, source, "https://api.example.com")?;
//! let request = http::Request::get("https://api.example.com/things").body(String::new())?;
//! println!("{}", agent.send(request).await?.status());
//! # Ok(()) }
//! ```
//!
//! # `server`
//!
//! ```no_run
//! # #[cfg(feature = "server")]
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use bowline::server::{
//!     AcceptPolicy, Acceptor, BindingLayer, ClientAuth, ExpectedClaims, Identity, JwksUrl,
//!     JwtValidator, Listener, ServeOptions, ServerTls, Trust, serve,
//! };
//!
//! let identity = Identity::from_pem_files("server.pem", "server-key.pem")?;
//! let clients = ClientAuth::Required(Trust::from_pem_file("agents-ca.pem")?);
//! let tls = ServerTls::builder(identity, clients).build()?;
//! let listener = Listener::bind("0.0.0.0:8443", Acceptor::new(tls)).await?;
//!
//! let keys = JwksUrl::new("https://as.example.com/jwks")?;
//! let claims = ExpectedClaims::new("https://api.example.com").issuer("https://as.example.com");
//! let binding = BindingLayer::new(JwtValidator::builder(claims, keys).build())
//!     .origins(["https://api.example.com".parse()?])
//!     .policy(AcceptPolicy::RequireSession);
//! let app = axum::Router::new()
//!     .route("/", axum::routing::get(async || "hello"))
//!     .layer(binding);
//! serve(listener, app, ServeOptions::default(), std::future::pending()).await;
//! # Ok(()) }
//! ```
//!
//! # `mcp`
//!
//! ```no_run
//! # #[cfg(feature = "mcp")]
//! # async fn example(
//! #     client: bowline::Client,
//! #     source: bowline::token::OAuth,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! use bowline::mcp::{RequestBoundCalls, StreamableHttp};
//! use rmcp::ServiceExt;
//!
//! let transport = StreamableHttp::new(client)
//!     .source(source)
//!     .request_bound_calls(RequestBoundCalls::none().for_destructive())
//!     .transport("https://mcp.example.com/mcp");
//! let agent = ().serve(transport).await?;
//! println!("{} tools", agent.list_all_tools().await?.len());
//! # Ok(()) }
//! ```
//!
//! # `a2a`
//!
//! ```no_run
//! # #[cfg(feature = "a2a")]
//! # async fn example(
//! #     client: bowline::Client,
//! #     source: bowline::token::OAuth,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! use bowline::a2a::{Transports, card::Cards};
//!
//! let url = "https://agent.example.com";
//! let card = Cards::new(client.clone()).resolve(url).await?;
//! let transports = Transports::new(client, url)?.source(source);
//! let agent = transports.factory().create_from_card(card.card()).await?;
//! # let _ = agent;
//! # Ok(()) }
//! ```
//!
//! # `reqwest`
//!
//! ```no_run
//! # #[cfg(feature = "reqwest")]
//! # async fn example(agent: bowline::token::Authorized) -> Result<(), Box<dyn std::error::Error>> {
//! use bowline::reqwest::Transport;
//!
//! let http = reqwest_middleware::ClientBuilder::new(reqwest::Client::new())
//!     .with(Transport::new(agent)) // the last: it sends
//!     .build();
//! println!("{}", http.get("https://api.example.com/things").send().await?.status());
//! # Ok(()) }
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "client")]
pub use bowline_http_client::{
    AccessToken, BindingPolicy, Body, Client, Error, ErrorKind, Identity, ProofScope,
    RequestBoundProof, Snapshot, Trust,
};

/// What makes a request depend on its connection: an extension point.
#[cfg(feature = "client")]
pub use bowline_http_client::bind;

/// What a caller may put into a request's extensions.
#[cfg(feature = "client")]
pub use bowline_http_client::request;

/// The whole client: what its settings and its facts are made of, too.
#[cfg(feature = "client")]
pub use bowline_http_client as client;

/// Where access tokens come from.
#[cfg(feature = "token")]
pub use bowline_token as token;

/// The verifier, and the listener that it needs.
#[cfg(feature = "server")]
pub use bowline_server as server;

/// rmcp transports.
#[cfg(feature = "mcp")]
pub use bowline_mcp as mcp;

/// Transports of the official A2A client.
#[cfg(feature = "a2a")]
pub use bowline_a2a as a2a;

/// reqwest's requests and middlewares over [`Client`].
#[cfg(feature = "reqwest")]
pub use bowline_reqwest as reqwest;

/// The recipes of the book, so that they compile.
#[cfg(all(doctest, feature = "full"))]
#[doc = include_str!("../../../docs/src/recipes.md")]
struct Recipes;
