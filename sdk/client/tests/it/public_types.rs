//! Every type of this project that a public signature of the crate shows can be named through the
//! crate alone: its users need no other one in their `Cargo.toml`. A type that is missing here does
//! not compile.

use bowline_http_client::{
    AccessToken, Algorithm, BindingError, BindingPolicy, BindingUsed, Body, BodyReadError, Builder,
    Cause, Challenge, Client, CloseReason, Confirmation, ConfirmationError, ConnectionFacts,
    ConnectionId, ConnectionUse, Demand, DpopKey, Error, ErrorKind, Event, ExporterError,
    ExporterValue, Fault, HttpVersion, HttpVersions, Identity, InvalidAccessToken,
    InvalidJwkThumbprint, InvalidTarget, InvalidThumbprint, JwkThumbprint, KeyError, KeyErrorKind,
    Limits, MintError, MintErrorKind, Observer, Operation, Origin, Outcome, Presented, ProofKind,
    ProofScope, Protocol, Proxies, Row, Scheme, Snapshot, Step, Thumbprint, Timeouts, TlsFacts,
    TlsVersion, TokenHash, Trust, bind, dpop, request,
};

/// Compiles if the type can be named.
fn named<T: ?Sized>() {}

#[test]
fn each_type_in_a_signature_is_exported() {
    // Of requests, responses and errors.
    named::<Body>();
    named::<BodyReadError>();
    named::<Client>();
    named::<Builder>();
    named::<Error>();
    named::<ErrorKind>();
    named::<Fault>();
    named::<Step>();
    named::<InvalidTarget>();
    named::<Origin>();
    // Settings.
    named::<BindingPolicy>();
    named::<HttpVersions>();
    named::<Identity>();
    named::<Limits>();
    named::<ProofScope>();
    named::<Proxies>();
    named::<Timeouts>();
    named::<Trust>();
    // Tokens and what they are bound to: `AccessToken`'s methods.
    named::<AccessToken>();
    named::<Confirmation>();
    named::<ConfirmationError>();
    named::<Demand>();
    named::<InvalidAccessToken>();
    named::<InvalidThumbprint>();
    named::<Scheme>();
    named::<Thumbprint>();
    named::<TokenHash>();
    // A refusal.
    named::<BindingError>();
    named::<Challenge>();
    named::<bind::BindingRefusal>();
    // DPoP: `DpopKey`'s methods.
    named::<Algorithm>();
    named::<DpopKey>();
    named::<InvalidJwkThumbprint>();
    named::<JwkThumbprint>();
    named::<KeyError>();
    named::<KeyErrorKind>();
    named::<MintError>();
    named::<MintErrorKind>();
    named::<dpop::Claims<'_>>();
    named::<dpop::InvalidNonce>();
    named::<dpop::Nonce>();
    named::<dpop::Proof>();
    named::<dpop::RequestClaims>();
    // Connections: `TlsFacts::exporter`.
    named::<ConnectionFacts>();
    named::<ConnectionId>();
    named::<ExporterError>();
    named::<ExporterValue>();
    named::<HttpVersion>();
    named::<Presented>();
    named::<TlsFacts>();
    named::<TlsVersion>();
    // Observation.
    named::<BindingUsed>();
    named::<Cause>();
    named::<CloseReason>();
    named::<ConnectionUse>();
    named::<Event<'_>>();
    named::<dyn Observer>();
    named::<Operation>();
    named::<Outcome>();
    named::<ProofKind>();
    named::<Protocol>();
    named::<Row>();
    named::<Snapshot>();
    // What goes into the extensions of a request.
    named::<request::AccessToken>();
    named::<request::DpopProofRequired>();
    named::<request::Http2Only>();
    named::<request::Operation>();
    named::<request::ProofRequired>();
    named::<request::Repeatable>();
    named::<request::RequestBoundProof>();
    named::<request::TokenSourceId>();
    named::<request::WithCertificate>();
    // The extension point.
    named::<bind::Answered<'_>>();
    named::<bind::Attachment>();
    named::<dyn bind::Bind>();
    named::<dyn bind::BindConnection>();
    named::<bind::Bound>();
    named::<bind::Learned>();
    named::<bind::RequestFacts<'_>>();
    named::<bind::ResponseHead<'_>>();
    named::<bind::TokenSourceId>();
}
