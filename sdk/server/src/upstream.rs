//! Binding without validation: for a verifier in front of an upstream that validates tokens itself
//! (GW-4).

use bowline_proof::AccessToken;

use crate::jwt::SignedJwt;
use crate::{TokenError, TokenValidator, ValidToken};

/// **Validates nothing.** It lets a JWT through whose `cnf` has both `x5t#S256` and `tls_exp`, and
/// believes that `cnf` unverified: no signature, no expiry, no issuer and no audience is checked
/// (GW-4).
///
/// That is sound where, and only where, the upstream validates the very same token and refuses a
/// forged one. For a token that is genuine, what is read here is what the authorization server
/// wrote, and [`BindingLayer`](crate::BindingLayer) holds the client to it: RS-3 and RS-4 to RS-9.
/// A token that somebody made up passes here with his own certificate, and fails upstream.
///
/// An opaque token is refused: nothing can be read from it, so a thief with any trusted certificate
/// could present a stolen one with a valid proof of his own. Opaque tokens need an
/// [`IntrospectionValidator`](crate::IntrospectionValidator).
///
/// A request that passes has no claims ([`VerifiedBinding::claims`](crate::VerifiedBinding::claims) is `null`), so
/// nobody can take unverified ones for verified, and a [`RequiredScope`](crate::RequiredScope) is
/// never met.
#[derive(Clone, Copy, Debug, Default)]
pub struct UpstreamValidates;

impl TokenValidator for UpstreamValidates {
    async fn validate(&self, token: &AccessToken) -> Result<ValidToken, TokenError> {
        if SignedJwt::parse(token.secret())
            .and_then(|jwt| jwt.claims())
            .is_err()
        {
            return Err(TokenError::invalid(
                "GW-4: the access token is opaque or malformed, and only a JWT tells what it is bound to",
            ));
        }
        // Read from the text, where a member that stands twice is an error.
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
