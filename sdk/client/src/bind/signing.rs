//! Waiting for a signature that is made on one of tokio's blocking threads.

use std::time::Duration;

use tokio::task::JoinHandle;

use crate::error::{Error, ErrorKind, Step};

/// The result of a signing job.
pub(super) async fn signed<T>(job: JoinHandle<Result<T, Error>>) -> Result<T, Error> {
    match job.await {
        Ok(signed) => signed,
        Err(e) => Err(Error::with_source(
            ErrorKind::Signing,
            "signing was interrupted",
            e,
        )),
    }
}

/// The signature, unless it takes longer than `limit`. The limit is that of one request: the
/// signing goes on, and a later request may still get its result.
pub(super) async fn within<T>(
    limit: Duration,
    signed: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(limit, signed).await {
        Ok(signed) => signed,
        Err(_) => Err(Error::timeout(Step::Sign, limit)),
    }
}
