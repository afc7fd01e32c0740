//! TK-5: what binds an introspected token that is itself a JWT, and answers that nobody should
//! write.

use bowline_proof::{AccessToken, Confirmation, ConfirmationError, EXPORTER_LABEL};
use bowline_server::{ExpectedClaims, IntrospectionValidator, TokenValidator};
use serde_json::{Value, json};

use super::{Introspector, active, active_but, opaque};
use crate::authority::{AUDIENCE, Authority};
use crate::fixture::*;

async fn confirmation(
    validator: &IntrospectionValidator,
    token: &AccessToken,
) -> Result<Confirmation, ConfirmationError> {
    let valid = within(validator.validate(token)).await.unwrap();
    valid.confirmation().cloned()
}

fn with_cnf(mut claims: Value, cnf: &Option<Value>) -> Value {
    if let Some(cnf) = cnf {
        claims["cnf"] = cnf.clone();
    }
    claims
}

#[tokio::test]
async fn the_cnf_of_a_jwt_and_of_the_answer_about_it_must_agree_in_every_known_member() {
    let fixture = Fixture::new();
    let authority = Introspector::start(&fixture, active()).await;
    let thumbprint = |letter: &str| letter.repeat(43);
    let x5t = |letter| json!({ "x5t#S256": thumbprint(letter) });
    let session = |letter| json!({ "x5t#S256": thumbprint(letter), "tls_exp": EXPORTER_LABEL });
    let jkt = |letter| json!({ "jkt": thumbprint(letter) });
    let further = json!({ "x5t#S256": thumbprint("A"), "kid": "1" });
    for (in_jwt, in_answer, agree) in [
        (None, None, true),
        (Some(session("A")), Some(session("A")), true),
        (Some(further), Some(x5t("A")), true),
        (Some(jkt("A")), Some(jkt("A")), true),
        // An answer that leaves `cnf` out would make a bearer token of it.
        (Some(session("A")), None, false),
        (Some(session("A")), Some(x5t("A")), false),
        (Some(session("A")), Some(session("E")), false),
        (Some(x5t("A")), Some(session("A")), false),
        (Some(jkt("A")), Some(jkt("E")), false),
        (Some(jkt("A")), Some(x5t("A")), false),
        (None, Some(x5t("A")), false),
        (Some(json!("x")), Some(x5t("A")), false),
    ] {
        authority.respond_with(with_cnf(active(), &in_answer));
        let token = fixture.authority.sign(
            &fixture.authority.header(),
            &with_cnf(Authority::claims(), &in_jwt),
        );
        let validator = authority.builder(&fixture).build();
        let found = confirmation(&validator, &token).await;
        assert_eq!(found.is_ok(), agree, "{in_jwt:?} {in_answer:?}: {found:?}");
        // Of an opaque token only the answer says anything.
        assert!(confirmation(&validator, &opaque("token")).await.is_ok());
    }
}

#[tokio::test]
async fn a_duplicated_member_in_the_answer_is_malformed() {
    let fixture = Fixture::new();
    let authority = Introspector::start(&fixture, active()).await;
    let one = format!(r#""x5t#S256":"{}""#, "A".repeat(43));
    for (cnf, is_read) in [
        (format!(r#""cnf":{{{one}}}"#), true),
        (format!(r#""cnf":{{{one},{one}}}"#), false),
        (format!(r#""cnf":{{{one}}},"cnf":{{}}"#), false),
    ] {
        let answer = active_but("sub", "agent".into()).to_string();
        let answer = format!("{},{cnf}}}", answer.strip_suffix('}').unwrap());
        let query: String = form_urlencoded::byte_serialize(answer.as_bytes()).collect();
        let endpoint = authority.endpoint(&fixture, &format!("/echo?{query}"));
        let validator =
            IntrospectionValidator::builder(ExpectedClaims::new(AUDIENCE), endpoint).build();
        let found = confirmation(&validator, &opaque("token")).await;
        assert_eq!(found.is_ok(), is_read, "{cnf}");
    }
}
