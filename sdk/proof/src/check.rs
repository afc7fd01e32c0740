//! The checks of a resource server, and what a refusal by each looks like (RS-1..RS-13).

use std::fmt;

use http::StatusCode;

/// A check that a request can fail. Its [`id`](Self::id) cites the requirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Check {
    /// There is no access token at all: the answer is a bare challenge (RS-10).
    NoToken,
    /// The client certificate was verified in the handshake and is still valid (RS-1).
    Certificate,
    /// The access token is valid (RS-2).
    Token,
    /// `cnf.x5t#S256` is this connection's certificate (RS-3).
    TokenCertificate,
    /// A proof is there when the token asks for one (RS-4).
    ProofMissing,
    /// There is one proof, not several (RS-4).
    ProofDuplicated,
    /// The proof is a compact JWS of JSON objects with the claims of PR-5, each of its type (RS-5,
    /// PR-9).
    ProofSyntax,
    /// `typ` (RS-5).
    ProofType,
    /// `alg` fits the certificate's key (RS-5, PR-2).
    ProofAlgorithm,
    /// `x5t#S256` in the proof's header is this connection's certificate (RS-5).
    ProofThumbprint,
    /// The proof is signed by the certificate's key (RS-5).
    ProofSignature,
    /// `ekm` is this connection's exporter value (RS-6).
    Exporter,
    /// `ath` is the hash of the presented token (RS-7).
    TokenHash,
    /// `iat` lies within its window (RS-8).
    IssuedAt,
    /// `htm` is the request's method (RS-9).
    Method,
    /// `htu` is the request's target (RS-9).
    TargetUri,
    /// `jti` has not been seen on this connection (RS-9).
    Replay,
    /// This connection may remember another `jti` (RS-9).
    ReplayQuota,
    /// `jti`, `htm` and `htu` are there when the policy demands them (RS-12).
    RequestClaimsRequired,
    /// The token is session-bound when the policy demands it (RS-13).
    BindingRequired,
    /// The token travels in `Authorization` and nowhere else (TK-0).
    TokenTransport,
    /// `cnf` can be read and satisfied (TK-0..TK-2).
    Confirmation,
    /// The token's scope suffices.
    Scope,
}

impl Check {
    /// The requirement that the check enforces, for example `RS-6`.
    pub fn id(self) -> &'static str {
        self.row().0
    }

    /// A short name in snake case, for metric labels.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The `error` of the challenge (RS-10); `None` for a bare one.
    pub fn error(self) -> Option<&'static str> {
        self.row().2
    }

    /// The `error_description` of the challenge: fixed text that names the check and never a value
    /// (RS-10).
    pub fn description(self) -> &'static str {
        self.row().3
    }

    /// The status of the response (RS-10).
    pub fn status(self) -> StatusCode {
        match self {
            Self::Scope => StatusCode::FORBIDDEN,
            _ => StatusCode::UNAUTHORIZED,
        }
    }

    /// Id, name, error, description. The descriptions keep to RFC 6750 §3's characters.
    #[rustfmt::skip]
    fn row(self) -> (&'static str, &'static str, Option<&'static str>, &'static str) {
        let token = Some("invalid_token");
        let proof = Some("invalid_proof");
        match self {
            Self::NoToken => ("RS-10", "no_token", None, "no access token in the request"),
            Self::Certificate => ("RS-1", "certificate", token, "the client certificate is absent, expired or not trusted"),
            Self::Token => ("RS-2", "token", token, "the access token is not valid here"),
            Self::TokenCertificate => ("RS-3", "token_certificate", token, "the access token is bound to another client certificate"),
            Self::ProofMissing => ("RS-4", "proof_missing", Some("use_session_binding"), "the access token requires a session-binding proof"),
            Self::ProofDuplicated => ("RS-4", "proof_duplicated", proof, "more than one session-binding proof"),
            Self::ProofSyntax => ("RS-5", "proof_syntax", proof, "the proof is malformed"),
            Self::ProofType => ("RS-5", "proof_type", proof, "the typ of the proof is not tls-binding-proof+jwt"),
            Self::ProofAlgorithm => ("RS-5", "proof_algorithm", proof, "the alg of the proof does not fit the key of the client certificate"),
            Self::ProofThumbprint => ("RS-5", "proof_thumbprint", proof, "the x5t#S256 of the proof is not the client certificate of this connection"),
            Self::ProofSignature => ("RS-5", "proof_signature", proof, "the signature of the proof is not by the key of the client certificate"),
            Self::Exporter => ("RS-6", "exporter", proof, "the ekm of the proof is not that of this TLS connection"),
            Self::TokenHash => ("RS-7", "token_hash", proof, "the ath of the proof is not that of the access token"),
            Self::IssuedAt => ("RS-8", "issued_at", proof, "the iat of the proof is out of its window"),
            Self::Method => ("RS-9", "method", proof, "the htm of the proof is not the method of the request"),
            Self::TargetUri => ("RS-9", "target_uri", proof, "the htu of the proof is not the target of the request"),
            Self::Replay => ("RS-9", "replay", proof, "the jti of the proof was seen before on this connection"),
            Self::ReplayQuota => ("RS-9", "replay_quota", proof, "too many proofs with jti on this connection; open another"),
            Self::RequestClaimsRequired => ("RS-12", "request_claims_required", proof, "a proof with jti, htm and htu is required here"),
            Self::BindingRequired => ("RS-13", "binding_required", token, "a session-bound access token is required here"),
            Self::TokenTransport => ("TK-0", "token_transport", token, "the access token must be in the Authorization header and nowhere else"),
            Self::Confirmation => ("TK-2", "confirmation", token, "the cnf of the access token is malformed or cannot be satisfied"),
            Self::Scope => ("RS-10", "scope", Some("insufficient_scope"), "the scope of the access token does not suffice"),
        }
    }
}

/// A request was refused: by which check, and sometimes why in more detail.
///
/// It carries fixed text only, nothing of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Refusal {
    check: Check,
    detail: Option<&'static str>,
}

impl Refusal {
    /// A refusal by `check`, with a description of its own in place of the check's.
    ///
    /// `detail` may be sent to the client: keep to printable ASCII without `"` and `\` (RFC 6750
    /// §3).
    pub fn with_detail(check: Check, detail: &'static str) -> Self {
        Self {
            check,
            detail: Some(detail),
        }
    }

    /// The check that refused.
    pub fn check(&self) -> Check {
        self.check
    }

    /// What to tell the client: the detail where there is one, or else the check's description.
    pub fn description(&self) -> &'static str {
        self.detail.unwrap_or(self.check.description())
    }
}

impl From<Check> for Refusal {
    fn from(check: Check) -> Self {
        Self {
            check,
            detail: None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.check.id(), self.description())
    }
}

impl std::error::Error for Refusal {}
