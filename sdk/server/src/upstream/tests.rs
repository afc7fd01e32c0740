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

/// What it demands of `cnf` is the policy's business.
#[tokio::test]
async fn gw_4_passes_a_cnf_on_as_it_is() {
    for (cnf, kind) in [
        (json!({}), (false, false)),
        (json!({ "cnf": { "x5t#S256": THUMBPRINT } }), (true, false)),
        (json!({ "cnf": { "jkt": THUMBPRINT } }), (false, true)),
    ] {
        let token = validate(forged(&cnf.to_string())).await.unwrap();
        let found = token.confirmation().unwrap();
        assert_eq!((found.x5t_s256.is_some(), found.jkt.is_some()), kind);
        assert!(token.is_unvalidated());
    }
}

#[tokio::test]
async fn gw_4_refuses_members_that_are_there_twice_at_any_depth_and_alg_none() {
    let cnf = format!(r#""cnf":{{"x5t#S256":"{THUMBPRINT}","tls_exp":"{EXPORTER_LABEL}"}}"#);
    let once = format!(r#"{{{cnf},"act":[{{"sub":"a"}},{{"sub":"b"}}],"n":[1,-1,1.5,true,null]}}"#);
    assert!(validate(forged(&once)).await.is_ok());
    for claims in [
        format!(r#"{{{cnf},{cnf}}}"#),
        format!(r#"{{{cnf},"\u0063nf":{{}}}}"#),
        format!(r#"{{{cnf},"sub":"a","sub":"b"}}"#),
        format!(r#"{{{cnf},"act":[{{"sub":"a","sub":"b"}}]}}"#),
        format!(r#"{{"cnf":{{"x5t#S256":"{THUMBPRINT}","x":1,"x":2}}}}"#),
    ] {
        let error = validate(forged(&claims)).await.unwrap_err();
        assert!(error.detail().contains("twice"), "{claims}: {error}");
    }
    let payload = URL_SAFE_NO_PAD.encode(&once);
    for header in [
        r#"{"alg":"ES256","x":1,"x":2}"#,
        r#"{"alg":"ES256","alg":"none"}"#,
        r#"{"alg":"none"}"#,
        r#"{"alg":"None"}"#,
        "{}",
    ] {
        let token = format!("{}.{payload}.AAAA", URL_SAFE_NO_PAD.encode(header));
        assert!(validate(token).await.is_err(), "{header}");
    }
}
