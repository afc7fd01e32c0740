//! Checks the binding of tokens without validating them, in front of an upstream that validates
//! them (GW-4).

use bowline_proof::AccessToken;

use crate::jwt::SignedJwt;
use crate::{TokenError, TokenValidator, ValidToken};

/// **Validates nothing.** It lets a JWT through whose `cnf` has both `x5t#S256` and `tls_exp`, and
/// uses that `cnf` unverified: no signature, no expiry, no issuer and no audience is checked
/// (GW-4).
///
/// That is secure only if the upstream validates the same token and refuses forged ones. For a
/// genuine token, the `cnf` read here is what the authorization server wrote, and
/// [`BindingLayer`](crate::BindingLayer) enforces it by RS-3 and RS-4 to RS-9. A token that an
/// attacker forged for their own certificate passes here and fails upstream.
///
/// An opaque token is refused: nothing can be read from it, so a thief with any trusted certificate
/// could present a stolen token with a valid proof of their own. Opaque tokens need an
/// [`IntrospectionValidator`](crate::IntrospectionValidator).
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
        // Read from the text, where a duplicate member is an error.
        let confirmation = token.confirmation().map_err(|error| *error).cloned();
        if let Ok(found) = &confirmation
            && (found.x5t_s256.is_none() || found.tls_exp.is_none())
        {
            return Err(TokenError::invalid(
                "GW-4: the cnf of the access token lacks x5t#S256 or tls_exp, and both are required here",
            ));
        }
        Ok(ValidToken::unvalidated(confirmation))
    }
}

#[cfg(test)]
mod tests;
