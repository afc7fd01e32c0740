//! RFC 9449 §11.1: a proof passes once.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline_proof::Windows;
use bowline_proof::dpop::DpopCheck;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rustls_pki_types::UnixTime;
use serde_json::json;

use super::super::fixture::*;
use super::{DpopFixture, dpop_check};
use crate::{Dpop, Insertion, Limit, MemoryReplayStore, ReplayStore, ServerEvent, UsedProof};

#[tokio::test]
async fn a_proof_passes_once_over_all_connections() {
    let mut fixture = DpopFixture::new();
    assert!(fixture.send().await.has_passed());
    assert_eq!(dpop_check(&fixture.send().await), Some(DpopCheck::Replay));
    fixture.base.facts = Some(connection(None, [9; 32]));
    assert_eq!(dpop_check(&fixture.send().await), Some(DpopCheck::Replay));
    // Neither does another proof with the same jti and key.
    fixture.claims["iat"] = (NOW + 1).into();
    assert_eq!(dpop_check(&fixture.send().await), Some(DpopCheck::Replay));
    assert!(fixture.renew("2").send().await.has_passed());
}

/// An attacker who guesses a `jti` cannot use it up for its owner.
#[tokio::test]
async fn another_client_may_have_the_same_jti() {
    let mut fixture = DpopFixture::new();
    assert!(fixture.send().await.has_passed());
    fixture.signer = &OTHER_CLIENT;
    fixture.header["jwk"] = OTHER_CLIENT.jwk();
    fixture.use_token(json!({ "cnf": { "jkt": OTHER_CLIENT.jkt() } }));
    assert!(fixture.send().await.has_passed());
}

#[tokio::test]
async fn a_used_proof_is_stored_for_as_long_as_it_would_be_accepted() {
    let mut fixture = DpopFixture::new();
    let mut windows = Windows::default();
    windows.past = Duration::from_secs(10);
    windows.future = Duration::from_secs(5);
    fixture.base.configure(|layer| layer.windows(windows));
    // The longest case: made by a clock that is ahead, and replayed in the last second.
    fixture.claims["iat"] = (NOW + 5).into();
    assert!(fixture.send().await.has_passed());
    for (seconds, check) in [
        (1, DpopCheck::Replay),
        (14, DpopCheck::Replay),
        (15, DpopCheck::Replay),
        (16, DpopCheck::IssuedAt),
    ] {
        fixture.base.now.store(NOW + seconds, Ordering::SeqCst);
        assert_eq!(dpop_check(&fixture.send().await), Some(check), "{seconds}");
        // Other insertions drop the old entries.
        let now = NOW + seconds;
        let mut other = DpopFixture::new();
        std::mem::swap(&mut other.base, &mut fixture.base);
        other.use_token(json!({ "cnf": { "jkt": CLIENT.jkt() } }));
        other.claims["iat"] = now.into();
        assert!(
            other
                .renew(&format!("by-{seconds}"))
                .send()
                .await
                .has_passed()
        );
        std::mem::swap(&mut other.base, &mut fixture.base);
        fixture.claims["ath"] = ath(&fixture.base.token);
    }
}

/// The entry of the first proof is dropped, then the clock is set back.
#[tokio::test]
async fn a_clock_that_goes_back_brings_no_used_proof_back() {
    let mut fixture = DpopFixture::new();
    let captured = fixture.claims.clone();
    assert!(fixture.send().await.has_passed());
    fixture.base.now.store(NOW + 301, Ordering::SeqCst);
    fixture.claims["iat"] = (NOW + 301).into();
    assert!(fixture.renew("2").send().await.has_passed());
    fixture.base.now.store(NOW + 241, Ordering::SeqCst);
    fixture.claims = captured;
    assert_eq!(dpop_check(&fixture.send().await), Some(DpopCheck::IssuedAt));
}

#[tokio::test]
async fn a_full_store_refuses_with_503_and_no_challenge() {
    let mut fixture = DpopFixture::with(Dpop::new(MemoryReplayStore::new(1)));
    assert!(fixture.send().await.has_passed());
    let outcome = fixture.renew("2").send().await;
    assert_eq!(
        (outcome.response.status().as_u16(), outcome.reached),
        (503, false)
    );
    assert_eq!(outcome.header("retry-after"), Some("1"));
    assert!(matches!(
        outcome.event,
        Some(ServerEvent::LimitReached {
            limit: Limit::UsedProofs,
            ..
        })
    ));
    // Stored entries are still found.
    assert_eq!(
        dpop_check(&fixture.renew("1").send().await),
        Some(DpopCheck::Replay)
    );
    fixture.base.now.store(NOW + 301, Ordering::SeqCst);
    fixture.claims["iat"] = (NOW + 301).into();
    assert!(fixture.renew("2").send().await.has_passed());
}

/// A remote store: it is slow and sometimes unreachable.
#[derive(Default)]
struct Remote {
    /// The times of each call: now, and the last second for which to keep the entry.
    asked: Mutex<Vec<(u64, u64)>>,
}

impl ReplayStore for &'static Remote {
    fn insert(&self, proof: UsedProof, now: UnixTime) -> BoxFuture<'_, Insertion> {
        let times = (now.as_secs(), proof.until.as_secs());
        self.asked.lock().unwrap().push(times);
        async {
            tokio::task::yield_now().await;
            Insertion::Unavailable
        }
        .boxed()
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_reached_lets_nothing_pass() {
    let remote: &Remote = Box::leak(Box::default());
    let fixture = DpopFixture::with(Dpop::new(remote));
    let outcome = fixture.send().await;
    assert_eq!(
        (outcome.response.status().as_u16(), outcome.reached),
        (503, false)
    );
    let asked = remote.asked.lock().unwrap().clone();
    assert_eq!(asked, [(NOW, NOW + 300)]);
}

#[tokio::test]
async fn where_the_policy_is_observed_a_store_that_cannot_be_reached_refuses_nothing() {
    let remote: &Remote = Box::leak(Box::default());
    let mut fixture = DpopFixture::with(Dpop::new(remote));
    fixture.base.configure(|layer| layer.observe(true));
    let outcome = fixture.send().await;
    assert_eq!(outcome.binding().class(), crate::BindingClass::None);
    let observed = outcome.binding().observed().unwrap();
    let check = observed.check().unwrap().name();
    assert_eq!((observed.name(), check), ("proof_failed", "replay_quota"));
}

/// Several nodes of one origin with one store.
struct Shared(&'static MemoryReplayStore);

impl ReplayStore for Shared {
    fn insert(&self, proof: UsedProof, now: UnixTime) -> BoxFuture<'_, Insertion> {
        self.0.insert(proof, now)
    }
}

#[tokio::test]
async fn nodes_that_share_a_store_refuse_each_others_replays_and_others_do_not() {
    let store: &MemoryReplayStore = Box::leak(Box::default());
    let (one, two) = (
        DpopFixture::with(Dpop::new(Shared(store))),
        DpopFixture::with(Dpop::new(Shared(store))),
    );
    assert!(one.send().await.has_passed());
    assert_eq!(dpop_check(&two.send().await), Some(DpopCheck::Replay));
    assert!(DpopFixture::new().send().await.has_passed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_concurrent_requests_with_one_proof_exactly_one_passes() {
    for _ in 0..20 {
        let fixture = Arc::new(DpopFixture::new());
        let tasks: Vec<_> = (0..16)
            .map(|_| {
                let fixture = fixture.clone();
                tokio::spawn(async move { dpop_check(&fixture.send().await) })
            })
            .collect();
        let mut passed = 0;
        for task in tasks {
            match task.await.unwrap() {
                None => passed += 1,
                refused => assert_eq!(refused, Some(DpopCheck::Replay)),
            }
        }
        assert_eq!(passed, 1);
    }
}
