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

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::observe::CloseReason;

/// One connection's end; reported once.
#[derive(Default)]
pub(crate) struct CloseReport(Mutex<State>);

#[derive(Default)]
struct State {
    /// Why it will have ended, if that is known before it does.
    expected: Option<CloseReason>,
    /// An h1 request was written whose response's head nobody has looked at.
    is_head_pending: bool,
    /// The reason that the connection's driver gave when it ended.
    seen: Option<CloseReason>,
    is_reported: bool,
}

impl CloseReport {
    /// The connection is about to end for this reason; `None` takes it back.
    pub(crate) fn expect(&self, reason: Option<CloseReason>) {
        self.lock().expected = reason;
    }

    /// The reason that was last [expected](Self::expect).
    pub(crate) fn expected(&self) -> Option<CloseReason> {
        self.lock().expected
    }

    pub(crate) fn head_pending(&self) {
        self.lock().is_head_pending = true;
    }

    pub(crate) fn is_head_pending(&self) -> bool {
        self.lock().is_head_pending
    }

    /// Returns the reason if the end is to be reported now.
    #[must_use]
    pub(crate) fn head_seen(&self) -> Option<CloseReason> {
        let mut state = self.lock();
        state.is_head_pending = false;
        state.due()
    }

    /// Returns the reason if the end is to be reported now.
    #[must_use]
    pub(crate) fn ended(&self, seen: CloseReason) -> Option<CloseReason> {
        let mut state = self.lock();
        state.seen.get_or_insert(seen);
        state.due()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn due(&mut self) -> Option<CloseReason> {
        let seen = self.seen?;
        if self.is_head_pending || std::mem::replace(&mut self.is_reported, true) {
            return None;
        }
        Some(self.expected.unwrap_or(seen))
    }
}

#[cfg(test)]
mod tests;
