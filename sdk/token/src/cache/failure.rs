//! How long a failure is remembered before another attempt is made.

use std::time::{Duration, SystemTime};

use bowline_http_client::Fault;

use crate::Error;
use crate::shared::backoff::{Backoff, Jitter};
use crate::shared::retry_after::bounded;

/// The last failure, as long as there has been no success since.
pub(super) struct Failure {
    pub(super) error: Error,
    failures: u32,
    at: SystemTime,
    pause: Duration,
}

impl Failure {
    pub(super) fn after(
        before: Option<Self>,
        error: Error,
        now: SystemTime,
        backoff: &Backoff,
    ) -> Self {
        let failures = before.map_or(0, |before| before.failures).saturating_add(1);
        Self {
            pause: pause(backoff, failures, &error),
            error,
            failures,
            at: now,
        }
    }

    /// Whether it is too early for another attempt. A clock that was set back ends the pause rather
    /// than prolong it.
    pub(super) fn is_recent(&self, now: SystemTime) -> bool {
        now.duration_since(self.at)
            .is_ok_and(|passed| passed < self.pause)
    }
}

/// The pause after so many failures in a row, `error` the last of them. After an error of
/// configuration that another attempt does not cure it is the longest at once; a file is soon
/// mended. Without jitter, so that a test can tell when it ends.
fn pause(backoff: &Backoff, failures: u32, error: &Error) -> Duration {
    let pause = match error.fault() {
        Fault::Configuration | Fault::Caller if !error.is_worth_another_try() => backoff.max,
        _ => backoff.delay(failures, Jitter::None),
    };
    pause.max(bounded(error.retry_after()))
}
