//! Answers read within bounds of size, and, where nobody needs them, of time: names for the methods
//! of [`Body`].

use std::time::Duration;

use bowline_client::Body;
pub use bowline_client::BodyReadError as WholeError;

/// How long the text of an error status is waited for: the status is what matters.
const TEXT_TIME: Duration = Duration::from_secs(2);

/// How much of an unneeded answer is read for its connection's sake, and for how long.
const DISCARD_LIMIT: usize = 64 * 1024;
const DISCARD_TIME: Duration = Duration::from_millis(50);

/// See [`Body::bytes_limited`].
///
/// # Errors
/// Those of [`Body::bytes_limited`].
pub async fn whole(body: Body, limit: usize) -> Result<Vec<u8>, WholeError> {
    body.bytes_limited(limit).await
}

/// See [`Body::prefix`].
pub async fn prefix(body: Body, limit: usize) -> Vec<u8> {
    body.prefix(limit, TEXT_TIME).await
}

/// Reads what is left of a body that nobody needs, so that an HTTP/1.1 connection can carry the
/// next request; a long or slow one is cancelled.
pub async fn discard(body: Body) {
    body.drain(DISCARD_LIMIT, DISCARD_TIME).await;
}

/// See [`Body::drain`].
pub async fn read_out(body: Body, limit: usize, time: Duration) -> bool {
    body.drain(limit, time).await
}
