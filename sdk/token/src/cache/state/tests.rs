use std::sync::{Arc, LazyLock};

use bowline_client::bind::TokenSourceId;
use bowline_client::{AccessToken, Identity};
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

/// What happens next; the first number chooses the holder.
#[derive(Clone, Debug)]
enum Happening {
    Ask(usize, bool),
    /// The request under way brings a token, or fails.
    Land(usize, bool),
    /// The token that was given last is refused.
    Refuse,
    Pass(u64),
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        4 => (0..3_usize, any::<bool>()).prop_map(|(certificate, any)| Happening::Ask(certificate, any)),
        2 => (0..3_usize, any::<bool>()).prop_map(|(certificate, well)| Happening::Land(certificate, well)),
        1 => Just(Happening::Refuse),
        2 => (1..40_u64).prop_map(Happening::Pass),
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
    CachedToken {
        token: Token::new(access, TokenSourceId(0)).expiring_at(at(100)),
        times: Times {
            refresh_at: Some(at(70)),
            stale_at: Some(at(95)),
        },
        is_refused: false,
    }
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
fn certificates_that_came_and_went_are_forgotten() {
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

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// However callers, answers, refusals and time come: one request at a time for each
    /// certificate, none in a pause, nothing expired is given, nobody waits while there is a
    /// good token.
    #[test]
    fn no_order_of_events_breaks_the_shelf(happenings in happenings()) {
        let mut now = SystemTime::now();
        let mut state = CacheState::new(BACKOFF);
        let mut under_way = [false; 3];
        let mut failed_at = [None; 3];
        // Whose a token is, until when it is good by its age, and whether it was refused.
        let mut good: [Option<(Token, SystemTime)>; 3] = [None, None, None];
        let mut last = None;
        let mut tokens = 0;
        for happening in happenings {
            match happening {
                Happening::Pass(seconds) => now += Duration::from_secs(seconds),
                Happening::Land(certificate, _) if !under_way[certificate] => {}
                Happening::Land(certificate, well) => {
                    under_way[certificate] = false;
                    tokens += 1;
                    let cached = token(tokens, now);
                    if well {
                        good[certificate] = Some((cached.token.clone(), now + Duration::from_secs(95)));
                        failed_at[certificate] = None;
                        state.completed(now, &CERTIFICATES[certificate], Ok(cached));
                    } else {
                        failed_at[certificate] = Some(now);
                        state.completed(now, &CERTIFICATES[certificate], Err(Error::new(ErrorKind::Unavailable, "down")));
                    }
                }
                Happening::Refuse => {
                    let Some(token) = &last else { continue };
                    if state.refused(now, token) {
                        good.iter_mut().filter(|good| good.as_ref().is_some_and(|g| g.0 == *token)).for_each(|g| *g = None);
                    }
                }
                Happening::Ask(certificate, any) => {
                    let is_fresh = good[certificate].as_ref().is_some_and(|good| now < good.1);
                    let fallback = match state.step(now, &CERTIFICATES[certificate], any) {
                        Step::Give(token) => Some(Fallback::Give(token)),
                        Step::Fail(_) => {
                            prop_assert!(failed_at[certificate].is_some() && !is_fresh);
                            None
                        }
                        Step::Join(_, fallback) => {
                            prop_assert!(under_way[certificate]);
                            Some(fallback)
                        }
                        Step::Start(_, fallback) => {
                            prop_assert!(!under_way[certificate], "two at a time");
                            let pause = failed_at[certificate].map(|at: SystemTime| now.duration_since(at).unwrap());
                            prop_assert!(pause.is_none_or(|pause| pause >= BACKOFF.first), "no pause");
                            state.started(&CERTIFICATES[certificate], ());
                            under_way[certificate] = true;
                            Some(fallback)
                        }
                    };
                    if is_fresh {
                        prop_assert!(matches!(fallback, Some(Fallback::Give(_))), "somebody waits for nothing");
                    }
                    if let Some(Fallback::Give(token) | Fallback::Wait(Some(token))) = fallback {
                        prop_assert!(token.expires_at().is_some_and(|at| now < at), "an expired token is given");
                        last = Some(token);
                    }
                }
            }
        }
    }
}
