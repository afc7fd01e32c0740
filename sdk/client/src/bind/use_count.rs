//! What every binding that signs has in common: waiting for the signature, and the account of what
//! it was used for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::bind::Memo;
use crate::conn::facts::ConnectionId;
use crate::error::{Error, ErrorKind, Step};
use crate::observe::{Event, Observers, Operation};

/// Counts the requests that carry one proof, and reports when the last of them lets it go (CL-3).
pub(crate) struct Uses {
    requests: AtomicU64,
    operation: Operation,
    connection: ConnectionId,
    observers: Observers,
}

impl Uses {
    pub(crate) fn new(
        operation: Operation,
        connection: ConnectionId,
        observers: Observers,
    ) -> Self {
        Self {
            requests: AtomicU64::new(0),
            operation,
            connection,
            observers,
        }
    }
}

impl Memo for Uses {
    fn writing(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    fn unsent(&self) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Uses {
    fn drop(&mut self) {
        let (operation, connection) = (self.operation, self.connection);
        match *self.requests.get_mut() {
            0 => self.observers.emit(&Event::ProofAbandoned {
                operation,
                connection,
            }),
            requests => self.observers.emit(&Event::ProofRetired {
                operation,
                requests,
            }),
        }
    }
}

/// What a signing on a blocking thread came to.
pub(crate) async fn signed<T>(job: JoinHandle<Result<T, Error>>) -> Result<T, Error> {
    match job.await {
        Ok(signed) => signed,
        Err(e) => Err(Error::with_source(
            ErrorKind::Signing,
            "signing was interrupted",
            e,
        )),
    }
}

/// Each request has its own patience: the signing goes on, and a later request may still see its
/// end.
pub(crate) async fn within<T>(
    limit: Duration,
    signed: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(limit, signed).await {
        Ok(signed) => signed,
        Err(_) => Err(Error::timeout(Step::Sign, limit)),
    }
}
