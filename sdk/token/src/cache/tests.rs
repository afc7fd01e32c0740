//! Tests of the cache, with an issuer whose answers and a clock whose time the test sets.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bowline_http_client::AccessToken;
use bowline_http_client::bind::TokenSourceId;
use futures_util::future::join_all;
use tokio::sync::Semaphore;

use super::*;
use crate::OAuthErrorCode;

/// Issues `token-1`, `token-2`, ... for 100 s, once the test permits.
struct TestIssuer {
    clock: TestClock,
    /// One permit for each answer.
    may_answer: Semaphore,
    asked: AtomicU32,
    /// What to answer instead.
    failures: Mutex<VecDeque<Error>>,
}

#[derive(Clone, Default)]
struct TestClock(Arc<AtomicU64>);

impl TestClock {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + self.0.load(Ordering::SeqCst))
    }

    fn set(&self, seconds: u64) {
        self.0.store(seconds, Ordering::SeqCst);
    }
}

const LIFETIME: u64 = 100;
/// When a token is to be refreshed, and when it is stale, in seconds after it was issued.
const REFRESH: u64 = 70;
const STALE: u64 = 95;

impl TokenIssuer for TestIssuer {
    fn issue(
        self: Arc<Self>,
        _: Certificate,
        _: Trigger,
    ) -> BoxFuture<'static, Result<CachedToken, Error>> {
        Box::pin(async move {
            let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
            self.may_answer
                .acquire()
                .await
                .expect("never closed")
                .forget();
            let failure = self.failures.lock().unwrap().pop_front();
            if let Some(error) = failure {
                assert_ne!(error.to_string(), PANIC, "as the test wants");
                return Err(error);
            }
            let at = |seconds| Some(self.clock.now() + Duration::from_secs(seconds));
            let access = AccessToken::new(format!("token-{number}")).unwrap();
            let token = Token::new(access, TokenSourceId(1)).expiring_at(at(LIFETIME).unwrap());
            let times = Times {
                refresh_at: at(REFRESH),
                stale_at: at(STALE),
            };
            Ok(CachedToken::new(token, times))
        })
    }
}

const PANIC: &str = "panic";

struct Fixture {
    cache: Arc<Cache<TestIssuer>>,
    issuer: Arc<TestIssuer>,
    clock: TestClock,
}

impl Fixture {
    /// An issuer that answers at once.
    fn new() -> Self {
        let fixture = Self::slow();
        fixture.issuer.may_answer.add_permits(10_000);
        fixture
    }

    /// An issuer that answers when the test permits.
    fn slow() -> Self {
        let clock = TestClock::default();
        let issuer = Arc::new(TestIssuer {
            clock: clock.clone(),
            may_answer: Semaphore::new(0),
            asked: AtomicU32::new(0),
            failures: Mutex::default(),
        });
        let backoff = Backoff {
            first: Duration::from_secs(1),
            max: Duration::from_secs(60),
        };
        let time = clock.clone();
        let cache = Cache::new(issuer.clone(), Clock::from_fn(move || time.now()), backoff);
        Self {
            cache: Arc::new(cache),
            issuer,
            clock,
        }
    }

    async fn ask(&self) -> Result<String, Error> {
        let token = self.cache.token(Certificate::NONE).await?;
        Ok(token.access_token().secret().to_owned())
    }

    fn asked(&self) -> u32 {
        self.issuer.asked.load(Ordering::SeqCst)
    }

    fn fail(&self, with: impl IntoIterator<Item = Error>) {
        self.issuer.failures.lock().unwrap().extend(with);
    }

    /// Lets background tasks finish: each turn of the runtime runs what is ready.
    async fn settle(&self) {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
}

async fn is_pending<F: Future>(future: &mut std::pin::Pin<Box<F>>) -> bool {
    std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

fn down() -> Error {
    Error::new(ErrorKind::Unavailable, "down")
}

#[tokio::test]
async fn a_thousand_callers_cost_one_request() {
    let fixture = Fixture::new();
    let tokens = join_all((0..1000).map(|_| fixture.ask())).await;
    assert!(tokens.into_iter().all(|token| token.unwrap() == "token-1"));
    fixture.clock.set(LIFETIME);
    let tokens = join_all((0..1000).map(|_| fixture.ask())).await;
    assert!(tokens.into_iter().all(|token| token.unwrap() == "token-2"));
    assert_eq!(fixture.asked(), 2);
    assert_eq!(
        (
            fixture.cache.counts().requested,
            fixture.cache.counts().handed_out
        ),
        (2, 2000)
    );
}

#[tokio::test]
async fn a_cancelled_caller_does_not_cancel_the_request_of_the_others() {
    let fixture = Arc::new(Fixture::slow());
    let spawn = || {
        let fixture = fixture.clone();
        tokio::spawn(async move { fixture.ask().await })
    };
    let (first, second) = (spawn(), spawn());
    fixture.settle().await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    fixture.issuer.may_answer.add_permits(1);
    assert_eq!(second.await.unwrap().unwrap(), "token-1");
    assert_eq!(fixture.asked(), 1);
}

#[tokio::test]
async fn a_request_whose_callers_are_all_cancelled_still_stores_its_token() {
    let fixture = Fixture::slow();
    assert!(is_pending(&mut Box::pin(fixture.ask())).await);
    fixture.issuer.may_answer.add_permits(1);
    fixture.settle().await;
    assert_eq!(fixture.ask().await.unwrap(), "token-1");
    assert_eq!(fixture.asked(), 1);
}

#[tokio::test]
async fn a_token_is_refreshed_in_the_background_while_it_is_handed_out() {
    let fixture = Fixture::slow();
    fixture.issuer.may_answer.add_permits(1);
    assert_eq!(fixture.ask().await.unwrap(), "token-1");
    fixture.clock.set(REFRESH - 1);
    fixture.ask().await.unwrap();
    fixture.settle().await;
    assert_eq!(fixture.asked(), 1, "not due yet");
    fixture.clock.set(REFRESH);
    for _ in 0..100 {
        assert_eq!(fixture.ask().await.unwrap(), "token-1", "no caller waits");
    }
    fixture.settle().await;
    assert_eq!(fixture.asked(), 2, "and one request is under way");
    fixture.issuer.may_answer.add_permits(1);
    fixture.settle().await;
    assert_eq!(fixture.ask().await.unwrap(), "token-2");
}

#[tokio::test]
async fn a_stale_token_is_handed_out_only_if_the_request_for_the_next_one_fails() {
    let fixture = Fixture::new();
    fixture.ask().await.unwrap();
    fixture.clock.set(STALE);
    fixture.fail([down()]);
    assert_eq!(fixture.ask().await.unwrap(), "token-1");
    fixture.clock.set(STALE + 1);
    assert_eq!(fixture.ask().await.unwrap(), "token-3");
}

/// Ten seconds, in steps of a tenth, with a hundred callers each.
async fn ten_seconds_down(fixture: &Fixture, from: u64) -> Vec<Result<String, Error>> {
    let mut answers = Vec::new();
    for second in from..from + 10 {
        fixture.clock.set(second);
        for _ in 0..10 {
            answers.extend(join_all((0..100).map(|_| fixture.ask())).await);
            fixture.settle().await;
        }
    }
    answers
}

#[tokio::test]
async fn ten_seconds_of_failure_cost_four_requests_and_give_the_same_error() {
    let fixture = Fixture::new();
    fixture.fail((0..100).map(|_| down()));
    let answers = ten_seconds_down(&fixture, 0).await;
    assert_eq!(answers.len(), 10_000);
    for answer in answers {
        let error = answer.unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (ErrorKind::Unavailable, "down")
        );
        assert!(error.is_worth_another_try());
    }
    // At 0, 1, 3 and 7 s; the next would be at 15 s.
    assert_eq!(fixture.asked(), 4);
    fixture.issuer.failures.lock().unwrap().clear();
    fixture.clock.set(14);
    fixture.ask().await.unwrap_err();
    fixture.clock.set(15);
    assert_eq!(fixture.ask().await.unwrap(), "token-5");
}

#[tokio::test]
async fn a_valid_token_is_handed_out_through_ten_seconds_of_failure() {
    let fixture = Fixture::new();
    fixture.ask().await.unwrap();
    fixture.fail((0..100).map(|_| down()));
    let answers = ten_seconds_down(&fixture, REFRESH).await;
    assert!(
        answers
            .into_iter()
            .all(|answer| answer.unwrap() == "token-1")
    );
    assert_eq!(fixture.asked(), 1 + 4);
    assert_eq!(fixture.cache.counts().errors, 0);
    // Until it has expired.
    fixture.clock.set(LIFETIME);
    fixture.ask().await.unwrap_err();
}

#[tokio::test]
async fn a_success_ends_the_pauses() {
    let fixture = Fixture::new();
    fixture.fail([down(), down()]);
    for second in [0, 1] {
        fixture.clock.set(second);
        fixture.ask().await.unwrap_err();
    }
    fixture.clock.set(3);
    fixture.ask().await.unwrap();
    fixture.fail([down()]);
    fixture.clock.set(3 + LIFETIME);
    fixture.ask().await.unwrap_err();
    fixture.clock.set(3 + LIFETIME + 1);
    fixture.ask().await.unwrap();
}

#[tokio::test]
async fn retry_after_is_honoured_up_to_an_hour() {
    let after = |seconds| down().with_retry_after(Some(Duration::from_secs(seconds)));
    for (said, pause) in [(0, 1), (30, 30), (86_400, 3600)] {
        let fixture = Fixture::new();
        fixture.fail([after(said)]);
        fixture.ask().await.unwrap_err();
        fixture.clock.set(pause - 1);
        let error = fixture.ask().await.unwrap_err();
        assert_eq!(error.retry_after(), Some(Duration::from_secs(said)));
        fixture.clock.set(pause);
        fixture.ask().await.unwrap();
        assert_eq!(fixture.asked(), 2, "{said}");
    }
}

#[tokio::test]
async fn an_error_of_configuration_is_followed_by_the_longest_pause() {
    let fixture = Fixture::new();
    fixture.fail([Error::new(
        ErrorKind::Refused(OAuthErrorCode::InvalidClient),
        "unknown client",
    )]);
    for second in [0, 1, 30, 59] {
        fixture.clock.set(second);
        let error = fixture.ask().await.unwrap_err();
        assert!(!error.is_worth_another_try());
    }
    assert_eq!(fixture.asked(), 1);
    fixture.clock.set(60);
    fixture.ask().await.unwrap();
}

#[tokio::test]
async fn a_clock_that_is_set_back_ends_the_pause() {
    let fixture = Fixture::new();
    fixture.clock.set(1000);
    fixture.fail([down()]);
    fixture.ask().await.unwrap_err();
    fixture.clock.set(0);
    fixture.ask().await.unwrap();
}

#[tokio::test]
async fn a_refused_token_is_replaced_at_most_once_a_minute() {
    let fixture = Fixture::new();
    let first = fixture.cache.token(Certificate::NONE).await.unwrap();
    // A thousand requests were refused with it.
    for _ in 0..1000 {
        fixture.cache.refused(&first);
    }
    let second = fixture.cache.token(Certificate::NONE).await.unwrap();
    assert_eq!(second.access_token().secret(), "token-2");
    fixture.cache.refused(&first);
    for second_now in [1, 59] {
        fixture.clock.set(second_now);
        fixture.cache.refused(&second);
        assert_eq!(fixture.ask().await.unwrap(), "token-2");
    }
    assert_eq!((fixture.asked(), fixture.cache.counts().refused), (2, 1));
    fixture.clock.set(60);
    fixture.cache.refused(&second);
    assert_eq!(fixture.ask().await.unwrap(), "token-3");
}

#[tokio::test]
async fn a_refused_token_is_handed_out_if_the_request_for_another_fails() {
    let fixture = Fixture::new();
    let first = fixture.cache.token(Certificate::NONE).await.unwrap();
    fixture.fail([down()]);
    fixture.cache.refused(&first);
    assert_eq!(fixture.ask().await.unwrap(), "token-1");
    assert_eq!(fixture.ask().await.unwrap(), "token-1");
    assert_eq!(fixture.asked(), 2, "and it is asked for with pauses");
    fixture.clock.set(1);
    assert_eq!(fixture.ask().await.unwrap(), "token-3");
}

#[tokio::test]
async fn an_issuer_that_panics_fails_the_waiting_callers_and_no_later_ones() {
    let fixture = Fixture::new();
    fixture.fail([Error::new(ErrorKind::Unavailable, PANIC)]);
    let error = fixture.ask().await.unwrap_err();
    assert!(error.to_string().contains("panicked"), "{error}");
    fixture.clock.set(1);
    assert_eq!(fixture.ask().await.unwrap(), "token-2");
}

#[test]
fn a_runtime_that_is_shut_down_during_a_request_leaves_no_caller_waiting() {
    let fixture = Fixture::slow();
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
    };
    let first = runtime();
    let mut asking = Box::pin(fixture.ask());
    first.block_on(async {
        assert!(is_pending(&mut asking).await);
        fixture.settle().await;
    });
    drop(first);
    let second = runtime();
    let error = second.block_on(asking).unwrap_err();
    assert!(error.to_string().contains("shut down"), "{error}");
    fixture.issuer.may_answer.add_permits(1);
    fixture.clock.set(1);
    assert_eq!(second.block_on(fixture.ask()).unwrap(), "token-2");
}

#[test]
fn outside_a_runtime_there_is_an_error_and_no_panic() {
    let fixture = Fixture::new();
    let error = fixture.ask().now_or_never().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
}

/// What a source tells, as short texts.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl crate::Observer for Told {
    fn event(&self, event: &Event<'_>) {
        let text = match event {
            Event::Obtained {
                reason,
                is_new,
                expires_at,
            } => {
                let begin = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
                let expires_at = expires_at.and_then(|at| at.duration_since(begin).ok());
                let expires_at = expires_at.expect("it expires").as_secs();
                format!("obtained {} {is_new} {expires_at}", reason.label())
            }
            Event::Failed { reason, error } => {
                format!("failed {} {}", reason.label(), error.kind().label())
            }
            Event::HandedOut => "handed out".to_owned(),
            Event::NotHandedOut(error) => format!("error {}", error.kind().label()),
            Event::Refused => "refused".to_owned(),
        };
        self.0.lock().unwrap().push(text);
    }
}

#[tokio::test]
async fn an_observer_hears_what_happens_in_its_order() {
    let Fixture {
        cache,
        issuer,
        clock,
    } = Fixture::new();
    let told = Arc::new(Told::default());
    let cache = Arc::into_inner(cache).expect("nobody else has it");
    let fixture = Fixture {
        cache: Arc::new(cache.observed(Observed(Some(told.clone())))),
        issuer,
        clock,
    };
    let heard = || std::mem::take(&mut *told.0.lock().unwrap());
    let token = fixture.cache.token(Certificate::NONE).await.unwrap();
    assert_eq!(heard(), ["obtained missing true 100", "handed out"]);
    fixture.ask().await.unwrap();
    assert_eq!(heard(), ["handed out"]);
    fixture.cache.refused(&token);
    fixture.ask().await.unwrap();
    assert_eq!(
        heard(),
        ["refused", "obtained refused true 100", "handed out"]
    );
    // A refresh that fails costs no caller anything; what follows does.
    fixture.fail([down()]);
    fixture.clock.set(REFRESH);
    fixture.ask().await.unwrap();
    fixture.settle().await;
    assert_eq!(heard(), ["handed out", "failed refresh unavailable"]);
    fixture.clock.set(LIFETIME);
    let refused = ErrorKind::Refused(OAuthErrorCode::InvalidGrant);
    fixture.fail([Error::new(refused, "no more")]);
    fixture.ask().await.unwrap_err();
    assert_eq!(
        heard(),
        ["failed missing invalid_grant", "error invalid_grant"]
    );
}
