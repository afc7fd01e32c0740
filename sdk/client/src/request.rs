//! What a caller can put into a request's extensions.
//!
//! | extension | effect | default |
//! |---|---|---|
//! | [`AccessToken`] | the request carries this access token, read and hashed once | the one in `Authorization`, if any |
//! | [`Operation`] | the request is counted under this name | [`Operation::OTHER`] |
//! | [`TokenSourceId`] | a successor token is distinguished from a new one in the causes of proofs | every token counts as new |
//! | [`WithCertificate`] | the connection is authenticated with this certificate | the one in the token's `cnf.x5t#S256`, else the current one |
//! | [`ProofRequired`] | the access token goes with a session-binding proof | as the token and [`BindingPolicy`](crate::BindingPolicy) demand |
//! | [`RequestBoundProof`] | the proof is for this request alone | as [`ProofScope`](crate::ProofScope) says |
//! | [`DpopProofRequired`] | a request to a token endpoint carries a DPoP proof | none without an access token |
//! | [`Repeatable`] | the request may be sent again although it may have been processed | only if its method is idempotent |
//! | [`NoRetryOn401`] | the request is not sent again when it is answered 401 | once more, with a newer proof (CL-5) |
//! | [`Http2Only`] | the request fails on a connection that is not HTTP/2 | any version |

use bowline_proof::Thumbprint;

pub use bowline_proof::AccessToken;

pub use crate::observe::Operation;

/// In a request's extensions: its proof is to carry `htm`, `htu` and `jti` (PR-6), whatever the
/// client's [`ProofScope`](crate::ProofScope) says. For what must not be replayed even on the same
/// connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestBoundProof;

/// In a request's extensions: its access token goes with a session-binding proof from the first
/// request on, as under [`BindingPolicy::Require`](crate::BindingPolicy::Require), whatever the
/// token itself shows. For an opaque token whose need is known from elsewhere, such as an agent
/// card: without it the first request is refused with `use_session_binding` and sent again.
///
/// It adds to what a token demands and takes nothing away: a token that is bound to a DPoP key goes
/// with a DPoP proof. It has no effect on a request without a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProofRequired;

/// In a request's extensions: it may be sent again once although it may have been processed (CL-7).
/// Requests with an idempotent method (RFC 9110 §9.2.2) may be without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeatable;

/// In a request's extensions: whatever a 401 says, the request is not sent again on the client's own
/// account, and the caller gets the 401.
///
/// By default a request of any method that is refused with `use_session_binding`, `invalid_proof`
/// or `use_dpop_nonce`, in a challenge of the scheme that its token went with, is sent once more
/// with a newer proof (CL-5): a resource that refuses a request like this has not acted on it.
/// bowline-token does the same with another token after `invalid_token`. A gateway that acts and
/// then passes on the 401 of a server behind it breaks that promise. The client learns from the 401
/// all the same: a next request that the caller makes carries the newer proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRetryOn401;

/// In a request's extensions: it is sent over HTTP/2 or not at all, for what HTTP/1.1 cannot carry,
/// such as gRPC. On a connection of another version it fails with
/// [`ErrorKind::HttpVersion`](crate::ErrorKind::HttpVersion) before anything of it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2Only;

/// In a request's extensions: the certificate that it is to be authenticated with, current or not
/// (CL-8). For an opaque token, whose source alone knows what it is bound to, and for a request
/// that asks for a token with the next certificate. A token's own `cnf.x5t#S256` comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WithCertificate(pub Thumbprint);

/// In the extensions of a request to a token endpoint: it carries a proof by the client's DPoP key,
/// though it has no access token, and the token that is issued will be bound to that key (RFC 9449
/// §5).
///
/// A first answer 400 that brings a nonce (§8) makes the request go out once more with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DpopProofRequired;

/// Where a token came from: put it into a request's extensions, so that a successor token is
/// distinguished from a new one in the causes of proofs. Any number that stays the same across a
/// source's tokens will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokenSourceId(pub u64);
