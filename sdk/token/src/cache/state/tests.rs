use std::sync::{Arc, LazyLock};

use bowline_http_client::bind::TokenSourceId;
use bowline_http_client::{AccessToken, Identity};
use bowline_testkit::pki::{KeyKind, Pki};
use proptest::prelude::*;

use super::*;
use crate::ErrorKind;

static CERTIFICATES: LazyLock<[Certificate; 3]> = LazyLock::new(|| {
    let pki = Pki::new();
    let identity = || {
        let leaf = pki.client("agent", KeyKind::P256);
        Certificate(Some(Arc::new(
            Identity::new(leaf.chain(), leaf.signing_key()).unwrap(),
        )))
    };
    [Certificate::NONE, identity(), identity()]
});

/// What happens next; the number chooses the certificate.
#[derive(Clone, Debug)]
enum Action {
    Ask(usize, bool),
    /// The request under way succeeds, or fails.
    Complete(usize, bool),
    /// The resource refuses the token that was given last.
    Refuse,
    /// So many seconds pass.
    Advance(u64),
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let which = (0..3_usize, any::<bool>());
    let one = prop_oneof![
        4 => which.clone().prop_map(|(certificate, any)| Action::Ask(certificate, any)),
        2 => which.prop_map(|(certificate, succeeds)| Action::Complete(certificate, succeeds)),
        1 => Just(Action::Refuse),
        2 => (1..40_u64).prop_map(Action::Advance),
    ];
    prop::collection::vec(one, 1..200)
}

const BACKOFF: Backoff = Backoff {
    first: Duration::from_secs(1),
    max: Duration::from_secs(60),
};

fn token(number: u32, now: SystemTime) -> CachedToken {
    let at = |seconds| now + Duration::from_secs(seconds);
    let access = AccessToken::new(format!("t{number}")).unwrap();
    let times = Times {
        refresh_at: Some(at(70)),
        stale_at: Some(at(95)),
    };
    let token = Token::new(access, TokenSourceId(0)).expiring_at(at(100));
    CachedToken::new(token, times)
}

/// Found by the test below.
#[test]
fn a_failure_with_one_certificate_does_not_end_the_pause_of_another() {
    let (now, mut state) = (SystemTime::now(), CacheState::new(BACKOFF));
    for certificate in &*CERTIFICATES {
        state.started(certificate, ());
        state.completed(
            now,
            certificate,
            Err(Error::new(ErrorKind::Unavailable, "down")),
        );
    }
    for certificate in &*CERTIFICATES {
        assert!(matches!(state.step(now, certificate, true), Step::Fail(_)));
    }
}

#[test]
fn certificates_without_a_valid_token_are_forgotten_beyond_the_limit() {
    let pki = Pki::new();
    let (now, mut state) = (SystemTime::now(), CacheState::new(BACKOFF));
    for number in 0..50 {
        let leaf = pki.client("agent", KeyKind::P256);
        let certificate = Certificate(Some(Arc::new(
            Identity::new(leaf.chain(), leaf.signing_key()).unwrap(),
        )));
        state.started(&certificate, ());
        state.completed(
            now + Duration::from_secs(200 * number),
            &certificate,
            Ok(token(1, now)),
        );
        assert!(state.entries.len() <= MAX_ENTRIES + 1);
    }
}

/// A token without an end whose request uses up a refresh token.
fn settling(number: u32, now: SystemTime) -> CachedToken {
    let access = AccessToken::new(format!("t{number}")).unwrap();
    CachedToken {
        settled_at: Some(now + Duration::from_secs(30)),
        ..CachedToken::new(Token::new(access, TokenSourceId(0)), Times::NEVER)
    }
}

/// A cache with one certificate, whose tokens are replaced as soon as it says so.
struct Refusals {
    state: CacheState<()>,
    now: SystemTime,
    tokens: u32,
}

impl Refusals {
    fn new() -> Self {
        let mut refusals = Self {
            state: CacheState::new(BACKOFF),
            now: SystemTime::now(),
            tokens: 0,
        };
        refusals.issue();
        refusals
    }

    fn issue(&mut self) {
        self.tokens += 1;
        let issued = settling(self.tokens, self.now);
        self.state.started(&Certificate::NONE, ());
        self.state
            .completed(self.now, &Certificate::NONE, Ok(issued));
    }

    /// Refuses the current token a few times, so many seconds after the one before.
    fn refuse(&mut self, after: u64) -> Refusal {
        self.now += Duration::from_secs(after);
        let current = token(self.tokens, self.now).token;
        let refusal = self.state.refused(self.now, &current);
        for _ in 0..3 {
            assert_eq!(
                self.state.refused(self.now, &current),
                Refusal::Kept,
                "once"
            );
        }
        if refusal == Refusal::Replaced {
            let step = self.state.step(self.now, &Certificate::NONE, true);
            assert!(matches!(step, Step::Start(Trigger::Refused(token), _) if token == current));
            self.issue();
        }
        refusal
    }
}

#[test]
fn a_token_that_used_up_a_refresh_token_is_replaced_once_and_not_before_30_s() {
    let mut refusals = Refusals::new();
    assert_eq!(refusals.refuse(0), Refusal::Kept);
    assert_eq!(refusals.refuse(29), Refusal::Kept);
    assert_eq!(refusals.refuse(1), Refusal::Replaced);
    assert_eq!(refusals.refuse(59), Refusal::Kept, "one a minute");
    assert_eq!(refusals.refuse(1), Refusal::Replaced);
    assert_eq!(refusals.tokens, 3);
}

#[test]
fn three_refused_tokens_in_a_row_pause_and_after_it_two_more_do() {
    let mut refusals = Refusals::new();
    assert_eq!(refusals.refuse(30), Refusal::Replaced);
    assert_eq!(refusals.refuse(60), Refusal::Replaced);
    assert_eq!(refusals.refuse(0), Refusal::Paused(REFUSAL_PAUSE));
    assert_eq!(refusals.refuse(899), Refusal::Kept);
    assert_eq!(refusals.refuse(1), Refusal::Replaced);
    assert_eq!(refusals.refuse(60), Refusal::Replaced);
    assert_eq!(refusals.refuse(0), Refusal::Paused(REFUSAL_PAUSE));
}

#[test]
fn a_token_that_came_to_its_end_unrefused_ends_the_row() {
    let mut refusals = Refusals::new();
    for _ in 0..10 {
        assert_eq!(refusals.refuse(30), Refusal::Replaced);
        assert_eq!(refusals.refuse(60), Refusal::Replaced);
        // The third is not refused.
        refusals.now += Duration::from_secs(95);
        refusals.issue();
    }
}

/// What the cache should know of one certificate.
#[derive(Default)]
struct Expected {
    is_under_way: bool,
    failed_at: Option<SystemTime>,
    /// The token, and until when it is fresh; `None` if it was refused.
    fresh: Option<(Token, SystemTime)>,
}

fn down() -> Error {
    Error::new(ErrorKind::Unavailable, "down")
}

fn hold_for_all(actions: Vec<Action>) -> Result<(), TestCaseError> {
    let mut now = SystemTime::now();
    let mut state = CacheState::new(BACKOFF);
    let mut expected: [Expected; 3] = Default::default();
    let (mut last, mut tokens) = (None, 0);
    for action in actions {
        match action {
            Action::Advance(seconds) => now += Duration::from_secs(seconds),
            Action::Complete(which, _) if !expected[which].is_under_way => {}
            Action::Complete(which, succeeds) => {
                let expected = &mut expected[which];
                expected.is_under_way = false;
                tokens += 1;
                let cached = token(tokens, now);
                let issued = if succeeds {
                    let until = now + Duration::from_secs(95);
                    expected.fresh = Some((cached.token.clone(), until));
                    expected.failed_at = None;
                    Ok(cached)
                } else {
                    expected.failed_at = Some(now);
                    Err(down())
                };
                state.completed(now, &CERTIFICATES[which], issued);
            }
            Action::Refuse => {
                let Some(token) = &last else { continue };
                if state.refused(now, token) == Refusal::Replaced {
                    for expected in &mut expected {
                        expected.fresh.take_if(|fresh| fresh.0 == *token);
                    }
                }
            }
            Action::Ask(which, any) => {
                let expected = &mut expected[which];
                let is_fresh = expected.fresh.as_ref().is_some_and(|fresh| now < fresh.1);
                let fallback = match state.step(now, &CERTIFICATES[which], any) {
                    Step::Give(token) => Some(Fallback::Give(token)),
                    Step::Fail(_) => {
                        prop_assert!(expected.failed_at.is_some() && !is_fresh);
                        None
                    }
                    Step::Join(_, fallback) => {
                        prop_assert!(expected.is_under_way);
                        Some(fallback)
                    }
                    Step::Start(_, fallback) => {
                        prop_assert!(!expected.is_under_way, "two at a time");
                        let pause = expected.failed_at.map(|at| now.duration_since(at).unwrap());
                        let is_over = pause.is_none_or(|pause| pause >= BACKOFF.first);
                        prop_assert!(is_over, "no pause");
                        state.started(&CERTIFICATES[which], ());
                        expected.is_under_way = true;
                        Some(fallback)
                    }
                };
                if is_fresh {
                    let is_given = matches!(fallback, Some(Fallback::Give(_)));
                    prop_assert!(is_given, "a caller waits though there is a fresh token");
                }
                if let Some(Fallback::Give(token) | Fallback::Wait(Some(token))) = fallback {
                    let is_valid = token.expires_at().is_some_and(|at| now < at);
                    prop_assert!(is_valid, "an expired token is given");
                    last = Some(token);
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// In whatever order callers, responses, refusals and time come: there is one request at a time
    /// for each certificate and none in a pause, no expired token is given, and no caller waits
    /// while there is a fresh token.
    #[test]
    fn in_any_order_of_events_the_cache_keeps_its_rules(actions in actions()) {
        hold_for_all(actions)?;
    }
}
