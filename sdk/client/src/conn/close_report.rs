//! When the end of a connection is reported, and with which reason.
//!
//! hyper may report the end before the response that announced it has been looked at. Then the
//! report waits for that response, so that it names the right reason:
//!
//! ```text
//! request task   head_pending()                 sees `Connection: close`: expect(ConnectionClose)
//!                                               head_seen() -> report ConnectionClose
//! driver task                ended(PeerClosed): waits
//! ```
//!
//! Each request of HTTP/1.1 passes here several times, so all of it is one atomic word.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::observe::CloseReason;

/// One connection's end; reported once.
#[derive(Default)]
pub(crate) struct CloseReport(AtomicU32);

/// What the word says.
#[derive(Clone, Copy)]
struct State {
    /// Why it will have ended, if that is known before it does.
    expected: Option<CloseReason>,
    /// The reason that the connection's driver gave when it ended.
    seen: Option<CloseReason>,
    /// An h1 request was written whose response's head nobody has looked at.
    is_head_pending: bool,
    is_reported: bool,
}

const HEAD_PENDING: u32 = 1 << 16;
const REPORTED: u32 = 1 << 17;

impl CloseReport {
    /// The connection is about to end for this reason; `None` takes it back.
    pub(crate) fn expect(&self, reason: Option<CloseReason>) {
        if reason.is_none() && self.0.load(Ordering::Acquire) & EXPECTED == 0 {
            return;
        }
        self.update(|state| state.expected = reason);
    }

    /// The reason that was last [expected](Self::expect).
    pub(crate) fn expected(&self) -> Option<CloseReason> {
        State::from_word(self.0.load(Ordering::Acquire)).expected
    }

    pub(crate) fn head_pending(&self) {
        self.0.fetch_or(HEAD_PENDING, Ordering::AcqRel);
    }

    pub(crate) fn is_head_pending(&self) -> bool {
        self.0.load(Ordering::Acquire) & HEAD_PENDING != 0
    }

    /// Returns the reason if the end is to be reported now.
    #[must_use]
    pub(crate) fn head_seen(&self) -> Option<CloseReason> {
        let before = self.0.fetch_and(!HEAD_PENDING, Ordering::AcqRel);
        if before & SEEN == 0 {
            return None;
        }
        self.due()
    }

    /// Returns the reason if the end is to be reported now.
    #[must_use]
    pub(crate) fn ended(&self, seen: CloseReason) -> Option<CloseReason> {
        self.update(|state| {
            state.seen.get_or_insert(seen);
        });
        self.due()
    }

    fn due(&self) -> Option<CloseReason> {
        let before = self.update(|state| {
            state.is_reported |= state.seen.is_some() && !state.is_head_pending;
        });
        let is_due = !before.is_reported && !before.is_head_pending;
        before
            .seen
            .filter(|_| is_due)
            .map(|seen| before.expected.unwrap_or(seen))
    }

    /// Returns what it was before.
    fn update(&self, change: impl Fn(&mut State)) -> State {
        let mut word = self.0.load(Ordering::Acquire);
        loop {
            let before = State::from_word(word);
            let mut state = before;
            change(&mut state);
            let changed = state.to_word();
            match self
                .0
                .compare_exchange_weak(word, changed, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return before,
                Err(now) => word = now,
            }
        }
    }
}

/// The bits of each reason: its place in [`CloseReason::ALL`] and one, or none.
const EXPECTED: u32 = 0xff;
const SEEN: u32 = 0xff << SEEN_SHIFT;
const SEEN_SHIFT: u32 = 8;

impl State {
    fn from_word(word: u32) -> Self {
        let reason = |bits: u32| {
            let place = usize::try_from(bits & 0xff).ok()?.checked_sub(1)?;
            CloseReason::ALL.get(place).copied()
        };
        Self {
            expected: reason(word),
            seen: reason(word >> SEEN_SHIFT),
            is_head_pending: word & HEAD_PENDING != 0,
            is_reported: word & REPORTED != 0,
        }
    }

    fn to_word(self) -> u32 {
        let bits = |reason: Option<CloseReason>| reason.map_or(0, |reason| reason as u32 + 1);
        let flag = |is_set: bool, bit: u32| if is_set { bit } else { 0 };
        bits(self.expected)
            | bits(self.seen) << SEEN_SHIFT
            | flag(self.is_head_pending, HEAD_PENDING)
            | flag(self.is_reported, REPORTED)
    }
}

#[cfg(test)]
mod tests;
