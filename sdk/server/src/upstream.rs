//! Checks the binding of tokens without validating them, in front of an upstream that validates
//! them (GW-4).

mod unique;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bowline_proof::AccessToken;

use self::unique::UniqueMembers;
use crate::jwt::SignedJwt;
use crate::{TokenError, TokenValidator, ValidToken};

/// **Validates nothing.** It reads the `cnf` of a JWT and uses it unverified: no signature, no
/// expiry, no issuer and no audience is checked (GW-4).
///
/// That is secure only if the upstream validates the same token, refuses forged ones, and takes it
/// from `Authorization` alone. For a genuine token, the `cnf` read here is what the authorization
/// server wrote, and [`BindingLayer`](crate::BindingLayer) enforces it by RS-3 and RS-4 to RS-9. A
/// token that an attacker forged for their own certificate passes here and fails upstream.
///
/// So every request must prove its connection: with
/// [`AcceptPolicy::RequireProof`](crate::AcceptPolicy::RequireProof) a token must have `x5t#S256`,
/// with [`AcceptPolicy::RequireSession`](crate::AcceptPolicy::RequireSession) `tls_exp` too. Any
/// other policy is an error ([`InvalidPolicy`](crate::InvalidPolicy)). A request with a token and a
/// form as its body is refused, because the upstream might take another token from the form (RFC
/// 6750 section 2.2). So are JWTs that two parsers could read differently, with a member that is
/// there twice, and those with `alg` `none`.
///
/// An opaque token is refused, an encrypted one too: nothing can be read from it, so a thief with
/// any trusted certificate could present a stolen token with a valid proof of their own. Opaque
/// tokens need an [`IntrospectionValidator`](crate::IntrospectionValidator).
///
/// A request that passes has no claims ([`VerifiedBinding::claims`](crate::VerifiedBinding::claims)
/// is `null`), so a handler cannot mistake unverified claims for verified ones, and a
/// [`RequiredScope`](crate::RequiredScope) is never satisfied.
#[derive(Clone, Copy, Debug, Default)]
pub struct UpstreamValidates;

impl TokenValidator for UpstreamValidates {
    async fn validate(&self, token: &AccessToken) -> Result<ValidToken, TokenError> {
        if SignedJwt::parse(token.secret())
            .and_then(|jwt| jwt.claims())
            .is_err()
        {
            return Err(TokenError::invalid(
                "GW-4: the access token is opaque or malformed, and only a JWT says what it is bound to",
            ));
        }
        let mut parts = token.secret().split('.');
        let is_unambiguous = |part: Option<&str>| {
            let json = part.and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
            json.is_some_and(|json| serde_json::from_slice::<UniqueMembers>(&json).is_ok())
        };
        if !(is_unambiguous(parts.next()) && is_unambiguous(parts.next())) {
            return Err(TokenError::invalid(
                "GW-4: the header or the claims of the access token have a member twice",
            ));
        }
        let confirmation = token.confirmation().map_err(|error| *error).cloned();
        Ok(ValidToken::unvalidated(confirmation))
    }

    fn is_binding_only(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
