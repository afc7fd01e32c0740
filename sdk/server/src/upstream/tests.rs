use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bowline_proof::EXPORTER_LABEL;
use serde_json::{Value, json};

use super::*;

const THUMBPRINT: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// A JWT with an invalid signature.
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
async fn gw_4_accepts_a_jwt_with_both_members_and_reveals_no_other_claims() {
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
async fn a_duplicate_cnf_is_malformed() {
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
