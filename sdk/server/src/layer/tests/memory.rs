//! What a connection remembers: proofs that passed (RS-11) and `jti` values used up (RS-9).

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bowline_proof::{Check, EXPORTER_LABEL};
use serde_json::json;

use super::world::*;
use crate::{AcceptPolicy, RequireRequestBound};

fn session_bound() -> serde_json::Value {
    json!({ "cnf": { "x5t#S256": CLIENT.thumbprint(), "tls_exp": EXPORTER_LABEL } })
}

#[tokio::test]
async fn a_reusable_proof_is_verified_once_per_connection() {
    let world = World::default();
    assert!(!world.send().await.was_cached());
    let again = world.send().await;
    assert!(again.has_passed() && again.was_cached());
}

#[tokio::test]
async fn each_token_has_its_own_remembered_proof() {
    let mut world = World::default();
    let first = (world.token.clone(), world.proof());
    world.send().await;
    world.use_token(session_bound());
    assert!(!world.send().await.was_cached());
    assert!(world.send().await.was_cached());
    // A proof that passed with one token does not pass with another.
    world.proofs = Some(vec![first.1.clone()]);
    assert_eq!(world.send().await.check(), Some(Check::TokenHash));
    world.token = first.0;
    assert!(world.send().await.was_cached());
}

#[tokio::test]
async fn only_the_very_proof_that_passed_is_taken_from_memory() {
    let mut world = World::default();
    world.send().await;
    let forged = OTHER_CLIENT.sign(&world.proof_header, &world.proof_claims);
    world.proofs = Some(vec![forged]);
    assert_eq!(world.send().await.check(), Some(Check::ProofSignature));
}

#[tokio::test]
async fn rs_11_remembers_nothing_beyond_the_connection() {
    let mut world = World::default();
    world.send().await;
    assert!(world.send().await.was_cached());
    world.facts = Some(connection(Some(&CLIENT), EXPORTER));
    assert!(!world.send().await.was_cached());
}

#[tokio::test]
async fn the_token_is_validated_every_time_even_if_its_proof_is_remembered() {
    let world = World::default();
    assert!(world.send().await.has_passed());
    world.tokens.forget(&world.token);
    assert_eq!(world.send().await.check(), Some(Check::Token));
}

#[tokio::test]
async fn memory_is_bounded_and_what_falls_out_is_verified_again() {
    let mut world = World::default();
    world.configure(|layer| layer.remembered_proofs(NonZeroUsize::MIN));
    let first = world.token.clone();
    world.send().await;
    world.use_token(session_bound());
    assert!(world.send().await.has_passed());
    assert!(world.send().await.was_cached());

    world.token = first;
    world.proof_claims["ath"] = ath(&world.token);
    let back = world.send().await;
    assert!(back.has_passed() && !back.was_cached());
}

#[tokio::test]
async fn more_tokens_than_stand_in_memory_are_remembered_by_their_digests() {
    let mut world = World::default();
    let mut pairs = Vec::new();
    for _ in 0..10 {
        world.use_token(session_bound());
        pairs.push((world.token.clone(), world.proof()));
    }
    for cached in [false, true, true] {
        for (token, proof) in &pairs {
            world.token = token.clone();
            world.proofs = Some(vec![proof.clone()]);
            assert_eq!(world.send().await.was_cached(), cached);
        }
    }
    // In whatever way the scheme is written.
    world.authorization = Some(vec![format!("bEARER  {}", world.token)]);
    assert!(world.send().await.was_cached());
    // The last pair, with one character of the proof changed; and with one more.
    world.authorization = None;
    let (_, proof) = pairs.pop().unwrap();
    for forged in [
        proof.replacen('e', "f", 1),
        format!("{proof}A"),
        proof[..proof.len() - 1].to_owned(),
    ] {
        world.proofs = Some(vec![forged]);
        let outcome = world.send().await;
        assert!(!outcome.reached && outcome.check().unwrap().id() == "RS-5");
    }
}

#[tokio::test]
async fn a_pair_too_long_to_stand_in_memory_is_remembered_by_its_digests() {
    let mut world = World::default();
    world.proof_claims["padding"] = "x".repeat(4096).into();
    for cached in [false, true, true] {
        let outcome = world.send().await;
        assert!(outcome.has_passed());
        assert_eq!(outcome.was_cached(), cached);
    }
}

#[tokio::test]
async fn rs_11_never_remembers_a_proof_with_per_request_claims() {
    for claim in ["jti", "htm", "htu"] {
        let mut world = World::default();
        world.add_request_claims("1");
        let value = world.proof_claims[claim].clone();
        for other in ["jti", "htm", "htu"] {
            world.proof_claims.as_object_mut().unwrap().remove(other);
        }
        world.proof_claims[claim] = value;
        assert!(world.send().await.has_passed(), "{claim}");
        assert!(!world.send().await.was_cached(), "{claim}");
    }
}

#[tokio::test]
async fn rs_9_takes_a_jti_once() {
    let mut world = World::default();
    world.add_request_claims("1");
    assert!(world.send().await.has_passed());
    assert_eq!(world.send().await.check(), Some(Check::Replay));
    // Nor in another proof.
    world.proof_claims["iat"] = (NOW + 1).into();
    assert_eq!(world.send().await.check(), Some(Check::Replay));
    world.add_request_claims("2");
    assert!(world.send().await.has_passed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_concurrent_requests_with_one_jti_exactly_one_passes() {
    for round in 0..20 {
        let mut world = World::default();
        world.add_request_claims(&round.to_string());
        let world = Arc::new(world);
        let tasks: Vec<_> = (0..16)
            .map(|_| {
                let world = world.clone();
                tokio::spawn(async move { world.send().await.check() })
            })
            .collect();
        let mut passed = 0;
        for task in tasks {
            match task.await.unwrap() {
                None => passed += 1,
                refused => assert_eq!(refused, Some(Check::Replay)),
            }
        }
        assert_eq!(passed, 1);
    }
}

#[tokio::test]
async fn a_request_that_is_refused_uses_up_no_jti() {
    let spoilt: [fn(&mut World); 3] = [
        |world| world.configure(|layer| layer.policy(AcceptPolicy::Require)),
        |world| {
            world.configure(|layer| layer.require_request_bound(RequireRequestBound::Always));
            world.proof_claims.as_object_mut().unwrap().remove("htm");
        },
        |world| world.proof_claims["htu"] = format!("{ORIGIN}/other").into(),
    ];
    for spoil in spoilt {
        let mut world = World::default();
        world.use_token(json!({}));
        world.add_request_claims("1");
        spoil(&mut world);
        assert!(!world.send().await.reached);

        world.configure(|layer| {
            layer
                .policy(AcceptPolicy::Follow)
                .require_request_bound(RequireRequestBound::Never)
        });
        world.add_request_claims("1");
        assert!(world.send().await.has_passed());
    }
}

#[tokio::test]
async fn a_full_quota_refuses_on_that_connection_only() {
    let mut world = World::default();
    world.configure(|layer| layer.jti_quota(2));
    for jti in ["1", "2"] {
        world.add_request_claims(jti);
        assert!(world.send().await.has_passed());
    }
    world.add_request_claims("3");
    assert_eq!(world.send().await.check(), Some(Check::ReplayQuota));
    // What was seen is still known to be seen, and reusable proofs go on.
    world.add_request_claims("1");
    assert_eq!(world.send().await.check(), Some(Check::Replay));
    for claim in ["jti", "htm", "htu"] {
        world.proof_claims.as_object_mut().unwrap().remove(claim);
    }
    assert!(world.send().await.has_passed());

    world.facts = Some(connection(Some(&CLIENT), EXPORTER));
    world.add_request_claims("3");
    assert!(world.send().await.has_passed());
}

#[tokio::test]
async fn the_connection_is_drained_when_a_tenth_of_the_quota_is_left_and_not_before() {
    let mut world = World::default();
    world.configure(|layer| layer.jti_quota(20));
    let facts = world.facts.clone().unwrap();
    let mut drain = is_ready(facts.drain_wanted());
    for jti in 1..=17 {
        world.add_request_claims(&jti.to_string());
        assert!(world.send().await.has_passed());
    }
    assert!(!drain());
    world.add_request_claims("18");
    assert!(world.send().await.has_passed());
    assert!(drain());
}

/// Polls a future now and then.
fn is_ready(future: impl Future<Output = ()>) -> impl FnMut() -> bool {
    let mut future = Box::pin(future);
    move || {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        future.as_mut().poll(&mut context).is_ready()
    }
}

#[tokio::test]
async fn a_remembered_proof_stays_good_when_its_window_has_passed() {
    let world = World::default();
    world.send().await;
    world.now.store(NOW + 24 * 60 * 60, Ordering::SeqCst);
    assert!(world.send().await.was_cached());
}
