//! The bounds for a response whose body is not needed, or that only a person will read.
//! Everything else about bodies is [`Body`]'s own: [`Body::bytes_limited`], [`Body::prefix`],
//! [`Body::drain`].

use std::time::Duration;

use bowline_http_client::Body;

/// How long the text of an error status is waited for: the status is what matters.
const TEXT_TIME: Duration = Duration::from_secs(2);

/// How much of an unneeded body is read to keep its connection, and for how long.
const DISCARD_BYTES: usize = 64 * 1024;
const DISCARD_TIME: Duration = Duration::from_millis(50);

/// The beginning of a body that only a person will read; as much of it as came in 2 s.
pub async fn prefix(body: Body, max: usize) -> Vec<u8> {
    body.prefix(max, TEXT_TIME).await
}

/// Reads what is left of an unneeded body, so that an HTTP/1.1 connection can carry the next
/// request. A long or slow one is cancelled (64 KiB, 50 ms).
pub async fn discard(body: Body) {
    body.drain(DISCARD_BYTES, DISCARD_TIME).await;
}
