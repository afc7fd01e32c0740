//! The cache's claims, with an issuer whose answers and a clock whose hands the test moves.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bowline_client::AccessToken;
use bowline_client::bind::TokenSourceId;
use futures_util::future::join_all;
use tokio::sync::Semaphore;

use super::*;
use crate::OAuthErrorCode;

/// Issues `token-1`, `token-2`, ... for 100 s, once it is let.
struct Mint {
    clock: Hands,
    /// One permit for each answer.
    may_answer: Semaphore,
    asked: AtomicU32,
    /// What to answer instead.
    failures: Mutex<VecDeque<Error>>,
}

#[derive(Clone, Default)]
struct Hands(Arc<AtomicU64>);

impl Hands {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + self.0.load(Ordering::SeqCst))
    }

    fn set(&self, seconds: u64) {
        self.0.store(seconds, Ordering::SeqCst);
    }
}

const LIFETIME: u64 = 100;
/// When a token is due, and when it is late, in seconds of its life.
const DUE: u64 = 70;
const LATE: u64 = 95;

impl TokenIssuer for Mint {
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
            Ok(CachedToken {
                token: Token::new(access, TokenSourceId(1)).expiring_at(at(LIFETIME).unwrap()),
                times: Times {
                    refresh_at: at(DUE),
                    stale_at: at(LATE),
                },
                is_refused: false,
            })
        })
    }
}

const PANIC: &str = "panic";

struct Stage {
    cache: Arc<Cache<Mint>>,
    mint: Arc<Mint>,
    hands: Hands,
}

impl Stage {
    /// Answers at once.
    fn new() -> Self {
        let stage = Self::slow();
        stage.mint.may_answer.add_permits(10_000);
        stage
    }

    /// Answers when it is let.
    fn slow() -> Self {
        let hands = Hands::default();
        let mint = Arc::new(Mint {
            clock: hands.clone(),
            may_answer: Semaphore::new(0),
            asked: AtomicU32::new(0),
            failures: Mutex::default(),
        });
        let backoff = Backoff {
            first: Duration::from_secs(1),
            max: Duration::from_secs(60),
        };
        let clock = hands.clone();
        let cache = Cache::new(mint.clone(), Clock::from_fn(move || clock.now()), backoff);
        Self {
            cache: Arc::new(cache),
            mint,
            hands,
        }
    }

    async fn ask(&self) -> Result<String, Error> {
        let token = self.cache.token(Certificate::NONE).await?;
        Ok(token.access_token().secret().to_owned())
    }

    fn asked(&self) -> u32 {
        self.mint.asked.load(Ordering::SeqCst)
    }

    fn fail(&self, with: impl IntoIterator<Item = Error>) {
        self.mint.failures.lock().unwrap().extend(with);
    }

    /// Lets what runs in the background come to its end: each turn of the runtime runs what is
    /// ready.
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
    let stage = Stage::new();
    let tokens = join_all((0..1000).map(|_| stage.ask())).await;
    assert!(tokens.into_iter().all(|token| token.unwrap() == "token-1"));
    stage.hands.set(LIFETIME);
    let tokens = join_all((0..1000).map(|_| stage.ask())).await;
    assert!(tokens.into_iter().all(|token| token.unwrap() == "token-2"));
    assert_eq!(stage.asked(), 2);
    assert_eq!(
        (
            stage.cache.counts().requested,
            stage.cache.counts().handed_out
        ),
        (2, 2000)
    );
}

#[tokio::test]
async fn a_caller_that_goes_away_takes_nothing_from_the_others() {
    let stage = Arc::new(Stage::slow());
    let spawn = || {
        let stage = stage.clone();
        tokio::spawn(async move { stage.ask().await })
    };
    let (first, second) = (spawn(), spawn());
    stage.settle().await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    stage.mint.may_answer.add_permits(1);
    assert_eq!(second.await.unwrap().unwrap(), "token-1");
    assert_eq!(stage.asked(), 1);
}

#[tokio::test]
async fn a_request_that_all_callers_have_left_still_brings_its_token() {
    let stage = Stage::slow();
    assert!(is_pending(&mut Box::pin(stage.ask())).await);
    stage.mint.may_answer.add_permits(1);
    stage.settle().await;
    assert_eq!(stage.ask().await.unwrap(), "token-1");
    assert_eq!(stage.asked(), 1);
}

#[tokio::test]
async fn a_due_token_is_replaced_while_it_is_handed_out() {
    let stage = Stage::slow();
    stage.mint.may_answer.add_permits(1);
    assert_eq!(stage.ask().await.unwrap(), "token-1");
    stage.hands.set(DUE - 1);
    stage.ask().await.unwrap();
    stage.settle().await;
    assert_eq!(stage.asked(), 1, "not due yet");
    stage.hands.set(DUE);
    for _ in 0..100 {
        assert_eq!(stage.ask().await.unwrap(), "token-1", "nobody waits");
    }
    stage.settle().await;
    assert_eq!(stage.asked(), 2, "and one request is under way");
    stage.mint.may_answer.add_permits(1);
    stage.settle().await;
    assert_eq!(stage.ask().await.unwrap(), "token-2");
}

#[tokio::test]
async fn a_late_token_is_handed_out_only_if_no_other_can_be_had() {
    let stage = Stage::new();
    stage.ask().await.unwrap();
    stage.hands.set(LATE);
    stage.fail([down()]);
    assert_eq!(stage.ask().await.unwrap(), "token-1");
    stage.hands.set(LATE + 1);
    assert_eq!(stage.ask().await.unwrap(), "token-3");
}

/// Ten seconds, in steps of a tenth, with a hundred callers each.
async fn ten_seconds_down(stage: &Stage, from: u64) -> Vec<Result<String, Error>> {
    let mut answers = Vec::new();
    for second in from..from + 10 {
        stage.hands.set(second);
        for _ in 0..10 {
            answers.extend(join_all((0..100).map(|_| stage.ask())).await);
            stage.settle().await;
        }
    }
    answers
}

#[tokio::test]
async fn ten_seconds_of_failure_are_one_error_and_four_requests() {
    let stage = Stage::new();
    stage.fail((0..100).map(|_| down()));
    let answers = ten_seconds_down(&stage, 0).await;
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
    assert_eq!(stage.asked(), 4);
    stage.mint.failures.lock().unwrap().clear();
    stage.hands.set(14);
    stage.ask().await.unwrap_err();
    stage.hands.set(15);
    assert_eq!(stage.ask().await.unwrap(), "token-5");
}

#[tokio::test]
async fn who_has_a_valid_token_does_not_notice_ten_seconds_of_failure() {
    let stage = Stage::new();
    stage.ask().await.unwrap();
    stage.fail((0..100).map(|_| down()));
    let answers = ten_seconds_down(&stage, DUE).await;
    assert!(
        answers
            .into_iter()
            .all(|answer| answer.unwrap() == "token-1")
    );
    assert_eq!(stage.asked(), 1 + 4);
    assert_eq!(stage.cache.counts().errors, 0);
    // Until it has expired.
    stage.hands.set(LIFETIME);
    stage.ask().await.unwrap_err();
}

#[tokio::test]
async fn a_success_ends_the_pauses() {
    let stage = Stage::new();
    stage.fail([down(), down()]);
    for second in [0, 1] {
        stage.hands.set(second);
        stage.ask().await.unwrap_err();
    }
    stage.hands.set(3);
    stage.ask().await.unwrap();
    stage.fail([down()]);
    stage.hands.set(3 + LIFETIME);
    stage.ask().await.unwrap_err();
    stage.hands.set(3 + LIFETIME + 1);
    stage.ask().await.unwrap();
}

#[tokio::test]
async fn a_server_is_asked_again_when_it_said_so_within_reason() {
    let after = |seconds| down().with_retry_after(Some(Duration::from_secs(seconds)));
    for (said, pause) in [(0, 1), (30, 30), (86_400, 3600)] {
        let stage = Stage::new();
        stage.fail([after(said)]);
        stage.ask().await.unwrap_err();
        stage.hands.set(pause - 1);
        let error = stage.ask().await.unwrap_err();
        assert_eq!(error.retry_after(), Some(Duration::from_secs(said)));
        stage.hands.set(pause);
        stage.ask().await.unwrap();
        assert_eq!(stage.asked(), 2, "{said}");
    }
}

#[tokio::test]
async fn what_somebody_must_change_first_is_not_asked_again_soon() {
    let stage = Stage::new();
    stage.fail([Error::new(
        ErrorKind::Refused(OAuthErrorCode::InvalidClient),
        "nobody knows you",
    )]);
    for second in [0, 1, 30, 59] {
        stage.hands.set(second);
        let error = stage.ask().await.unwrap_err();
        assert!(!error.is_worth_another_try());
    }
    assert_eq!(stage.asked(), 1);
    stage.hands.set(60);
    stage.ask().await.unwrap();
}

#[tokio::test]
async fn a_clock_that_is_set_back_prolongs_no_pause() {
    let stage = Stage::new();
    stage.hands.set(1000);
    stage.fail([down()]);
    stage.ask().await.unwrap_err();
    stage.hands.set(0);
    stage.ask().await.unwrap();
}

#[tokio::test]
async fn a_refused_token_is_replaced_once_and_not_again_and_again() {
    let stage = Stage::new();
    let first = stage.cache.token(Certificate::NONE).await.unwrap();
    // A thousand requests were refused with it.
    for _ in 0..1000 {
        stage.cache.refused(&first);
    }
    let second = stage.cache.token(Certificate::NONE).await.unwrap();
    assert_eq!(second.access_token().secret(), "token-2");
    stage.cache.refused(&first);
    for second_now in [1, 59] {
        stage.hands.set(second_now);
        stage.cache.refused(&second);
        assert_eq!(stage.ask().await.unwrap(), "token-2");
    }
    assert_eq!((stage.asked(), stage.cache.counts().refused), (2, 1));
    stage.hands.set(60);
    stage.cache.refused(&second);
    assert_eq!(stage.ask().await.unwrap(), "token-3");
}

#[tokio::test]
async fn a_refused_token_is_better_than_none() {
    let stage = Stage::new();
    let first = stage.cache.token(Certificate::NONE).await.unwrap();
    stage.fail([down()]);
    stage.cache.refused(&first);
    assert_eq!(stage.ask().await.unwrap(), "token-1");
    assert_eq!(stage.ask().await.unwrap(), "token-1");
    assert_eq!(stage.asked(), 2, "and it is asked for with pauses");
    stage.hands.set(1);
    assert_eq!(stage.ask().await.unwrap(), "token-3");
}

#[tokio::test]
async fn an_issuer_that_panics_fails_those_who_wait_and_nobody_after_them() {
    let stage = Stage::new();
    stage.fail([Error::new(ErrorKind::Unavailable, PANIC)]);
    let error = stage.ask().await.unwrap_err();
    assert!(error.to_string().contains("panicked"), "{error}");
    stage.hands.set(1);
    assert_eq!(stage.ask().await.unwrap(), "token-2");
}

#[test]
fn a_runtime_that_ends_under_way_leaves_nobody_waiting() {
    let stage = Stage::slow();
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
    };
    let first = runtime();
    let mut asking = Box::pin(stage.ask());
    first.block_on(async {
        assert!(is_pending(&mut asking).await);
        stage.settle().await;
    });
    drop(first);
    let second = runtime();
    let error = second.block_on(asking).unwrap_err();
    assert!(error.to_string().contains("shut down"), "{error}");
    stage.mint.may_answer.add_permits(1);
    stage.hands.set(1);
    assert_eq!(second.block_on(stage.ask()).unwrap(), "token-2");
}

#[test]
fn outside_a_runtime_there_is_an_error_and_no_panic() {
    let stage = Stage::new();
    let error = stage.ask().now_or_never().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
}
