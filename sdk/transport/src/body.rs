//! The bounds for the body of a response: of one that is read whole, of one that is not needed, and
//! of one that only a person will read. The client has no limit for the time that a body takes: it
//! does not know which ones are event streams.

use std::time::Duration;

use bowline_http_client::{Body, BodyReadError};
use tokio::time::timeout;

/// Maximum time for a whole body once the head has come. A slow operation is slow before its head.
const WHOLE_TIME: Duration = Duration::from_secs(60);

/// How long the text of an error status is waited for: the status is what matters.
const TEXT_TIME: Duration = Duration::from_secs(2);

/// How much of an unneeded body is read to keep its connection, and for how long.
const DISCARD_BYTES: usize = 64 * 1024;
const DISCARD_TIME: Duration = Duration::from_millis(50);

/// Why there is no whole body.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WholeError {
    /// It is longer than the limit.
    #[error("the response is longer than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// It did not end in time.
    #[error("the response began and did not end within {0:?}")]
    TimedOut(Duration),
    /// The connection ended first.
    #[error(transparent)]
    Client(bowline_http_client::Error),
}

/// A whole body of at most `limit` bytes, which came within 60 s.
///
/// # Errors
/// See [`WholeError`]. The rest of the body is cancelled.
pub async fn whole(body: Body, limit: usize) -> Result<Vec<u8>, WholeError> {
    match timeout(WHOLE_TIME, body.bytes_limited(limit)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(BodyReadError::Client(e))) => Err(WholeError::Client(e)),
        // `TooLarge`; the enum is non-exhaustive.
        Ok(Err(_)) => Err(WholeError::TooLarge { limit }),
        Err(_) => Err(WholeError::TimedOut(WHOLE_TIME)),
    }
}

/// The beginning of a body that only a person will read; as much of it as came in 2 s.
pub async fn prefix(body: Body, max: usize) -> Vec<u8> {
    body.prefix(max, TEXT_TIME).await
}

/// Reads what is left of an unneeded body, so that an HTTP/1.1 connection can carry the next
/// request. A long or slow one is cancelled (64 KiB, 50 ms).
pub async fn discard(body: Body) {
    body.drain(DISCARD_BYTES, DISCARD_TIME).await;
}

/// JSON without a byte order mark, which a reader may ignore (RFC 8259 §8.1) and some servers
/// write.
pub fn without_mark(json: &[u8]) -> &[u8] {
    json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(json)
}
