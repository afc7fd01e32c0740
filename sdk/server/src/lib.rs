//! The resource server's end of TLS-session-bound access tokens: it terminates mutual TLS, keeps
//! the facts of each connection, and lets a request through only if its token is presented on the
//! connection that its proof was made for.
//!
//! | step | by |
//! |---|---|
//! | a TCP stream becomes a TLS stream and its [`ConnectionFacts`] | [`Acceptor`], many at a time in a [`Listener`] |
//! | each request gets the facts of its connection | [`serve`], or `axum::serve` with [`PeerFacts`] |
//! | the access token is valid (RS-2) | a [`TokenValidator`]: [`JwtValidator`], [`IntrospectionValidator`], or one of your own |
//! | token, certificate, proof and connection belong together (RS-1..RS-13) | [`BindingLayer`] |
//! | a DPoP-bound token comes with a proof that was not used before (RFC 9449) | [`BindingLayer::dpop`] |
//! | its scope suffices (RS-10) | [`RequiredScope`] |
//! | the handler can read what the request was bound to, and who sent it | [`VerifiedBinding`], a request extension |
//! | clients learn where tokens come from (RFC 9728) | [`ResourceMetadata`] |
//! | events are counted or logged | [`ServerObserver`], such as `metrics::MetricsObserver` |
//!
//! Ids such as `RS-6` cite the requirements of the project's wire profile.
//!
//! ```no_run
//! # async fn run(router: axum::Router) -> Result<(), Box<dyn std::error::Error>> {
//! use bowline_server::{
//!     AcceptPolicy, Acceptor, BindingLayer, ClientAuth, ExpectedClaims, JwksUrl, JwtValidator,
//!     Listener, ServeOptions, Identity, ServerTls, Trust, serve,
//! };
//!
//! let identity = Identity::from_pem_files("server.pem", "server.key")?;
//! let clients = ClientAuth::Required(Trust::from_pem_file("clients.pem")?);
//! let tls = ServerTls::builder(identity, clients).build()?;
//! let listener = Listener::bind("0.0.0.0:8443", Acceptor::new(tls)).await?;
//!
//! let keys = JwksUrl::new("https://authority.example.com/jwks")?;
//! let expected = ExpectedClaims::new("https://api.example.com")
//!     .issuer("https://authority.example.com");
//! let validator = JwtValidator::builder(expected, keys).build();
//! let binding = BindingLayer::new(validator)
//!     .origins(["https://api.example.com".parse()?])
//!     .policy(AcceptPolicy::RequireProof);
//!
//! let stop = async { tokio::signal::ctrl_c().await.expect("signals can be heard") };
//! serve(listener, router.layer(binding), ServeOptions::default(), stop).await;
//! # Ok(())
//! # }
//! ```
//!
//! What it does not do: it accepts no statement about a TLS connection that it did not terminate
//! itself, except from configured [`TrustedProxies`]; it reads no request body; and it checks no
//! revocation of certificates, unless a [`ClientAuth::Custom`] verifier does.

mod acceptor;
mod activity;
mod binding;
mod bounded;
mod certificate;
mod clock;
mod connection_id;
mod dpop;
mod endpoint;
mod event;
mod expected_claims;
mod expiry;
mod facts;
mod forward;
mod generation;
mod introspection;
mod jwt;
mod key_lines;
mod layer;
mod limit;
mod limit_reports;
mod linger;
mod listener;
mod metadata;
#[cfg(feature = "metrics")]
pub mod metrics;
mod observed;
mod owner;
mod proof_cache;
mod proxies;
mod requester;
mod requests;
mod reserved_fields;
mod scope;
mod serve;
mod shares;
mod tls;
mod token;
mod upstream;
mod used_jtis;
mod when_woken;

pub use self::acceptor::{AcceptError, AcceptErrorKind, Acceptor};
pub use self::binding::{BindingClass, VerifiedBinding};
pub use self::certificate::ClientCertificate;
pub use self::clock::Clock;
pub use self::connection_id::ConnectionId;
pub use self::dpop::{
    Dpop, DpopNonces, Insertion, InvalidNodeSecrets, MemoryReplayStore, NodeSecrets, ProofId,
    ProofOwner, ReplayStore, UsedProof,
};
#[cfg(feature = "redis")]
pub use self::dpop::{
    RedisError, RedisErrorKind, RedisReplayStore, RedisReplayStoreBuilder, RedisServer,
};
pub use self::endpoint::EndpointError;
pub use self::event::{CloseReason, ServerEvent, ServerObserver};
pub use self::expected_claims::ExpectedClaims;
pub use self::facts::ConnectionFacts;
pub use self::introspection::{
    IntrospectionEndpoint, IntrospectionValidator, IntrospectionValidatorBuilder,
};
pub use self::jwt::{Jwks, JwksError, JwksUrl, JwtValidator, JwtValidatorBuilder};
pub use self::layer::{
    AcceptPolicy, BindingLayer, BindingService, InvalidPolicy, InvalidRoute, Reloader,
    RequireRequestBound, Routes,
};
pub use self::limit::{ConnectionLimits, Limit};
pub use self::linger::Lingering;
pub use self::listener::{Connection, Listener};
#[cfg(feature = "axum")]
pub use self::listener::{EndingConnection, PeerFacts};
pub use self::metadata::{InvalidResource, MetadataService, ResourceMetadata};
pub use self::observed::{FailedCheck, Observed};
pub use self::owner::OwnerClass;
pub use self::proxies::{ProxyName, TrustedProxies};
pub use self::requester::Requester;
pub use self::reserved_fields::{
    is_same as is_same_field, override_method as overrides_method, strip as strip_reserved_fields,
};
pub use self::scope::{InvalidScope, RequiredScope, Scope};
pub use self::serve::{HttpService, ServeOptions, serve, serve_connection};
pub use self::tls::{
    ClientAuth, Identity, MAX_TICKET_LIFETIME, ServerTls, ServerTlsBuilder, TicketKeys, TlsError,
    TlsErrorKind, TlsReloader, Trust,
};
pub use self::token::{TokenError, TokenErrorKind, TokenValidator, ValidToken};
pub use self::upstream::UpstreamValidates;
pub use bowline_proof::dpop::{DpopCheck, InvalidJwkThumbprint, JwkThumbprint};
pub use bowline_proof::{
    AccessToken, Check, CheckRow, Confirmation, ConfirmationError, Demand, ExporterError,
    ExporterValue, InvalidAccessToken, InvalidTarget, InvalidThumbprint, Origin, Scheme,
    Thumbprint, TokenHash, Windows,
};
