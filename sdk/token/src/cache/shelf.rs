//! What is kept, and what is to be done about it now. No I/O; the time is an argument.

use std::time::{Duration, SystemTime};

use bowline_client::Thumbprint;

use super::failure::Failure;
use super::{Holder, Occasion};
use crate::shared::backoff::Backoff;
use crate::{Error, Token};

/// The tokens of a source, one for each certificate that it was asked with.
pub(super) struct Shelf<F> {
    backoff: Backoff,
    places: Vec<Place<F>>,
    /// When a token was last given up because the resource had refused it.
    last_refusal: Option<SystemTime>,
}

/// One certificate's place.
struct Place<F> {
    holder: Holder,
    held: Option<Held>,
    failure: Option<Failure>,
    flight: Option<F>,
}

/// A token with what is to become of it.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) token: Token,
    pub(crate) times: Times,
    /// The resource did not take it.
    pub(crate) is_refused: bool,
}

/// The ages of a token. After [`Token::expires_at`] it is of no use at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    /// From then on a successor is asked for while it is still handed out; never, if there is none.
    pub(crate) due_at: Option<SystemTime>,
    /// From then on it is handed out only if no successor can be had.
    pub(crate) late_at: Option<SystemTime>,
}

/// What a caller gets.
pub(super) enum Step<F> {
    Give(Token),
    Fail(Error),
    /// A token is to be asked for.
    Start(Occasion, Meanwhile),
    /// It has been asked for already.
    Join(F, Meanwhile),
}

/// What a caller gets while a token is on its way.
pub(super) enum Meanwhile {
    Give(Token),
    /// Nothing; and if it fails, perhaps this.
    Wait(Option<Token>),
}

/// One token that the resource refused is replaced at once. If its successors are refused too, the
/// fault is elsewhere.
const BETWEEN_REFUSALS: Duration = Duration::from_secs(60);

/// Of more certificates than this only those are remembered that have a token, or are asked with.
const MAX_PLACES: usize = 8;

impl<F: Clone> Shelf<F> {
    pub(super) fn new(backoff: Backoff) -> Self {
        Self {
            backoff,
            places: Vec::new(),
            last_refusal: None,
        }
    }

    /// What `holder` gets now. With `any` a good token of another certificate will do as long as it
    /// has none of its own.
    pub(super) fn step(&mut self, now: SystemTime, holder: &Holder, any: bool) -> Step<F> {
        let fresh = self.place(holder).valid(now);
        if let Some(held) = fresh.filter(|held| held.is_good(now) && !held.is_due(now)) {
            return Step::Give(held.token.clone());
        }
        let other = any.then(|| self.other(now, holder.thumbprint())).flatten();
        let place = self.place(holder);
        let own = place.valid(now);
        let meanwhile = match (own, other) {
            (Some(held), _) if held.is_good(now) => Meanwhile::Give(held.token.clone()),
            (_, Some(token)) => Meanwhile::Give(token),
            (Some(held), None) => Meanwhile::Wait(Some(held.token.clone())),
            (None, None) => Meanwhile::Wait(None),
        };
        if let Some(flight) = &place.flight {
            return Step::Join(flight.clone(), meanwhile);
        }
        match (&place.failure, meanwhile) {
            (Some(failure), Meanwhile::Wait(None)) if failure.is_recent(now) => {
                Step::Fail(failure.error.clone())
            }
            (Some(failure), Meanwhile::Give(token) | Meanwhile::Wait(Some(token)))
                if failure.is_recent(now) =>
            {
                Step::Give(token)
            }
            (_, meanwhile) => {
                let occasion = match own {
                    Some(held) if !held.is_refused => Occasion::Due,
                    _ => Occasion::Need,
                };
                Step::Start(occasion, meanwhile)
            }
        }
    }

    pub(super) fn started(&mut self, holder: &Holder, flight: F) {
        self.place(holder).flight = Some(flight);
    }

    pub(super) fn landed(&mut self, now: SystemTime, holder: &Holder, issued: Result<Held, Error>) {
        let backoff = self.backoff;
        let place = self.place(holder);
        place.flight = None;
        match issued {
            Ok(held) => {
                place.held = Some(held);
                place.failure = None;
            }
            Err(error) => {
                place.failure = Some(Failure::after(place.failure.take(), error, now, &backoff))
            }
        }
        // A place without a token is kept too: it knows about a pause.
        if self.places.len() > MAX_PLACES {
            let thumbprint = holder.thumbprint();
            self.places.retain(|place| {
                place.holder.thumbprint() == thumbprint
                    || place.flight.is_some()
                    || place.valid(now).is_some()
            });
        }
    }

    /// Whether the token is given up.
    pub(super) fn refused(&mut self, now: SystemTime, token: &Token) -> bool {
        let since = self.last_refusal.map(|last| now.duration_since(last));
        // A clock that was set back does not count.
        if since.is_some_and(|since| since.is_ok_and(|since| since < BETWEEN_REFUSALS)) {
            return false;
        }
        let all = self
            .places
            .iter_mut()
            .filter_map(|place| place.held.as_mut());
        let Some(held) = all
            .into_iter()
            .find(|held| held.token == *token && !held.is_refused)
        else {
            return false;
        };
        held.is_refused = true;
        self.last_refusal = Some(now);
        true
    }

    /// The best token of another certificate: it goes on being used with that one.
    fn other(&self, now: SystemTime, but: Option<Thumbprint>) -> Option<Token> {
        let others = self
            .places
            .iter()
            .filter(|place| place.holder.thumbprint() != but);
        let good = others.filter_map(|place| place.valid(now).filter(|held| held.is_good(now)));
        let best =
            good.max_by_key(|held| held.times.late_at.map_or((1, now), |late_at| (0, late_at)));
        best.map(|held| held.token.clone())
    }

    fn place(&mut self, holder: &Holder) -> &mut Place<F> {
        let thumbprint = holder.thumbprint();
        let index = self
            .places
            .iter()
            .position(|place| place.holder.thumbprint() == thumbprint);
        let index = index.unwrap_or_else(|| {
            self.places.push(Place {
                holder: holder.clone(),
                held: None,
                failure: None,
                flight: None,
            });
            self.places.len() - 1
        });
        &mut self.places[index]
    }
}

impl<F> Place<F> {
    fn valid(&self, now: SystemTime) -> Option<&Held> {
        let is_over = self
            .holder
            .not_after()
            .is_some_and(|not_after| not_after <= now);
        self.held
            .as_ref()
            .filter(|held| !is_over && held.is_valid(now))
    }
}

impl Held {
    fn is_valid(&self, now: SystemTime) -> bool {
        self.token.expires_at().is_none_or(|at| now < at)
    }

    fn is_good(&self, now: SystemTime) -> bool {
        !self.is_refused && self.times.late_at.is_none_or(|at| now < at)
    }

    fn is_due(&self, now: SystemTime) -> bool {
        self.times.due_at.is_some_and(|at| now >= at)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, LazyLock};

    use bowline_client::bind::TokenSourceId;
    use bowline_client::{AccessToken, Identity};
    use bowline_testkit::pki::{KeyKind, Pki};
    use proptest::prelude::*;

    use super::*;
    use crate::ErrorKind;

    static HOLDERS: LazyLock<[Holder; 3]> = LazyLock::new(|| {
        let pki = Pki::new();
        let identity = || {
            let leaf = pki.client("agent", KeyKind::P256);
            Holder(Some(Arc::new(
                Identity::new(leaf.chain(), leaf.signing_key()).unwrap(),
            )))
        };
        [Holder::NOBODY, identity(), identity()]
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
            4 => (0..3_usize, any::<bool>()).prop_map(|(holder, any)| Happening::Ask(holder, any)),
            2 => (0..3_usize, any::<bool>()).prop_map(|(holder, well)| Happening::Land(holder, well)),
            1 => Just(Happening::Refuse),
            2 => (1..40_u64).prop_map(Happening::Pass),
        ];
        prop::collection::vec(one, 1..200)
    }

    const BACKOFF: Backoff = Backoff {
        first: Duration::from_secs(1),
        max: Duration::from_secs(60),
    };

    fn token(number: u32, now: SystemTime) -> Held {
        let at = |seconds| now + Duration::from_secs(seconds);
        let access = AccessToken::new(format!("t{number}")).unwrap();
        Held {
            token: Token::new(access, TokenSourceId(0)).expiring_at(at(100)),
            times: Times {
                due_at: Some(at(70)),
                late_at: Some(at(95)),
            },
            is_refused: false,
        }
    }

    /// Found by the test below.
    #[test]
    fn a_failure_with_one_certificate_does_not_end_the_pause_of_another() {
        let (now, mut shelf) = (SystemTime::now(), Shelf::new(BACKOFF));
        for holder in &*HOLDERS {
            shelf.started(holder, ());
            shelf.landed(now, holder, Err(Error::new(ErrorKind::Unavailable, "down")));
        }
        for holder in &*HOLDERS {
            assert!(matches!(shelf.step(now, holder, true), Step::Fail(_)));
        }
    }

    #[test]
    fn certificates_that_came_and_went_are_forgotten() {
        let pki = Pki::new();
        let (now, mut shelf) = (SystemTime::now(), Shelf::new(BACKOFF));
        for number in 0..50 {
            let leaf = pki.client("agent", KeyKind::P256);
            let holder = Holder(Some(Arc::new(
                Identity::new(leaf.chain(), leaf.signing_key()).unwrap(),
            )));
            shelf.started(&holder, ());
            shelf.landed(
                now + Duration::from_secs(200 * number),
                &holder,
                Ok(token(1, now)),
            );
            assert!(shelf.places.len() <= MAX_PLACES + 1);
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
            let mut shelf = Shelf::new(BACKOFF);
            let mut under_way = [false; 3];
            let mut failed_at = [None; 3];
            // Whose a token is, until when it is good by its age, and whether it was refused.
            let mut good: [Option<(Token, SystemTime)>; 3] = [None, None, None];
            let mut last = None;
            let mut tokens = 0;
            for happening in happenings {
                match happening {
                    Happening::Pass(seconds) => now += Duration::from_secs(seconds),
                    Happening::Land(holder, _) if !under_way[holder] => {}
                    Happening::Land(holder, well) => {
                        under_way[holder] = false;
                        tokens += 1;
                        let held = token(tokens, now);
                        if well {
                            good[holder] = Some((held.token.clone(), now + Duration::from_secs(95)));
                            failed_at[holder] = None;
                            shelf.landed(now, &HOLDERS[holder], Ok(held));
                        } else {
                            failed_at[holder] = Some(now);
                            shelf.landed(now, &HOLDERS[holder], Err(Error::new(ErrorKind::Unavailable, "down")));
                        }
                    }
                    Happening::Refuse => {
                        let Some(token) = &last else { continue };
                        if shelf.refused(now, token) {
                            good.iter_mut().filter(|good| good.as_ref().is_some_and(|g| g.0 == *token)).for_each(|g| *g = None);
                        }
                    }
                    Happening::Ask(holder, any) => {
                        let is_good = good[holder].as_ref().is_some_and(|good| now < good.1);
                        let meanwhile = match shelf.step(now, &HOLDERS[holder], any) {
                            Step::Give(token) => Some(Meanwhile::Give(token)),
                            Step::Fail(_) => {
                                prop_assert!(failed_at[holder].is_some() && !is_good);
                                None
                            }
                            Step::Join(_, meanwhile) => {
                                prop_assert!(under_way[holder]);
                                Some(meanwhile)
                            }
                            Step::Start(_, meanwhile) => {
                                prop_assert!(!under_way[holder], "two at a time");
                                let pause = failed_at[holder].map(|at: SystemTime| now.duration_since(at).unwrap());
                                prop_assert!(pause.is_none_or(|pause| pause >= BACKOFF.first), "no pause");
                                shelf.started(&HOLDERS[holder], ());
                                under_way[holder] = true;
                                Some(meanwhile)
                            }
                        };
                        if is_good {
                            prop_assert!(matches!(meanwhile, Some(Meanwhile::Give(_))), "somebody waits for nothing");
                        }
                        if let Some(Meanwhile::Give(token) | Meanwhile::Wait(Some(token))) = meanwhile {
                            prop_assert!(token.expires_at().is_some_and(|at| now < at), "an expired token is given");
                            last = Some(token);
                        }
                    }
                }
            }
        }
    }
}
