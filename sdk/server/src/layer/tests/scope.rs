//! RS-10: a token whose scope does not suffice is answered 403.

use bowline_proof::{Check, EXPORTER_LABEL};
use serde_json::{Value, json};

use super::fixture::*;
use crate::{RequiredScope, Scope, ServerEvent};

fn scope(text: &str) -> Scope {
    text.parse().unwrap()
}

fn with_scope(granted: Value) -> Value {
    json!({ "cnf": { "x5t#S256": CLIENT.thumbprint(), "tls_exp": EXPORTER_LABEL }, "scope": granted })
}

#[tokio::test]
async fn a_token_passes_with_all_of_the_scope_and_is_answered_403_without() {
    let mut fixture = Fixture::default();
    fixture.configure(|layer| {
        layer.required_scope(RequiredScope::Always(scope("mcp:read mcp:write")))
    });
    fixture.use_token(with_scope("mcp:write other mcp:read".into()));
    assert!(fixture.send().await.has_passed());

    fixture.use_token(with_scope("mcp:read".into()));
    let outcome = fixture.send().await;
    assert!(!outcome.reached);
    assert_eq!(
        (outcome.response.status().as_u16(), outcome.check()),
        (403, Some(Check::Scope))
    );
    let connection = fixture.facts.as_ref().unwrap().id();
    let check = Check::Scope;
    assert_eq!(
        outcome.event,
        Some(ServerEvent::Refused { connection, check })
    );
    let [challenge] = &outcome.challenges()[..] else {
        panic!("one challenge")
    };
    assert_eq!(challenge.scheme, "Bearer");
    assert_eq!(challenge.error(), Some("insufficient_scope"));
    assert_eq!(challenge.param("scope"), Some("mcp:read mcp:write"));
    assert!(
        challenge
            .param("error_description")
            .unwrap()
            .starts_with("RS-10: ")
    );
}

#[tokio::test]
async fn each_request_may_need_another_scope_or_none() {
    let mut fixture = Fixture::default();
    fixture.configure(|layer| {
        layer.required_scope(RequiredScope::when(|request| match request.uri.path() {
            "/public" => None,
            _ if request.method == "DELETE" => Some(scope("delete")),
            _ => Some(scope("read")),
        }))
    });
    fixture.use_token(with_scope("read".into()));
    assert!(fixture.send().await.has_passed());
    fixture.method = "DELETE";
    assert_eq!(fixture.send().await.check(), Some(Check::Scope));
    fixture.uri = "/public".to_owned();
    assert!(fixture.send().await.has_passed());
}

#[tokio::test]
async fn the_scope_is_checked_every_time_even_if_the_proof_is_cached() {
    let mut fixture = Fixture::default();
    fixture.use_token(with_scope("read".into()));
    assert!(fixture.send().await.has_passed());
    assert!(fixture.send().await.was_cached());
    fixture.configure(|layer| layer.required_scope(RequiredScope::Always(scope("write"))));
    assert_eq!(fixture.send().await.check(), Some(Check::Scope));
}

#[tokio::test]
async fn a_refusal_for_insufficient_scope_uses_up_no_jti_and_names_no_scope_without_a_proof() {
    let mut fixture = Fixture::default();
    fixture.configure(|layer| layer.required_scope(RequiredScope::Always(scope("write"))));
    fixture.add_request_claims("1");
    assert_eq!(fixture.send().await.check(), Some(Check::Scope));
    fixture.configure(|layer| layer.required_scope(RequiredScope::None));
    assert!(fixture.send().await.has_passed());

    fixture.configure(|layer| layer.required_scope(RequiredScope::Always(scope("write"))));
    fixture.proofs = Some(vec![]);
    let outcome = fixture.send().await;
    assert_eq!(outcome.check(), Some(Check::ProofMissing));
    assert_eq!(outcome.challenges()[0].param("scope"), None);
}
