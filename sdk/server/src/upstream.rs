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
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use bowline_proof::EXPORTER_LABEL;
    use serde_json::{Value, json};

    use super::*;

    const THUMBPRINT: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    /// A JWT whose signature is nobody's.
    fn forged(claims: &str) -> String {
        let header = json!({ "alg": "ES256", "typ": "at+jwt" }).to_string();
        format!(
            "{}.{}.AAAA",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(claims)
        )
    }

    async fn validate(token: String) -> Result<ValidToken, TokenError> {
        UpstreamValidates
            .validate(&AccessToken::new(token).unwrap())
            .await
    }

    #[tokio::test]
    async fn gw_4_takes_a_jwt_with_both_members_and_tells_nothing_else_of_it() {
        let claims = json!({ "sub": "root", "scope": "all", "exp": 1,
            "cnf": { "x5t#S256": THUMBPRINT, "tls_exp": EXPORTER_LABEL } });
        let token = validate(forged(&claims.to_string())).await.unwrap();
        assert_eq!(
            token.confirmation().unwrap().tls_exp.as_deref(),
            Some(EXPORTER_LABEL)
        );
        assert_eq!(token.claims(), &Value::Null);
    }

    #[tokio::test]
    async fn gw_4_refuses_opaque_tokens_and_says_so() {
        let jwe = "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..AAAA.AAAA.AAAA".to_owned();
        for opaque in [
            "2YotnFZFEjr1zCsicMWpAA".to_owned(),
            "a.b.c".to_owned(),
            jwe,
            forged("7"),
        ] {
            let error = validate(opaque).await.unwrap_err();
            assert!(error.detail().contains("opaque"), "{error}");
        }
    }

    #[tokio::test]
    async fn gw_4_refuses_a_jwt_without_both_members() {
        for cnf in [
            json!({}),
            json!({ "cnf": {} }),
            json!({ "cnf": { "x5t#S256": THUMBPRINT } }),
            json!({ "cnf": { "tls_exp": EXPORTER_LABEL } }),
            json!({ "cnf": { "jkt": THUMBPRINT } }),
        ] {
            let error = validate(forged(&cnf.to_string())).await.unwrap_err();
            assert!(error.detail().contains("both are required"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_cnf_that_can_be_read_in_two_ways_is_malformed() {
        let twice = format!(
            r#"{{"cnf":{{"x5t#S256":"{THUMBPRINT}","tls_exp":"{EXPORTER_LABEL}"}},"cnf":{{}}}}"#
        );
        assert!(
            validate(forged(&twice))
                .await
                .unwrap()
                .confirmation()
                .is_err()
        );
    }
}
