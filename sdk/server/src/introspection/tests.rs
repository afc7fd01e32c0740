//! What many callers at once make the validator ask, at an authorization server on loopback.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::routing::post;
use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::*;
use crate::owner::Owner;

/// Answers every question when the gate lets it, and counts.
struct Authority {
    url: String,
    asked: Arc<AtomicUsize>,
    /// The most questions that were under way at a time.
    most: Arc<AtomicUsize>,
    /// A permit for each question.
    arrived: Arc<Semaphore>,
    /// A question takes one of these before it is answered.
    gate: Arc<Semaphore>,
}

impl Authority {
    async fn start(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = Self {
            url: format!("http://{}/", listener.local_addr().unwrap()),
            asked: Arc::default(),
            most: Arc::default(),
            arrived: Arc::new(Semaphore::new(0)),
            gate: Arc::new(Semaphore::new(0)),
        };
        let (asked, most) = (authority.asked.clone(), authority.most.clone());
        let (arrived, gate) = (authority.arrived.clone(), authority.gate.clone());
        let under_way = Arc::new(AtomicUsize::new(0));
        let handler = move || {
            asked.fetch_add(1, Ordering::SeqCst);
            most.fetch_max(
                under_way.fetch_add(1, Ordering::SeqCst) + 1,
                Ordering::SeqCst,
            );
            arrived.add_permits(1);
            let (gate, under_way) = (gate.clone(), under_way.clone());
            async move {
                gate.acquire().await.unwrap().forget();
                under_way.fetch_sub(1, Ordering::SeqCst);
                answer
            }
        };
        let router = Router::new().route("/", post(handler));
        tokio::spawn(axum::serve(listener, router).into_future());
        authority
    }

    fn builder(&self) -> IntrospectionValidatorBuilder {
        let endpoint = IntrospectionEndpoint::new(&self.url).unwrap();
        let expected = ExpectedClaims::new("https://api.example.com");
        IntrospectionValidator::builder(expected, endpoint)
            .accept_missing_audience(true)
            .timeout(Duration::from_secs(60))
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn token(number: usize) -> AccessToken {
    AccessToken::new(format!("token-{number}")).unwrap()
}

fn requester(name: &str) -> Requester {
    Requester::new(Owner::Spiffe(name.into()))
}

#[tokio::test]
async fn no_more_questions_are_under_way_than_are_allowed_even_if_their_callers_go_away() {
    let authority = Authority::start(r#"{"active":true}"#).await;
    let concurrency = NonZeroUsize::new(2).unwrap();
    let validator = authority.builder().concurrency(concurrency).build();
    let tokens: Vec<_> = (0..20).map(token).collect();
    let mut callers: Vec<_> = tokens
        .iter()
        .map(|token| Box::pin(validator.validate(token)))
        .collect();
    // All callers wait; those whose questions are under way go away.
    for caller in &mut callers {
        assert!(caller.now_or_never().is_none());
    }
    for _ in 0..2 {
        authority.arrived.acquire().await.unwrap().forget();
    }
    callers.drain(..2);
    for _ in 0..18 {
        authority.gate.add_permits(1);
        authority.arrived.acquire().await.unwrap().forget();
    }
    authority.gate.add_permits(2);
    for answer in join_all(callers).await {
        answer.unwrap();
    }
    assert_eq!(authority.asked(), 20);
    assert_eq!(authority.most.load(Ordering::SeqCst), 2);
}

/// A question that has not been put yet costs the authorization server nothing.
#[tokio::test]
async fn a_question_that_nobody_waits_for_any_more_is_not_asked() {
    let authority = Authority::start(r#"{"active":true}"#).await;
    let validator = authority.builder().concurrency(NonZeroUsize::MIN).build();
    let (first, second, third) = (token(1), token(2), token(3));
    let mut first = Box::pin(validator.validate(&first));
    assert!((&mut first).now_or_never().is_none());
    authority.arrived.acquire().await.unwrap().forget();
    assert!(validator.validate(&second).now_or_never().is_none());
    let mut third = Box::pin(validator.validate(&third));
    assert!((&mut third).now_or_never().is_none());
    authority.gate.add_permits(2);
    first.await.unwrap();
    third.await.unwrap();
    assert_eq!(authority.asked(), 2);
    // If it is asked for again it is.
    authority.gate.add_permits(1);
    validator.validate(&second).await.unwrap();
    assert_eq!(authority.asked(), 3);
    assert!(validator.0.questions.under_way().is_empty());
}

/// All are admitted before the first answer is there.
#[tokio::test]
async fn many_made_up_tokens_at_once_are_not_asked_about_beyond_the_quota() {
    let authority = Authority::start(r#"{"active":false}"#).await;
    authority.gate.add_permits(10_000);
    let validator = authority.builder().concurrency(NonZeroUsize::MIN).build();
    let (thief, honest) = (requester("thief"), requester("honest"));
    let tokens: Vec<_> = (0..2000).map(token).collect();
    let made_up = join_all(
        tokens
            .iter()
            .map(|token| validator.validate_for(token, &thief)),
    );
    let good = token(2000);
    let (made_up, honest) = tokio::join!(made_up, validator.validate_for(&good, &honest));
    let limited = made_up
        .iter()
        .filter(|answer| answer.as_ref().unwrap_err().kind() == crate::TokenErrorKind::Limited)
        .count();
    assert!(limited > 0, "all 2000 were asked about");
    assert_eq!(authority.asked(), 2000 - limited + 1);
    assert_eq!(honest.unwrap_err().kind(), crate::TokenErrorKind::Invalid);
}

/// One that has used up its quota is refused, and the other's question is asked all the same.
#[tokio::test]
async fn a_token_that_two_clients_present_is_asked_about_for_the_one_that_may() {
    let authority = Authority::start(r#"{"active":true}"#).await;
    let validator = authority.builder().concurrency(NonZeroUsize::MIN).build();
    let (thief, honest) = (requester("thief"), requester("honest"));
    let (blocking, stolen) = (token(1), token(2));
    let mut blocking = Box::pin(validator.validate(&blocking));
    assert!((&mut blocking).now_or_never().is_none());
    // The thief's question is waiting when the quota runs out.
    let mut first = Box::pin(validator.validate_for(&stolen, &thief));
    assert!((&mut first).now_or_never().is_none());
    let mut second = Box::pin(validator.validate_for(&stolen, &honest));
    assert!((&mut second).now_or_never().is_none());
    for _ in 0..100_000 {
        validator.0.quota.charge(&thief);
    }
    authority.gate.add_permits(2);
    blocking.await.unwrap();
    let (first, second) = tokio::join!(first, second);
    assert_eq!(first.unwrap_err().kind(), crate::TokenErrorKind::Limited);
    second.unwrap();
    assert_eq!(authority.asked(), 2);
}
