//! The checks of a resource server, and what a refusal by each looks like (RS-1..RS-13).

use http::StatusCode;

use crate::{challenge::BindingError, check_table::checks};

const TOKEN: Option<&str> = Some("invalid_token");
const PROOF: Option<&str> = Some(BindingError::InvalidProof.as_str());
const USE_BINDING: Option<&str> = Some(BindingError::UseSessionBinding.as_str());

checks! {
    /// A check that a request can fail. Its [`id`](Self::id) cites the requirement.
    Check

    /// There is no access token at all: the answer is a challenge without parameters (RS-10).
    NoToken => ("RS-10", "no_token", None, "no access token in the request"),

    /// The client certificate was verified in the handshake and is still valid (RS-1).
    Certificate => ("RS-1", "certificate", TOKEN,
        "the client certificate is absent, expired or not trusted"),

    /// The access token is valid (RS-2).
    Token => ("RS-2", "token", TOKEN, "the access token is not valid here"),

    /// `cnf.x5t#S256` is this connection's certificate (RS-3).
    TokenCertificate => ("RS-3", "token_certificate", TOKEN,
        "the access token is bound to another client certificate"),

    /// A proof is present if the token demands one (RS-4).
    ProofMissing => ("RS-4", "proof_missing", USE_BINDING,
        "the access token requires a session-binding proof"),

    /// There is one proof, not several (RS-4).
    ProofDuplicated => ("RS-4", "proof_duplicated", PROOF, "more than one session-binding proof"),

    /// The proof is a compact JWS of JSON objects with the claims of PR-5, each of its type (RS-5,
    /// PR-9).
    ProofSyntax => ("RS-5", "proof_syntax", PROOF, "the proof is malformed"),

    /// `typ` (RS-5).
    ProofType => ("RS-5", "proof_type", PROOF, "the typ of the proof is not tls-binding-proof+jwt"),

    /// `alg` fits the certificate's key (RS-5, PR-2).
    ProofAlgorithm => ("RS-5", "proof_algorithm", PROOF,
        "the alg of the proof does not fit the key of the client certificate"),

    /// `x5t#S256` in the proof's header is this connection's certificate (RS-5).
    ProofThumbprint => ("RS-5", "proof_thumbprint", PROOF,
        "the x5t#S256 of the proof is not the client certificate of this connection"),

    /// The proof is signed by the certificate's key (RS-5).
    ProofSignature => ("RS-5", "proof_signature", PROOF,
        "the signature of the proof is not by the key of the client certificate"),

    /// `ekm` is this connection's exporter value (RS-6).
    Exporter => ("RS-6", "exporter", PROOF,
        "the ekm of the proof is not that of this TLS connection"),

    /// `ath` is the hash of the presented token (RS-7).
    TokenHash => ("RS-7", "token_hash", PROOF,
        "the ath of the proof is not that of the access token"),

    /// `iat` lies within its window (RS-8).
    IssuedAt => ("RS-8", "issued_at", PROOF, "the iat of the proof is out of its window"),

    /// `htm` is the request's method (RS-9).
    Method => ("RS-9", "method", PROOF, "the htm of the proof is not the method of the request"),

    /// `htu` is the request's target (RS-9).
    TargetUri => ("RS-9", "target_uri", PROOF,
        "the htu of the proof is not the target of the request"),

    /// `jti` has not been seen on this connection (RS-9).
    Replay => ("RS-9", "replay", PROOF, "the jti of the proof was seen before on this connection"),

    /// This connection may remember another `jti` (RS-9).
    ReplayQuota => ("RS-9", "replay_quota", PROOF,
        "too many proofs with jti on this connection; open another"),

    /// `jti`, `htm` and `htu` are present if the policy demands them (RS-12).
    RequestClaimsRequired => ("RS-12", "request_claims_required", PROOF,
        "a proof with jti, htm and htu is required here"),

    /// The token is session-bound if the policy demands it (RS-13).
    BindingRequired => ("RS-13", "binding_required", TOKEN,
        "a session-bound access token is required here"),

    /// The token is in `Authorization` and nowhere else (TK-0).
    TokenTransport => ("TK-0", "token_transport", TOKEN,
        "the access token must be in the Authorization header and nowhere else"),

    /// `cnf` can be read and satisfied (TK-0..TK-2).
    Confirmation => ("TK-2", "confirmation", TOKEN,
        "the cnf of the access token is malformed or cannot be satisfied"),

    /// The token's scope suffices.
    Scope => ("RS-10", "scope", Some("insufficient_scope"),
        "the scope of the access token does not suffice"),
}

impl Check {
    /// The status of the response (RS-10).
    pub fn status(self) -> StatusCode {
        match self {
            Self::Scope => StatusCode::FORBIDDEN,
            _ => StatusCode::UNAUTHORIZED,
        }
    }
}
