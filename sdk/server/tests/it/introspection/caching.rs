//! How long introspection responses are cached, and how many requests are made.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bowline_server::{
    Clock, ExpectedClaims, IntrospectionValidator, TokenErrorKind, TokenValidator,
};
use futures_util::FutureExt;
use rustls_pki_types::UnixTime;
use serde_json::json;

use super::{Introspector, active, active_but, opaque, outcome};
use crate::authority::AUDIENCE;
use crate::fixture::*;

const DAY: Duration = Duration::from_secs(86_400);

/// A time of day that advances only when the test says so, so that no test has to wait.
struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    fn new() -> Self {
        Self(Arc::new(AtomicU64::new(UnixTime::now().as_secs())))
    }

    fn now(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }

    fn clock(&self) -> Clock {
        let now = self.0.clone();
        Clock::from_fn(move || {
            UnixTime::since_unix_epoch(Duration::from_secs(now.load(Ordering::SeqCst)))
        })
    }
}

#[tokio::test]
async fn a_token_is_introspected_once_for_any_number_of_concurrent_requests() {
    let fixture = Fixture::new();
    let authority = Introspector::start(&fixture, active()).await;
    let validator = authority.builder(&fixture).build();
    for token in ["one", "two"] {
        let tasks: Vec<_> = (0..50)
            .map(|_| {
                let validator = validator.clone();
                tokio::spawn(async move { outcome(&validator, &opaque(token)).await.is_ok() })
            })
            .collect();
        for task in tasks {
            assert!(within(task).await.unwrap());
        }
    }
    assert_eq!(authority.request_count(), 2);
}

#[tokio::test]
async fn a_valid_response_is_cached_for_its_time_and_a_revoked_token_passes_no_longer() {
    let (fixture, clock) = (Fixture::new(), ManualClock::new());
    let authority = Introspector::start(&fixture, active()).await;
    let validator = authority
        .builder(&fixture)
        .clock(clock.clock())
        .cache_valid(Duration::from_secs(60))
        .build();
    let token = opaque("token");
    assert!(outcome(&validator, &token).await.is_ok());
    authority.respond_with(json!({ "active": false }));
    clock.advance(59);
    assert!(outcome(&validator, &token).await.is_ok());
    assert_eq!(authority.request_count(), 1);
    clock.advance(1);
    assert_eq!(
        outcome(&validator, &token).await.unwrap_err().0,
        TokenErrorKind::Invalid
    );
    assert_eq!(authority.request_count(), 2);
}

#[tokio::test]
async fn no_response_is_cached_past_the_expiry_of_its_token() {
    let (fixture, clock) = (Fixture::new(), ManualClock::new());
    let expires_at = clock.now() + 100;
    let authority = Introspector::start(&fixture, active_but("exp", expires_at.into())).await;
    let expected = ExpectedClaims::new(AUDIENCE).leeway(Duration::ZERO);
    let validator = authority
        .builder_with(&fixture, expected)
        .clock(clock.clock())
        .cache_valid(DAY)
        .build();
    let token = opaque("token");
    for _ in 0..2 {
        assert!(outcome(&validator, &token).await.is_ok());
    }
    assert_eq!(authority.request_count(), 1);
    clock.advance(100);
    let (kind, detail) = outcome(&validator, &token).await.unwrap_err();
    assert_eq!(
        (kind, &*detail),
        (TokenErrorKind::Invalid, "the access token has expired")
    );
    // Within the leeway the token passes, and each time it is introspected again.
    let lenient = authority
        .builder(&fixture)
        .clock(clock.clock())
        .cache_valid(DAY)
        .build();
    let before = authority.request_count();
    for _ in 0..3 {
        assert!(outcome(&lenient, &token).await.is_ok());
    }
    assert_eq!(authority.request_count() - before, 3);
}

#[tokio::test]
async fn an_invalid_response_is_cached_briefly() {
    let (fixture, clock) = (Fixture::new(), ManualClock::new());
    let authority = Introspector::start(&fixture, json!({ "active": false })).await;
    let validator = authority
        .builder(&fixture)
        .clock(clock.clock())
        .cache_invalid(Duration::from_secs(5))
        .build();
    let token = opaque("token");
    for _ in 0..3 {
        assert_eq!(
            outcome(&validator, &token).await.unwrap_err().0,
            TokenErrorKind::Invalid
        );
    }
    assert_eq!(authority.request_count(), 1);
    authority.respond_with(active());
    clock.advance(4);
    assert!(outcome(&validator, &token).await.is_err());
    clock.advance(1);
    assert!(outcome(&validator, &token).await.is_ok());
}

#[tokio::test]
async fn a_failure_is_cached_for_a_second_or_for_as_long_as_the_endpoint_says() {
    let (fixture, clock) = (Fixture::new(), ManualClock::new());
    let authority = Introspector::start(&fixture, active()).await;
    for (said, pause) in [("never", 1), ("30", 30), ("86400", 60), ("0", 1)] {
        let endpoint = authority.endpoint(&fixture, &format!("/busy/{said}"));
        let validator = IntrospectionValidator::builder(ExpectedClaims::new(AUDIENCE), endpoint)
            .clock(clock.clock())
            .build();
        let ask = async || {
            let error = within(validator.validate(&opaque("token")))
                .await
                .unwrap_err();
            assert_eq!(error.kind(), TokenErrorKind::Unavailable);
            (
                error.retry_after().as_secs(),
                authority.arrived.available_permits(),
            )
        };
        let (left, before) = ask().await;
        assert_eq!(left, pause, "{said}");
        clock.advance(pause - 1);
        assert_eq!(ask().await, (1, before), "{said}: no new request yet");
        clock.advance(1);
        assert_eq!(ask().await, (pause, before + 1), "{said}");
    }
}

/// A validator whose questions are answered when the test opens the gate.
fn gated(authority: &Introspector, fixture: &Fixture) -> IntrospectionValidator {
    IntrospectionValidator::builder(
        ExpectedClaims::new(AUDIENCE),
        authority.endpoint(fixture, "/gated"),
    )
    .timeout(HANG)
    .build()
}

/// A request that is reset takes its future along, and with it, if the future held them, the slot
/// and the question.
#[tokio::test]
async fn a_question_is_asked_once_however_many_of_its_callers_are_cancelled() {
    let fixture = Fixture::new();
    let authority = Introspector::start(&fixture, active()).await;
    let validator = gated(&authority, &fixture);
    let token = opaque("token");
    // Each caller waits for the answer, then goes away before there is one.
    let mut first = Box::pin(validator.validate(&token));
    tokio::select! {
        _ = &mut first => panic!("answered before the gate is open"),
        arrived = within(authority.arrived.acquire()) => arrived.unwrap().forget(),
    }
    drop(first);
    for _ in 0..20 {
        assert!(validator.validate(&token).now_or_never().is_none());
        // Time for a second question to arrive, if one is asked.
        outcome(&authority.builder(&fixture).build(), &opaque("other"))
            .await
            .unwrap();
    }
    assert_eq!(authority.arrived.available_permits(), 0, "asked again");
    // Nobody waits, and the answer is filed all the same.
    authority.gate.add_permits(1);
    within(outcome(&validator, &token)).await.unwrap();
    within(outcome(&validator, &token)).await.unwrap();
    assert_eq!(authority.arrived.available_permits(), 0, "asked again");
}

/// Each cancelled caller was one that others waited for: moka's `or_insert_with` gave up after 200
/// of them, with a panic.
#[tokio::test]
async fn three_hundred_cancelled_callers_do_no_harm_to_the_one_that_waits() {
    let fixture = Fixture::new();
    let authority = Introspector::start(&fixture, active()).await;
    let validator = gated(&authority, &fixture);
    let token = opaque("token");
    let mut cancelled = Box::pin(validator.validate(&token));
    assert!((&mut cancelled).now_or_never().is_none());
    let mut waiting = Box::pin(validator.validate(&token));
    assert!((&mut waiting).now_or_never().is_none());
    for _ in 0..300 {
        let mut next = Box::pin(validator.validate(&token));
        drop(cancelled);
        assert!((&mut next).now_or_never().is_none());
        assert!((&mut waiting).now_or_never().is_none());
        cancelled = next;
    }
    authority.gate.add_permits(2);
    within(waiting).await.unwrap();
    within(cancelled).await.unwrap();
    within(authority.arrived.acquire()).await.unwrap().forget();
    assert_eq!(authority.arrived.available_permits(), 0, "asked once");
}
