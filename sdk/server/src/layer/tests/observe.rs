//! RS-13: what is observed of a request, where a real connection shows nothing more. The rest is in
//! `tests/it/observe.rs`.

use bowline_proof::Check;
use serde_json::json;

use super::fixture::*;
use crate::{
    BindingClass, CloseReason, FailedCheck, Observed, RequireRequestBound, Routes, ServerEvent,
};

fn observed(outcome: &Outcome) -> Observed {
    let binding = outcome.binding();
    assert!(outcome.has_passed());
    let is_none = binding.class() == BindingClass::None;
    let observed = binding.observed().expect("it is observed");
    assert_eq!(is_none, observed != Observed::Held);
    assert!(
        matches!(outcome.event, Some(ServerEvent::Observed { outcome, .. }) if outcome == observed)
    );
    observed
}

fn failed(check: Check) -> Observed {
    Observed::ProofFailed(FailedCheck::Session(check))
}

fn observing() -> Fixture {
    let mut fixture = Fixture::default();
    fixture.configure(|layer| layer.observe(true));
    fixture
}

#[tokio::test]
async fn a_request_bound_proof_that_would_be_demanded_is_a_failed_proof() {
    let mut fixture = observing();
    fixture.configure(|layer| layer.require_request_bound(RequireRequestBound::Always));
    assert_eq!(
        observed(&fixture.send().await),
        failed(Check::RequestClaimsRequired)
    );
    fixture.add_request_claims("1");
    assert_eq!(observed(&fixture.send().await), Observed::Held);
    assert_eq!(observed(&fixture.send().await), failed(Check::Replay));

    let routes = Routes::new(["/mcp"]).unwrap();
    fixture.configure(|layer| layer.require_request_bound(RequireRequestBound::Routes(routes)));
    fixture.add_request_claims("2");
    fixture.fields = vec![("x-http-method-override", "DELETE".to_owned())];
    assert_eq!(
        observed(&fixture.send().await),
        failed(Check::RequestClaimsRequired)
    );
}

/// No quota drains or closes: not that of the connection, and not that of all connections.
#[tokio::test]
async fn where_used_jti_cannot_be_stored_the_request_passes_and_the_connection_stays() {
    let mut fixture = observing();
    fixture.configure(|layer| layer.jti_quota(1).jti_total(1));
    fixture.add_request_claims("1");
    assert_eq!(observed(&fixture.send().await), Observed::Held);
    fixture.add_request_claims("2");
    assert_eq!(observed(&fixture.send().await), failed(Check::ReplayQuota));
    let first = fixture
        .facts
        .replace(connection(Some(&CLIENT), EXPORTER))
        .unwrap();
    assert_eq!(observed(&fixture.send().await), failed(Check::ReplayQuota));
    for facts in [first, fixture.facts.clone().unwrap()] {
        assert_eq!(facts.close_report.reason(), None::<CloseReason>);
    }
    let events = fixture.events.lock().unwrap();
    let limits = |event: &&ServerEvent| matches!(event, ServerEvent::LimitReached { .. });
    assert_eq!(events.iter().filter(limits).count(), 0);
}

/// Of the request that would be refused neither the proof is cached, nor does it replace the one
/// that is.
#[tokio::test]
async fn a_failed_proof_leaves_the_cached_one_alone() {
    let mut fixture = observing();
    assert_eq!(observed(&fixture.send().await), Observed::Held);
    let good = fixture.proof();
    fixture.signer = &OTHER_CLIENT;
    for _ in 0..2 {
        assert_eq!(
            observed(&fixture.send().await),
            failed(Check::ProofSignature)
        );
    }
    fixture.proofs = Some(vec![good]);
    let outcome = fixture.send().await;
    assert_eq!(observed(&outcome), Observed::Held);
    let verified = fixture.events.lock().unwrap();
    let [.., ServerEvent::Verified { cached, .. }, _] = &verified[..] else {
        panic!("{verified:?}")
    };
    assert!(cached);
}

/// A public path is none of the policy's business.
#[tokio::test]
async fn a_public_path_is_not_observed() {
    let mut fixture = observing();
    fixture.configure(|layer| layer.public_paths(["/mcp"]));
    fixture.use_token(json!({}));
    assert!(fixture.send().await.has_passed());
    assert!(fixture.events.lock().unwrap().is_empty());
}
