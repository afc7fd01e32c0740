//! Answers read within bounds of size, and, where nobody needs them, of time.

use std::time::Duration;

use bowline_client::Body;
use bytes::Bytes;
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::time::timeout;

/// How long the text of an error status is waited for: the status is what matters.
const TEXT_TIME: Duration = Duration::from_secs(2);

/// How much of an unneeded answer is read for its connection's sake, and for how long.
const DISCARD_LIMIT: usize = 64 * 1024;
const DISCARD_TIME: Duration = Duration::from_millis(50);

/// Why a body could not be had whole.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WholeError {
    /// It is longer than allowed.
    #[error("the answer has more than {limit} bytes")]
    TooLarge {
        /// In bytes.
        limit: usize,
    },
    /// It ended before its announced end.
    #[error(transparent)]
    Client(#[from] bowline_client::Error),
}

/// The whole body.
///
/// # Errors
/// [`WholeError::TooLarge`] beyond `limit` bytes: the rest is cancelled. What the client says of a
/// broken one.
pub async fn whole(mut body: Body, limit: usize) -> Result<Vec<u8>, WholeError> {
    let too_large = WholeError::TooLarge { limit };
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large);
    }
    let mut bytes = Vec::new();
    while let Some(data) = next(&mut body).await {
        let data = data?;
        if data.len() > limit - bytes.len() {
            return Err(too_large);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// The beginning of a body that only a person will read; as much of it as came.
pub async fn prefix(mut body: Body, limit: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = async {
        while bytes.len() < limit {
            let Some(Ok(data)) = next(&mut body).await else {
                return;
            };
            let room = data.len().min(limit - bytes.len());
            bytes.extend_from_slice(&data[..room]);
        }
    };
    // What came before the time-out is as good as any.
    let _ = timeout(TEXT_TIME, read).await;
    bytes
}

/// Reads what is left of a body that nobody needs, so that an HTTP/1.1 connection can carry the
/// next request; a long or slow one is cancelled.
pub async fn discard(body: Body) {
    read_out(body, DISCARD_LIMIT, DISCARD_TIME).await;
}

/// Reads what is left of a body within bounds, and whether that was all of it.
pub async fn read_out(mut body: Body, limit: usize, time: Duration) -> bool {
    if body.size_hint().lower() > limit as u64 {
        return false;
    }
    let read = async {
        let mut left = limit;
        while let Some(data) = next(&mut body).await {
            let Ok(data) = data else { return false };
            match left.checked_sub(data.len()) {
                Some(rest) => left = rest,
                None => return false,
            }
        }
        true
    };
    timeout(time, read).await.unwrap_or(false)
}

/// The next data; trailers are passed over.
async fn next(body: &mut Body) -> Option<Result<Bytes, bowline_client::Error>> {
    loop {
        match body.frame().await? {
            Ok(frame) => match frame.into_data() {
                Ok(data) => return Some(Ok(data)),
                Err(_) => continue,
            },
            Err(e) => return Some(Err(e)),
        }
    }
}
