//! What a connection stores: proofs that passed (RS-11) and `jti` values that were used (RS-9).

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bowline_proof::Check;
use serde_json::json;

use super::fixture::*;
use crate::{AcceptPolicy, Limit, RequireRequestBound, ServerEvent};

#[tokio::test]
async fn a_reusable_proof_is_verified_once_per_connection() {
    let fixture = Fixture::default();
    assert!(!fixture.send().await.was_cached());
    let again = fixture.send().await;
    assert!(again.has_passed() && again.was_cached());
}

#[tokio::test]
async fn each_token_has_its_own_cached_proof() {
    let mut fixture = Fixture::default();
    let first = (fixture.token.clone(), fixture.proof());
    fixture.send().await;
    fixture.use_token(session_bound());
    assert!(!fixture.send().await.was_cached());
    assert!(fixture.send().await.was_cached());
    // A proof that passed with one token does not pass with another.
    fixture.proofs = Some(vec![first.1.clone()]);
    assert_eq!(fixture.send().await.check(), Some(Check::TokenHash));
    fixture.token = first.0;
    assert!(fixture.send().await.was_cached());
}

#[tokio::test]
async fn only_the_same_proof_that_passed_is_taken_from_the_cache() {
    let mut fixture = Fixture::default();
    fixture.send().await;
    let forged = OTHER_CLIENT.sign(&fixture.proof_header, &fixture.proof_claims);
    fixture.proofs = Some(vec![forged]);
    assert_eq!(fixture.send().await.check(), Some(Check::ProofSignature));
}

#[tokio::test]
async fn rs_11_caches_nothing_beyond_the_connection() {
    let mut fixture = Fixture::default();
    fixture.send().await;
    assert!(fixture.send().await.was_cached());
    fixture.facts = Some(connection(Some(&CLIENT), EXPORTER));
    assert!(!fixture.send().await.was_cached());
}

#[tokio::test]
async fn the_token_is_validated_every_time_even_if_its_proof_is_cached() {
    let fixture = Fixture::default();
    assert!(fixture.send().await.has_passed());
    fixture.tokens.forget(&fixture.token);
    assert_eq!(fixture.send().await.check(), Some(Check::Token));
}

#[tokio::test]
async fn the_cache_is_bounded_and_an_evicted_proof_is_verified_again() {
    let mut fixture = Fixture::default();
    fixture.configure(|layer| layer.cached_proofs(NonZeroUsize::MIN));
    let first = fixture.token.clone();
    fixture.send().await;
    fixture.use_token(session_bound());
    assert!(fixture.send().await.has_passed());
    assert!(fixture.send().await.was_cached());

    fixture.token = first;
    fixture.proof_claims["ath"] = ath(&fixture.token);
    let back = fixture.send().await;
    assert!(back.has_passed() && !back.was_cached());
}

#[tokio::test]
async fn tokens_beyond_the_recent_pairs_are_cached_by_their_digests() {
    let mut fixture = Fixture::default();
    let mut pairs = Vec::new();
    for _ in 0..10 {
        fixture.use_token(session_bound());
        pairs.push((fixture.token.clone(), fixture.proof()));
    }
    for cached in [false, true, true] {
        for (token, proof) in &pairs {
            fixture.token = token.clone();
            fixture.proofs = Some(vec![proof.clone()]);
            assert_eq!(fixture.send().await.was_cached(), cached);
        }
    }
    // In any spelling of the scheme.
    fixture.authorization = Some(vec![format!("bEARER  {}", fixture.token)]);
    assert!(fixture.send().await.was_cached());
    // The last pair, with one character of the proof changed, added or removed.
    fixture.authorization = None;
    let (_, proof) = pairs.pop().unwrap();
    for forged in [
        proof.replacen('e', "f", 1),
        format!("{proof}A"),
        proof[..proof.len() - 1].to_owned(),
    ] {
        fixture.proofs = Some(vec![forged]);
        let outcome = fixture.send().await;
        assert!(!outcome.reached && outcome.check().unwrap().id() == "RS-5");
    }
}

#[tokio::test]
async fn a_pair_too_long_to_keep_is_cached_by_its_digests() {
    let mut fixture = Fixture::default();
    fixture.proof_claims["padding"] = "x".repeat(4096).into();
    for cached in [false, true, true] {
        let outcome = fixture.send().await;
        assert!(outcome.has_passed());
        assert_eq!(outcome.was_cached(), cached);
    }
}

#[tokio::test]
async fn rs_11_never_caches_a_proof_with_request_claims() {
    for claim in ["jti", "htm", "htu"] {
        let mut fixture = Fixture::default();
        fixture.add_request_claims("1");
        let value = fixture.proof_claims[claim].clone();
        for other in ["jti", "htm", "htu"] {
            fixture.proof_claims.as_object_mut().unwrap().remove(other);
        }
        fixture.proof_claims[claim] = value;
        assert!(fixture.send().await.has_passed(), "{claim}");
        assert!(!fixture.send().await.was_cached(), "{claim}");
    }
}

#[tokio::test]
async fn rs_9_accepts_a_jti_once() {
    let mut fixture = Fixture::default();
    fixture.add_request_claims("1");
    assert!(fixture.send().await.has_passed());
    assert_eq!(fixture.send().await.check(), Some(Check::Replay));
    // Nor does it pass in another proof.
    fixture.proof_claims["iat"] = (NOW + 1).into();
    assert_eq!(fixture.send().await.check(), Some(Check::Replay));
    fixture.add_request_claims("2");
    assert!(fixture.send().await.has_passed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_concurrent_requests_with_one_jti_exactly_one_passes() {
    for round in 0..20 {
        let mut fixture = Fixture::default();
        fixture.add_request_claims(&round.to_string());
        let fixture = Arc::new(fixture);
        let tasks: Vec<_> = (0..16)
            .map(|_| {
                let fixture = fixture.clone();
                tokio::spawn(async move { fixture.send().await.check() })
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
    let spoilt: [fn(&mut Fixture); 3] = [
        |fixture| fixture.configure(|layer| layer.policy(AcceptPolicy::RequireSession)),
        |fixture| {
            fixture.configure(|layer| layer.require_request_bound(RequireRequestBound::Always));
            fixture.proof_claims.as_object_mut().unwrap().remove("htm");
        },
        |fixture| fixture.proof_claims["htu"] = format!("{ORIGIN}/other").into(),
    ];
    for spoil in spoilt {
        let mut fixture = Fixture::default();
        fixture.use_token(json!({}));
        fixture.add_request_claims("1");
        spoil(&mut fixture);
        assert!(!fixture.send().await.reached);

        fixture.configure(|layer| {
            layer
                .policy(AcceptPolicy::Follow)
                .require_request_bound(RequireRequestBound::Never)
        });
        fixture.add_request_claims("1");
        assert!(fixture.send().await.has_passed());
    }
}

#[tokio::test]
async fn a_full_quota_refuses_on_that_connection_only() {
    let mut fixture = Fixture::default();
    fixture.configure(|layer| layer.jti_quota(2));
    for jti in ["1", "2"] {
        fixture.add_request_claims(jti);
        assert!(fixture.send().await.has_passed());
    }
    fixture.add_request_claims("3");
    assert_eq!(fixture.send().await.check(), Some(Check::ReplayQuota));
    let reached = |event: &ServerEvent| {
        matches!(
            event,
            ServerEvent::LimitReached {
                limit: Limit::JtiQuota,
                ..
            }
        )
    };
    assert!(fixture.events.lock().unwrap().iter().any(reached));
    // A used jti is still reported as used, and reusable proofs still pass.
    fixture.add_request_claims("1");
    assert_eq!(fixture.send().await.check(), Some(Check::Replay));
    for claim in ["jti", "htm", "htu"] {
        fixture.proof_claims.as_object_mut().unwrap().remove(claim);
    }
    assert!(fixture.send().await.has_passed());

    fixture.facts = Some(connection(Some(&CLIENT), EXPORTER));
    fixture.add_request_claims("3");
    assert!(fixture.send().await.has_passed());
}

#[tokio::test]
async fn the_connection_is_drained_when_a_tenth_of_the_quota_is_left_and_not_before() {
    let mut fixture = Fixture::default();
    fixture.configure(|layer| layer.jti_quota(20));
    let facts = fixture.facts.clone().unwrap();
    let mut drain = is_ready(facts.drain_wanted());
    for jti in 1..=17 {
        fixture.add_request_claims(&jti.to_string());
        assert!(fixture.send().await.has_passed());
    }
    assert!(!drain());
    fixture.add_request_claims("18");
    assert!(fixture.send().await.has_passed());
    assert!(drain());
}

/// B6 of the security review: not a fault. RS-9 checks what is present, and without `jti` nothing
/// tells a repeated proof from another one that an honest client made for the same request in the
/// same second. The proof is good on its own connection only and for its method and path; RS-12
/// asks for more.
#[tokio::test]
async fn b6_a_proof_without_jti_may_be_repeated_on_its_connection_unless_all_claims_are_required() {
    let mut fixture = Fixture::default();
    fixture.add_request_claims("1");
    fixture.proof_claims.as_object_mut().unwrap().remove("jti");
    for _ in 0..2 {
        assert!(fixture.send().await.has_passed());
    }
    fixture.method = "PUT";
    assert_eq!(fixture.send().await.check(), Some(Check::Method));
    fixture.method = "POST";
    fixture.now.store(NOW + 301, Ordering::SeqCst);
    assert_eq!(fixture.send().await.check(), Some(Check::IssuedAt));
    fixture.now.store(NOW, Ordering::SeqCst);
    let mut strict = Fixture::default();
    strict.configure(|layer| layer.require_request_bound(RequireRequestBound::Always));
    strict.add_request_claims("1");
    strict.proof_claims.as_object_mut().unwrap().remove("jti");
    assert_eq!(
        strict.send().await.check(),
        Some(Check::RequestClaimsRequired)
    );
}

/// RS-8 refuses an older proof anyway, so what a connection stores does not grow with its age.
#[tokio::test]
async fn a_jti_is_dropped_when_rs_8_would_refuse_its_proof_and_the_quota_is_of_what_is_left() {
    let mut fixture = Fixture::default();
    fixture.configure(|layer| layer.jti_quota(20));
    let facts = fixture.facts.clone().unwrap();
    let mut drain = is_ready(facts.drain_wanted());
    // 17 in each window, one proof ahead of the clock.
    for window in 0..5 {
        let now = NOW + window * 301;
        fixture.now.store(now, Ordering::SeqCst);
        fixture.proof_claims["iat"] = now.into();
        for jti in 0..17 {
            fixture.add_request_claims(&format!("{window}-{jti}"));
            assert!(fixture.send().await.has_passed());
        }
        assert!(!drain(), "drained needlessly");
    }
    // The last second in which the proof would be accepted, and the next.
    let last = NOW + 4 * 301 + 300;
    for (now, check) in [(last, Check::Replay), (last + 1, Check::IssuedAt)] {
        fixture.now.store(now, Ordering::SeqCst);
        assert_eq!(fixture.send().await.check(), Some(check));
    }
}

/// Issuer, subject and client of the token are the owner, however many connections it has.
#[tokio::test]
async fn all_connections_share_a_total_of_which_no_owner_takes_the_last_fifth() {
    let mut fixture = Fixture::default();
    fixture.configure(|layer| layer.jti_total(10));
    let token_of = |subject: &str| {
        let mut claims = session_bound();
        claims["iss"] = "https://as.example.com".into();
        claims["sub"] = subject.into();
        claims["client_id"] = "agent".into();
        claims
    };
    let mut connections = Vec::new();
    for _ in 0..8 {
        fixture.facts = Some(connection(Some(&CLIENT), EXPORTER));
        connections.push(fixture.facts.clone());
        fixture.use_token(token_of("greedy"));
        fixture.add_request_claims("1");
        assert!(fixture.send().await.has_passed());
    }
    for (subject, status) in [
        ("greedy", 503),
        ("a", 200),
        ("a", 503),
        ("b", 200),
        ("c", 503),
    ] {
        fixture.facts = Some(connection(Some(&CLIENT), EXPORTER));
        connections.push(fixture.facts.clone());
        fixture.use_token(token_of(subject));
        fixture.add_request_claims("1");
        let outcome = fixture.send().await;
        assert_eq!(outcome.response.status(), status, "{subject}");
        let limited = matches!(
            outcome.event,
            Some(ServerEvent::LimitReached {
                limit: Limit::UsedProofs,
                ..
            })
        );
        assert_eq!(limited, status == 503, "{subject}");
        assert!(!is_ready(fixture.facts.as_ref().unwrap().drain_wanted())());
    }
    // A reusable proof needs no room, and closing a connection makes some.
    for claim in ["jti", "htm", "htu"] {
        fixture.proof_claims.as_object_mut().unwrap().remove(claim);
    }
    assert!(fixture.send().await.has_passed());
    drop(connections);
    fixture.facts = Some(connection(Some(&CLIENT), EXPORTER));
    for jti in 1..=8 {
        fixture.add_request_claims(&jti.to_string());
        assert!(fixture.send().await.has_passed());
    }
    assert_eq!(fixture.send().await.check(), Some(Check::Replay));
}

/// RS-9 and RS-8 by one clock: a `jti` that was dropped is never accepted again.
#[tokio::test]
async fn a_clock_that_goes_back_brings_no_used_proof_back() {
    let mut fixture = Fixture::default();
    fixture.add_request_claims("1");
    let captured = fixture.proof();
    assert!(fixture.send().await.has_passed());
    fixture.now.store(NOW + 301, Ordering::SeqCst);
    fixture.proof_claims["iat"] = (NOW + 301).into();
    fixture.add_request_claims("2");
    assert!(fixture.send().await.has_passed());
    fixture.now.store(NOW + 241, Ordering::SeqCst);
    fixture.proofs = Some(vec![captured]);
    assert_eq!(fixture.send().await.check(), Some(Check::IssuedAt));
}

/// Polls the future each time it is called.
fn is_ready(future: impl Future<Output = ()>) -> impl FnMut() -> bool {
    let mut future = Box::pin(future);
    move || {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        future.as_mut().poll(&mut context).is_ready()
    }
}

#[tokio::test]
async fn a_cached_proof_still_passes_after_its_window() {
    let fixture = Fixture::default();
    fixture.send().await;
    fixture.now.store(NOW + 24 * 60 * 60, Ordering::SeqCst);
    assert!(fixture.send().await.was_cached());
}
