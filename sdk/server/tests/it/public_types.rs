//! Every type of this project that a public signature of the crate shows can be named through the
//! crate alone: its users need no other one in their `Cargo.toml`. A type that is missing here does
//! not compile.

use bowline_server::{
    AcceptError, AcceptErrorKind, AcceptPolicy, Acceptor, AccessToken, BindingClass, Check,
    CheckRow, ClientAuth, ClientCertificate, Clock, CloseReason, Confirmation, ConfirmationError,
    Connection, ConnectionFacts, ConnectionId, ConnectionLimits, Demand, Dpop, DpopCheck,
    DpopNonces, EndingConnection, EndpointError, ExpectedClaims, ExporterError, ExporterValue,
    Identity, Insertion, IntrospectionEndpoint, IntrospectionValidator,
    IntrospectionValidatorBuilder, InvalidAccessToken, InvalidJwkThumbprint, InvalidNodeSecrets,
    InvalidResource, InvalidRoute, InvalidScope, InvalidTarget, InvalidThumbprint, JwkThumbprint,
    Jwks, JwksError, JwksUrl, JwtValidator, JwtValidatorBuilder, Limit, Lingering, Listener,
    MemoryReplayStore, MetadataService, NodeSecrets, Origin, OwnerClass, PeerFacts, ProofId,
    ProofOwner, ProxyName, ReplayStore, Requester, RequireRequestBound, RequiredScope,
    ResourceMetadata, Routes, Scheme, Scope, ServeOptions, ServerEvent, ServerObserver, ServerTls,
    ServerTlsBuilder, Thumbprint, TlsError, TlsErrorKind, TokenError, TokenErrorKind, TokenHash,
    Trust, TrustedProxies, UpstreamValidates, ValidToken, VerifiedBinding, Windows,
};

/// Compiles if the type can be named.
fn named<T: ?Sized>() {}

#[test]
fn each_type_in_a_signature_is_exported() {
    // Tokens: `ValidToken`, `TokenValidator`.
    named::<AccessToken>();
    named::<Confirmation>();
    named::<ConfirmationError>();
    named::<Demand>();
    named::<InvalidAccessToken>();
    named::<Scheme>();
    named::<TokenError>();
    named::<TokenErrorKind>();
    named::<TokenHash>();
    named::<ValidToken>();
    // What a token is bound to: `VerifiedBinding`, `TrustedProxies`.
    named::<BindingClass>();
    named::<ClientCertificate>();
    named::<InvalidJwkThumbprint>();
    named::<InvalidThumbprint>();
    named::<JwkThumbprint>();
    named::<ProxyName>();
    named::<Requester>();
    named::<Thumbprint>();
    named::<TrustedProxies>();
    named::<VerifiedBinding>();
    // The layer's settings.
    named::<AcceptPolicy>();
    named::<Dpop>();
    named::<DpopNonces>();
    named::<InvalidRoute>();
    named::<InvalidTarget>();
    named::<MemoryReplayStore>();
    named::<Origin>();
    named::<RequireRequestBound>();
    named::<Routes>();
    named::<Windows>();
    // Events: which check refused.
    named::<Check>();
    named::<CheckRow>();
    named::<CloseReason>();
    named::<DpopCheck>();
    named::<Limit>();
    named::<OwnerClass>();
    named::<ServerEvent>();
    named::<dyn ServerObserver>();
    // Connections.
    named::<AcceptError>();
    named::<AcceptErrorKind>();
    named::<Acceptor>();
    named::<Connection>();
    named::<ConnectionFacts>();
    named::<ConnectionId>();
    named::<ConnectionLimits>();
    named::<ExporterError>();
    named::<ExporterValue>();
    named::<Listener>();
    named::<Lingering<()>>();
    named::<ServeOptions>();
    // TLS.
    named::<ClientAuth>();
    named::<Identity>();
    named::<ServerTls>();
    named::<ServerTlsBuilder>();
    named::<TlsError>();
    named::<TlsErrorKind>();
    named::<Trust>();
    // Validators, metadata, scopes.
    named::<Clock>();
    named::<EndpointError>();
    named::<ExpectedClaims>();
    named::<IntrospectionEndpoint>();
    named::<IntrospectionValidator>();
    named::<IntrospectionValidatorBuilder>();
    named::<InvalidResource>();
    named::<InvalidScope>();
    named::<Jwks>();
    named::<JwksError>();
    named::<JwksUrl>();
    named::<JwtValidator>();
    named::<JwtValidatorBuilder>();
    named::<MetadataService>();
    named::<RequiredScope>();
    named::<ResourceMetadata>();
    named::<Scope>();
    named::<UpstreamValidates>();
    // The memory of used DPoP proofs.
    named::<Insertion>();
    named::<InvalidNodeSecrets>();
    named::<NodeSecrets>();
    named::<ProofId>();
    named::<ProofOwner>();
    named::<dyn ReplayStore>();
    // `axum::serve`.
    named::<EndingConnection>();
    named::<PeerFacts>();
}

#[cfg(feature = "redis")]
#[test]
fn each_type_in_a_signature_of_the_store_in_redis_is_exported() {
    named::<bowline_server::RedisError>();
    named::<bowline_server::RedisErrorKind>();
    named::<bowline_server::RedisReplayStore>();
    named::<bowline_server::RedisReplayStoreBuilder>();
    named::<bowline_server::RedisServer>();
}
