//! Waiting for the end of a client certificate's validity (RS-1).

use std::time::Duration;

use rustls_pki_types::UnixTime;
use tokio::time::sleep;

use crate::certificate::ClientCertificate;
use crate::{CloseReason, ConnectionFacts};

/// How often the certificate of a live connection is verified again. A verifier that asks for
/// revocation lists or the like may change its mind.
const REVERIFY: Duration = Duration::from_secs(300);

/// RS-1: completes when the client certificate is no longer valid or no longer trusted, whether or
/// not there are requests.
pub(crate) async fn until_invalid(facts: &ConnectionFacts) -> CloseReason {
    let Some(certificate) = facts.certificate() else {
        return std::future::pending().await;
    };
    tokio::select! {
        () = wait_past(certificate.not_after(), || certificate.now()) => CloseReason::Certificate,
        error = until_refused(certificate) => {
            let connection = facts.id();
            tracing::info!(%connection, %error, "the client certificate no longer verifies");
            CloseReason::CertificateRefused
        }
    }
}

async fn until_refused(certificate: &ClientCertificate) -> rustls::Error {
    let mut replaced = certificate.replacements();
    loop {
        let again = async {
            match &mut replaced {
                // The sender lives as long as the certificate.
                Some(replaced) => drop(replaced.changed().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = sleep(REVERIFY) => {}
            () = again => {}
        }
        if let Err(error) = certificate.verify_again() {
            return error;
        }
    }
}

/// Sleeps for at most a minute at a time and then reads the clock again, because the time of day
/// can be set forward during a sleep.
async fn wait_past(moment: UnixTime, clock: impl Fn() -> UnixTime) {
    const MAX_SLEEP_SECONDS: u64 = 60;
    loop {
        let now = clock().as_secs();
        if now > moment.as_secs() {
            return;
        }
        let left = moment.as_secs() - now + 1;
        sleep(Duration::from_secs(left.min(MAX_SLEEP_SECONDS))).await;
    }
}

#[cfg(test)]
mod tests;
