//! What a resource server checks of a DPoP request, and what a refusal by each check looks like.

use super::{INVALID_DPOP_PROOF, USE_DPOP_NONCE};
use crate::check_table::checks;

const TOKEN: Option<&str> = Some("invalid_token");
const PROOF: Option<&str> = Some(INVALID_DPOP_PROOF);
const NONCE: Option<&str> = Some(USE_DPOP_NONCE);

checks! {
    /// A check that a request with a DPoP proof can fail; always answered 401 at a resource server.
    ///
    /// The [`id`](Self::id)s `DP-1` to `DP-12` are the items of RFC 9449 §4.3, by their numbers;
    /// `DP-13` to `DP-16` come from its other sections.
    DpopCheck

    /// There is one `DPoP` field, not several (§4.3 item 1).
    Duplicated => ("DP-1", "dpop_duplicated", PROOF, "more than one DPoP header"),

    /// The field is one well-formed JWT (item 2).
    Syntax => ("DP-2", "dpop_syntax", PROOF, "the DPoP proof is not one well-formed JWT"),

    /// The required claims are present, each of its type (item 3).
    Claims => ("DP-3", "dpop_claims", PROOF,
        "the DPoP proof lacks a required claim or has one of the wrong type"),

    /// `typ` (item 4).
    Type => ("DP-4", "dpop_type", PROOF, "the typ of the DPoP proof is not dpop+jwt"),

    /// `alg` is an asymmetric algorithm that is supported here (item 5).
    Algorithm => ("DP-5", "dpop_algorithm", PROOF,
        "the alg of the DPoP proof is not one that is accepted here"),

    /// The signature is by the key in `jwk` (item 6).
    Signature => ("DP-6", "dpop_signature", PROOF,
        "the signature of the DPoP proof is not by the key in its jwk"),

    /// `jwk` is a public key of a kind that `alg` signs with, and is not weak (items 5 and 7).
    Jwk => ("DP-7", "dpop_jwk", PROOF,
        "the jwk of the DPoP proof is absent, malformed, weak, or of another kind than its alg"),

    /// `jwk` holds no part of a private key (item 7).
    PrivateKey => ("DP-7", "dpop_private_key", PROOF,
        "the jwk of the DPoP proof holds a part of a private key"),

    /// `htm` is the request's method (item 8).
    Method => ("DP-8", "dpop_method", PROOF,
        "the htm of the DPoP proof is not the method of the request"),

    /// `htu` is the request's target (item 9).
    TargetUri => ("DP-9", "dpop_target_uri", PROOF,
        "the htu of the DPoP proof is not the target of the request"),

    /// `nonce` is one that this server issued recently (item 10).
    Nonce => ("DP-10", "dpop_nonce", NONCE,
        "a recent nonce of this server is required in the DPoP proof"),

    /// `iat` lies within its window (item 11).
    IssuedAt => ("DP-11", "dpop_issued_at", PROOF,
        "the iat of the DPoP proof is out of its window"),

    /// `ath` is the hash of the presented token (item 12).
    TokenHash => ("DP-12", "dpop_token_hash", PROOF,
        "the ath of the DPoP proof is not that of the access token"),

    /// The key in `jwk` is the one that the token is bound to (item 12).
    // RFC 9449 §7.1 answers a failed confirmation of the token's binding so.
    KeyBinding => ("DP-12", "dpop_key_binding", TOKEN,
        "the access token is bound to another key than that of the DPoP proof"),

    /// A proof is present (§7.1).
    Missing => ("DP-13", "dpop_missing", PROOF, "the access token requires a DPoP proof"),

    /// `jti` was not seen before (§11.1).
    Replay => ("DP-14", "dpop_replay", PROOF, "the jti of the DPoP proof was seen before"),

    /// A token presented with the scheme DPoP is bound to a key (§7.1).
    TokenNotBound => ("DP-15", "dpop_token_not_bound", TOKEN,
        "the access token is not bound to a DPoP key"),

    /// A token bound to a key is presented with the scheme DPoP (§7.2).
    BearerScheme => ("DP-16", "dpop_bearer_scheme", TOKEN,
        "the access token is bound to a DPoP key and must come with the scheme DPoP"),
}
