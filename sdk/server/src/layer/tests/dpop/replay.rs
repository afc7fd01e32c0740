//! RFC 9449 §11.1: a proof is good once.

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
use super::{Scene, dpop_check};
use crate::{Dpop, Insertion, MemoryReplayStore, ProofId, ReplayStore, ServerEvent};

#[tokio::test]
async fn a_proof_passes_once_on_whatever_connection() {
    let mut scene = Scene::new();
    assert!(scene.send().await.has_passed());
    assert_eq!(dpop_check(&scene.send().await), Some(DpopCheck::Replay));
    scene.fixture.facts = Some(connection(None, [9; 32]));
    assert_eq!(dpop_check(&scene.send().await), Some(DpopCheck::Replay));
    // Nor does the jti in another proof of the same key.
    scene.claims["iat"] = (NOW + 1).into();
    assert_eq!(dpop_check(&scene.send().await), Some(DpopCheck::Replay));
    assert!(scene.renew("2").send().await.has_passed());
}

/// Whoever guesses a `jti` in advance cannot use it up for its owner.
#[tokio::test]
async fn another_client_may_have_the_same_jti() {
    let mut scene = Scene::new();
    assert!(scene.send().await.has_passed());
    scene.signer = &OTHER_CLIENT;
    scene.header["jwk"] = OTHER_CLIENT.jwk();
    scene.use_token(json!({ "cnf": { "jkt": OTHER_CLIENT.jkt() } }));
    assert!(scene.send().await.has_passed());
}

#[tokio::test]
async fn a_proof_is_remembered_for_as_long_as_its_time_is_taken() {
    let mut scene = Scene::new();
    scene.fixture.configure(|layer| {
        layer.windows(Windows {
            past: Duration::from_secs(10),
            future: Duration::from_secs(5),
        })
    });
    // As long as can be: made by a clock that is ahead, and replayed in the last second.
    scene.claims["iat"] = (NOW + 5).into();
    assert!(scene.send().await.has_passed());
    for (seconds, check) in [
        (1, DpopCheck::Replay),
        (14, DpopCheck::Replay),
        (15, DpopCheck::Replay),
        (16, DpopCheck::IssuedAt),
    ] {
        scene.fixture.now.store(NOW + seconds, Ordering::SeqCst);
        assert_eq!(dpop_check(&scene.send().await), Some(check), "{seconds}");
        // Others come by and have the old entries dropped.
        let now = NOW + seconds;
        let mut other = Scene::new();
        std::mem::swap(&mut other.fixture, &mut scene.fixture);
        other.use_token(json!({ "cnf": { "jkt": CLIENT.jkt() } }));
        other.claims["iat"] = now.into();
        assert!(
            other
                .renew(&format!("by-{seconds}"))
                .send()
                .await
                .has_passed()
        );
        std::mem::swap(&mut other.fixture, &mut scene.fixture);
        scene.claims["ath"] = ath(&scene.fixture.token);
    }
}

#[tokio::test]
async fn a_store_that_is_full_refuses_without_blaming_the_client() {
    let mut scene = Scene::with(Dpop::new(MemoryReplayStore::new(1)));
    assert!(scene.send().await.has_passed());
    let outcome = scene.renew("2").send().await;
    assert_eq!(
        (outcome.response.status().as_u16(), outcome.reached),
        (503, false)
    );
    assert_eq!(outcome.header("retry-after"), Some("1"));
    assert!(matches!(
        outcome.event,
        Some(ServerEvent::Unavailable { .. })
    ));
    // What it knows it still knows.
    assert_eq!(
        dpop_check(&scene.renew("1").send().await),
        Some(DpopCheck::Replay)
    );
    scene.fixture.now.store(NOW + 301, Ordering::SeqCst);
    scene.claims["iat"] = (NOW + 301).into();
    assert!(scene.renew("2").send().await.has_passed());
}

/// A store elsewhere: it takes its time, and is not always there.
#[derive(Default)]
struct Remote {
    asked: Mutex<Vec<(ProofId, u64, u64)>>,
}

impl ReplayStore for &'static Remote {
    fn insert(&self, proof: ProofId, now: UnixTime, until: UnixTime) -> BoxFuture<'_, Insertion> {
        self.asked
            .lock()
            .unwrap()
            .push((proof, now.as_secs(), until.as_secs()));
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
    let scene = Scene::with(Dpop::new(remote));
    let outcome = scene.send().await;
    assert_eq!(
        (outcome.response.status().as_u16(), outcome.reached),
        (503, false)
    );
    let asked = remote.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 1);
    assert_eq!((asked[0].1, asked[0].2), (NOW, NOW + 300));
}

/// Several nodes of one origin with one store.
struct Shared(&'static MemoryReplayStore);

impl ReplayStore for Shared {
    fn insert(&self, proof: ProofId, now: UnixTime, until: UnixTime) -> BoxFuture<'_, Insertion> {
        self.0.insert(proof, now, until)
    }
}

#[tokio::test]
async fn nodes_that_share_a_store_share_its_memory_and_others_do_not() {
    let store: &MemoryReplayStore = Box::leak(Box::default());
    let (one, two) = (
        Scene::with(Dpop::new(Shared(store))),
        Scene::with(Dpop::new(Shared(store))),
    );
    assert!(one.send().await.has_passed());
    assert_eq!(dpop_check(&two.send().await), Some(DpopCheck::Replay));
    assert!(Scene::new().send().await.has_passed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_concurrent_requests_with_one_proof_exactly_one_passes() {
    for _ in 0..20 {
        let scene = Arc::new(Scene::new());
        let tasks: Vec<_> = (0..16)
            .map(|_| {
                let scene = scene.clone();
                tokio::spawn(async move { dpop_check(&scene.send().await) })
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
