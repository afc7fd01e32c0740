//! Waiting for the end of a client certificate's validity (RS-1).

use std::time::Duration;

use rustls_pki_types::UnixTime;

use crate::{Clock, ConnectionFacts};

/// RS-1: completes when the client certificate is no longer valid, whether or not there are
/// requests.
pub(crate) async fn past_not_after(facts: &ConnectionFacts, clock: &Clock) {
    match facts.certificate() {
        Some(certificate) => wait_past(certificate.not_after(), clock).await,
        None => std::future::pending().await,
    }
}

/// Sleeps for at most a minute at a time and then reads the clock again, because the time of day
/// can be set forward during a sleep.
async fn wait_past(moment: UnixTime, clock: &Clock) {
    const MAX_SLEEP_SECONDS: u64 = 60;
    loop {
        let now = clock.now().as_secs();
        if now > moment.as_secs() {
            return;
        }
        let left = moment.as_secs() - now + 1;
        tokio::time::sleep(Duration::from_secs(left.min(MAX_SLEEP_SECONDS))).await;
    }
}

#[cfg(test)]
mod tests;
