//! How long answers are remembered, and how often the same is asked.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bowline_server::{
    Clock, ExpectedClaims, IntrospectionValidator, TokenErrorKind, TokenValidator,
};
use rustls_pki_types::UnixTime;
use serde_json::json;

use super::{Introspector, active, active_but, opaque, outcome};
use crate::authority::AUDIENCE;
use crate::fixture::*;

const DAY: Duration = Duration::from_secs(86_400);

/// A time of day that goes on only when it is told to: nobody waits for a test, and a test waits
/// for nobody.
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
async fn a_token_is_asked_about_once_however_many_requests_bring_it() {
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
    assert_eq!(authority.asked(), 2);
}

#[tokio::test]
async fn a_good_answer_is_remembered_for_its_time_and_a_revoked_token_no_longer() {
    let (fixture, clock) = (Fixture::new(), ManualClock::new());
    let authority = Introspector::start(&fixture, active()).await;
    let validator = authority
        .builder(&fixture)
        .clock(clock.clock())
        .remember_valid(Duration::from_secs(60))
        .build();
    let token = opaque("token");
    assert!(outcome(&validator, &token).await.is_ok());
    authority.says(json!({ "active": false }));
    clock.advance(59);
    assert!(outcome(&validator, &token).await.is_ok());
    assert_eq!(authority.asked(), 1);
    clock.advance(1);
    assert_eq!(
        outcome(&validator, &token).await.unwrap_err().0,
        TokenErrorKind::Invalid
    );
    assert_eq!(authority.asked(), 2);
}

#[tokio::test]
async fn no_answer_outlives_the_token() {
    let (fixture, clock) = (Fixture::new(), ManualClock::new());
    let expires_at = clock.now() + 100;
    let authority = Introspector::start(&fixture, active_but("exp", expires_at.into())).await;
    let expected = ExpectedClaims::new(AUDIENCE).leeway(Duration::ZERO);
    let validator = authority
        .builder_with(&fixture, expected)
        .clock(clock.clock())
        .remember_valid(DAY)
        .build();
    let token = opaque("token");
    for _ in 0..2 {
        assert!(outcome(&validator, &token).await.is_ok());
    }
    assert_eq!(authority.asked(), 1);
    clock.advance(100);
    let (kind, detail) = outcome(&validator, &token).await.unwrap_err();
    assert_eq!(
        (kind, &*detail),
        (TokenErrorKind::Invalid, "the access token has expired")
    );
    // Within the leeway the token passes, and every time because the authority says so.
    let lenient = authority
        .builder(&fixture)
        .clock(clock.clock())
        .remember_valid(DAY)
        .build();
    let before = authority.asked();
    for _ in 0..3 {
        assert!(outcome(&lenient, &token).await.is_ok());
    }
    assert_eq!(authority.asked() - before, 3);
}

#[tokio::test]
async fn a_bad_answer_is_remembered_briefly() {
    let (fixture, clock) = (Fixture::new(), ManualClock::new());
    let authority = Introspector::start(&fixture, json!({ "active": false })).await;
    let validator = authority
        .builder(&fixture)
        .clock(clock.clock())
        .remember_invalid(Duration::from_secs(5))
        .build();
    let token = opaque("token");
    for _ in 0..3 {
        assert_eq!(
            outcome(&validator, &token).await.unwrap_err().0,
            TokenErrorKind::Invalid
        );
    }
    assert_eq!(authority.asked(), 1);
    authority.says(active());
    clock.advance(4);
    assert!(outcome(&validator, &token).await.is_err());
    clock.advance(1);
    assert!(outcome(&validator, &token).await.is_ok());
}

#[tokio::test]
async fn a_failure_is_remembered_for_a_moment_or_for_as_long_as_the_endpoint_says() {
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
        assert_eq!(ask().await, (1, before), "{said}: nobody asks yet");
        clock.advance(1);
        assert_eq!(ask().await, (pause, before + 1), "{said}");
    }
}

#[tokio::test]
async fn no_more_questions_are_put_at_a_time_than_are_allowed() {
    let fixture = Fixture::new();
    let authority = Introspector::start(&fixture, active()).await;
    let validator = |path: &str| {
        IntrospectionValidator::builder(
            ExpectedClaims::new(AUDIENCE),
            authority.endpoint(&fixture, path),
        )
        .concurrency(NonZeroUsize::MIN)
        .timeout(HANG)
        .build()
    };
    let gated = validator("/gated");
    let ask = |token: &'static str| {
        let gated = gated.clone();
        tokio::spawn(async move { outcome(&gated, &opaque(token)).await })
    };
    let first = ask("one");
    within(authority.arrived.acquire()).await.unwrap().forget();
    let second = ask("two");
    // Time enough for the second one, if nothing held it back.
    let other = validator("/introspect");
    for index in 0..50 {
        outcome(&other, &opaque(&format!("token-{index}")))
            .await
            .unwrap();
    }
    assert_eq!(authority.arrived.available_permits(), 0);
    authority.gate.add_permits(2);
    for asked in [first, second] {
        within(asked).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_caller_who_goes_away_takes_nobodys_answer_along() {
    let fixture = Fixture::new();
    let authority = Introspector::start(&fixture, active()).await;
    let validator = IntrospectionValidator::builder(
        ExpectedClaims::new(AUDIENCE),
        authority.endpoint(&fixture, "/gated"),
    )
    .timeout(HANG)
    .build();
    let ask = || {
        let validator = validator.clone();
        tokio::spawn(async move { outcome(&validator, &opaque("token")).await })
    };
    let first = ask();
    within(authority.arrived.acquire()).await.unwrap().forget();
    let others = [ask(), ask()];
    // Both wait for the first one's answer.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    first.abort();
    authority.gate.add_permits(2);
    for other in others {
        within(other).await.unwrap().unwrap();
    }
}
