//! RFC 9449 §9: nonces, where they are required and where they are not.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bowline_proof::challenges;
use bowline_proof::dpop::{DpopCheck, Nonce};

use super::super::fixture::*;
use super::{DpopFixture, assert_challenge, dpop_check};
use crate::{Dpop, DpopNonces, MemoryReplayStore};

const PERIOD: u64 = 60;

fn with_nonces() -> DpopFixture {
    let nonces = DpopNonces::new(&[7; 32], Duration::from_secs(PERIOD));
    DpopFixture::with(Dpop::new(MemoryReplayStore::default()).nonces(nonces))
}

fn nonce_of(outcome: &Outcome) -> String {
    Nonce::from_response(outcome.response.headers())
        .expect("a nonce")
        .as_str()
        .to_owned()
}

#[tokio::test]
async fn a_required_nonce_is_demanded_and_accepted_for_two_periods() {
    let mut fixture = with_nonces();
    let asked = fixture.send().await;
    assert_eq!(dpop_check(&asked), Some(DpopCheck::Nonce));
    let challenge = &challenges(asked.response.headers())[0];
    assert_challenge(challenge, DpopCheck::Nonce, "no nonce");
    assert_eq!(challenge.error(), Some("use_dpop_nonce"));
    let nonce = nonce_of(&asked);

    // The refused proof was not marked as used.
    fixture.claims["nonce"] = nonce.clone().into();
    let passed = fixture.send().await;
    assert!(passed.has_passed());
    assert_eq!(
        passed.header("dpop-nonce"),
        None,
        "it has the newest already"
    );

    // One period later: still accepted, and the response carries the newer nonce.
    let start = NOW - NOW % PERIOD;
    fixture.base.now.store(start + PERIOD, Ordering::SeqCst);
    let passed = fixture.renew("2").send().await;
    assert!(passed.has_passed());
    let newer = nonce_of(&passed);
    assert_ne!(newer, nonce);
    assert_eq!(passed.header("cache-control"), Some("no-store"));

    // Two periods later: refused.
    fixture.base.now.store(start + 2 * PERIOD, Ordering::SeqCst);
    let refused = fixture.renew("3").send().await;
    assert_eq!(dpop_check(&refused), Some(DpopCheck::Nonce));
    assert_ne!(nonce_of(&refused), newer);
    fixture.claims["nonce"] = newer.into();
    assert!(fixture.send().await.has_passed());
}

#[tokio::test]
async fn each_dpop_refusal_carries_the_nonce() {
    let mut fixture = with_nonces();
    fixture.claims["htm"] = "GET".into();
    let refused = fixture.send().await;
    assert_eq!(dpop_check(&refused), Some(DpopCheck::Method));
    fixture.claims["nonce"] = nonce_of(&refused).into();
    fixture.claims["htm"] = "POST".into();
    assert!(fixture.send().await.has_passed());
}

#[tokio::test]
async fn a_nonce_that_is_not_required_is_ignored() {
    let mut fixture = DpopFixture::new();
    fixture.claims["nonce"] = "of another server".into();
    assert!(fixture.send().await.has_passed());
}

/// A tenth of the memory: with its nonce a proof is refused long before its `iat` is too old.
#[tokio::test]
async fn a_used_proof_is_stored_only_for_as_long_as_its_nonce_is_accepted() {
    let nonces = DpopNonces::new(&[7; 32], Duration::from_secs(PERIOD));
    let store = MemoryReplayStore::new(1);
    let mut fixture = DpopFixture::with(Dpop::new(store).nonces(nonces));
    fixture.claims["nonce"] = nonce_of(&fixture.send().await).into();
    assert!(fixture.send().await.has_passed());
    // The store is full until the second period of the nonce has ended.
    let end = (NOW / PERIOD + 2) * PERIOD;
    for (now, passes) in [(end - 1, false), (end, true)] {
        fixture.base.now.store(now, Ordering::SeqCst);
        fixture.claims["iat"] = now.into();
        fixture.renew(&now.to_string()).claims["nonce"] = "none".into();
        let asked = fixture.send().await;
        fixture.claims["nonce"] = nonce_of(&asked).into();
        assert_eq!(fixture.send().await.has_passed(), passes, "{now}");
    }
}
