//! What a resource server checks of a DPoP request, and what a refusal by each check looks like.

use std::fmt;

use super::{INVALID_DPOP_PROOF, USE_DPOP_NONCE};

/// A check that a request with a DPoP proof can fail; always answered 401 at a resource server.
///
/// The [`id`](Self::id)s `DP-1` to `DP-12` are the items of RFC 9449 §4.3, by their numbers;
/// `DP-13` to `DP-16` are what its other sections ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DpopCheck {
    /// There is one `DPoP` field, not several (§4.3 item 1).
    Duplicated,
    /// The field is one well-formed JWT (item 2).
    Syntax,
    /// The required claims are there, each of its type (item 3).
    Claims,
    /// `typ` (item 4).
    Type,
    /// `alg` is an asymmetric algorithm that is supported here (item 5).
    Algorithm,
    /// The signature is by the key in `jwk` (item 6).
    Signature,
    /// `jwk` is a public key of a kind that `alg` signs with, and is not weak (items 5 and 7).
    Jwk,
    /// `jwk` holds no part of a private key (item 7).
    PrivateKey,
    /// `htm` is the request's method (item 8).
    Method,
    /// `htu` is the request's target (item 9).
    TargetUri,
    /// `nonce` is one that this server gave out lately (item 10).
    Nonce,
    /// `iat` lies within its window (item 11).
    IssuedAt,
    /// `ath` is the hash of the presented token (item 12).
    TokenHash,
    /// The key in `jwk` is the one that the token is bound to (item 12).
    KeyBinding,
    /// A proof is there (§7.1).
    Missing,
    /// `jti` was not seen before (§11.1).
    Replay,
    /// A token presented with the scheme DPoP is bound to a key (§7.1).
    TokenNotBound,
    /// A token bound to a key is presented with the scheme DPoP (§7.2).
    BearerScheme,
}

impl DpopCheck {
    /// The requirement that the check enforces, for example `DP-9`.
    pub fn id(self) -> &'static str {
        self.row().0
    }

    /// A short name in snake case, for metric labels; none is also a name of a
    /// [`Check`](crate::Check).
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The `error` of the challenge (RFC 9449 §7.1, §9).
    pub fn error(self) -> &'static str {
        self.row().2
    }

    /// The `error_description` of the challenge: fixed text that names the check and never a value.
    pub fn description(self) -> &'static str {
        self.row().3
    }

    /// Id, name, error, description. The descriptions keep to RFC 6750 §3's characters.
    #[rustfmt::skip]
    fn row(self) -> (&'static str, &'static str, &'static str, &'static str) {
        let proof = INVALID_DPOP_PROOF;
        let token = "invalid_token";
        match self {
            Self::Duplicated => ("DP-1", "dpop_duplicated", proof, "more than one DPoP header"),
            Self::Syntax => ("DP-2", "dpop_syntax", proof, "the DPoP proof is not one well-formed JWT"),
            Self::Claims => ("DP-3", "dpop_claims", proof, "the DPoP proof lacks a required claim or has one of the wrong type"),
            Self::Type => ("DP-4", "dpop_type", proof, "the typ of the DPoP proof is not dpop+jwt"),
            Self::Algorithm => ("DP-5", "dpop_algorithm", proof, "the alg of the DPoP proof is not one that is accepted here"),
            Self::Signature => ("DP-6", "dpop_signature", proof, "the signature of the DPoP proof is not by the key in its jwk"),
            Self::Jwk => ("DP-7", "dpop_jwk", proof, "the jwk of the DPoP proof is absent, malformed, weak, or of another kind than its alg"),
            Self::PrivateKey => ("DP-7", "dpop_private_key", proof, "the jwk of the DPoP proof holds a part of a private key"),
            Self::Method => ("DP-8", "dpop_method", proof, "the htm of the DPoP proof is not the method of the request"),
            Self::TargetUri => ("DP-9", "dpop_target_uri", proof, "the htu of the DPoP proof is not the target of the request"),
            Self::Nonce => ("DP-10", "dpop_nonce", USE_DPOP_NONCE, "a recent nonce of this server is required in the DPoP proof"),
            Self::IssuedAt => ("DP-11", "dpop_issued_at", proof, "the iat of the DPoP proof is out of its window"),
            Self::TokenHash => ("DP-12", "dpop_token_hash", proof, "the ath of the DPoP proof is not that of the access token"),
            // RFC 9449 §7.1 answers a failed confirmation of the token's binding so.
            Self::KeyBinding => ("DP-12", "dpop_key_binding", token, "the access token is bound to another key than that of the DPoP proof"),
            Self::Missing => ("DP-13", "dpop_missing", proof, "the access token requires a DPoP proof"),
            Self::Replay => ("DP-14", "dpop_replay", proof, "the jti of the DPoP proof was seen before"),
            Self::TokenNotBound => ("DP-15", "dpop_token_not_bound", token, "the access token is not bound to a DPoP key"),
            Self::BearerScheme => ("DP-16", "dpop_bearer_scheme", token, "the access token is bound to a DPoP key and must come with the scheme DPoP"),
        }
    }
}

/// A request was refused: by which check, and sometimes why in more detail.
///
/// It carries fixed text only, nothing of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DpopRefusal {
    check: DpopCheck,
    detail: Option<&'static str>,
}

impl DpopRefusal {
    /// A refusal by `check`, with a description of its own in place of the check's.
    ///
    /// `detail` may be sent to the client: keep to printable ASCII without `"` and `\` (RFC 6750
    /// §3).
    pub fn with_detail(check: DpopCheck, detail: &'static str) -> Self {
        Self {
            check,
            detail: Some(detail),
        }
    }

    /// The check that refused.
    pub fn check(&self) -> DpopCheck {
        self.check
    }

    /// What to tell the client: the detail where there is one, or else the check's description.
    pub fn description(&self) -> &'static str {
        self.detail.unwrap_or(self.check.description())
    }
}

impl From<DpopCheck> for DpopRefusal {
    fn from(check: DpopCheck) -> Self {
        Self {
            check,
            detail: None,
        }
    }
}

impl fmt::Display for DpopRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.check.id(), self.description())
    }
}

impl std::error::Error for DpopRefusal {}
