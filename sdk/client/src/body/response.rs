//! The body of a response, which gives its connection back when it has ended.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::conn::facts::HttpVersion;
use crate::error::{Error, ErrorKind};
use crate::pool::Checkout;

/// The body of a response.
///
/// Read to its end, it gives an h1 connection back to the pool; dropped before that, it cancels the
/// rest at once.
pub struct Body {
    incoming: Incoming,
    /// The connection that the body arrives on, until the body has ended.
    checkout: Option<Checkout>,
    /// Whether it is over only where its stream is: HTTP/2, and a request that was all sent.
    ends_with_stream: bool,
}

impl Body {
    /// `request_sent`: all of the request had left when the answer came. A server that wants no
    /// more of one may reset its stream after a complete answer (RFC 9113 §8.1), and hyper says of
    /// that what it says of any reset with NO_ERROR: that the body has ended.
    /// Upstream: report 6 in `docs/src/upstream.md`; hyper does so since
    /// <https://github.com/hyperium/hyper/issues/2872>.
    pub(crate) fn new(incoming: Incoming, checkout: Checkout, request_sent: bool) -> Self {
        let ends_with_stream = request_sent && checkout.facts().http() == HttpVersion::H2;
        let mut body = Self {
            incoming,
            checkout: Some(checkout),
            ends_with_stream,
        };
        body.release_at_end();
        body
    }

    /// The whole body, if it has at most `max` bytes; trailers are skipped.
    ///
    /// # Errors
    /// [`BodyReadError::TooLarge`] beyond `max` bytes, and the rest is cancelled; or what the body
    /// itself fails with.
    pub async fn bytes_limited(mut self, max: usize) -> Result<Vec<u8>, BodyReadError> {
        let too_large = BodyReadError::TooLarge { limit: max };
        if self.size_hint().lower() > max as u64 {
            return Err(too_large);
        }
        let mut bytes = Vec::new();
        while let Some(data) = self.next_data().await {
            let data = data?;
            if data.len() > max - bytes.len() {
                return Err(too_large);
            }
            bytes.extend_from_slice(&data);
        }
        Ok(bytes)
    }

    /// The beginning of a body that only a person will read: at most `max` bytes of it, and of
    /// these what came within `time` and before any error.
    pub async fn prefix(mut self, max: usize, time: Duration) -> Vec<u8> {
        let mut bytes = Vec::new();
        let read = async {
            while bytes.len() < max {
                let Some(Ok(data)) = self.next_data().await else {
                    return;
                };
                let room = data.len().min(max - bytes.len());
                bytes.extend_from_slice(&data[..room]);
            }
        };
        // What came before the time-out is as good as any.
        let _ = timeout(time, read).await;
        bytes
    }

    /// Reads and drops what is left, so that an HTTP/1.1 connection can carry the next request. A
    /// body of more than `max` bytes, or one that takes longer than `time`, is cancelled.
    ///
    /// Returns whether the body was read to its end.
    pub async fn drain(mut self, max: usize, time: Duration) -> bool {
        if self.size_hint().lower() > max as u64 {
            return false;
        }
        let read = async {
            let mut left = max;
            while let Some(data) = self.next_data().await {
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

    /// Like [`drain`](Self::drain), in a task of its own and within 64 KiB and 1 s: for a reader
    /// that has all it needs and wants the HTTP/1.1 connection, and its proof, to live on. Dropping
    /// the body instead cancels it.
    pub fn drain_in_background(self) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(self.drain(DRAIN_BYTES, DRAIN_TIME));
        }
    }

    /// The next data; trailers are skipped.
    async fn next_data(&mut self) -> Option<Result<Bytes, Error>> {
        loop {
            match self.frame().await? {
                Ok(frame) => match frame.into_data() {
                    Ok(data) => return Some(Ok(data)),
                    Err(_) => continue,
                },
                Err(e) => return Some(Err(e)),
            }
        }
    }

    fn release_at_end(&mut self) {
        if self.incoming.is_end_stream()
            && let Some(checkout) = self.checkout.take()
        {
            checkout.end_of_body();
        }
    }
}

/// Why [`Body::bytes_limited`] returns no body.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyReadError {
    /// It is longer than allowed.
    #[error("the answer has more than {limit} bytes")]
    TooLarge {
        /// In bytes.
        limit: usize,
    },
    /// It ended before its announced end.
    #[error(transparent)]
    Client(#[from] Error),
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
            Some(Ok(frame)) => {
                self.release_at_end();
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(e)) => {
                if let Some(checkout) = self.checkout.take() {
                    checkout.broken();
                }
                let message = "the response body ended before its announced end";
                Poll::Ready(Some(Err(Error::with_source(
                    ErrorKind::Protocol,
                    message,
                    e,
                ))))
            }
            None => {
                let Some(checkout) = self.checkout.take() else {
                    return Poll::Ready(None);
                };
                checkout.end_of_body();
                let is_whole =
                    self.incoming.is_end_stream() || self.incoming.size_hint().exact() == Some(0);
                if self.ends_with_stream && !is_whole {
                    let message = "the server reset the response's stream before its end";
                    return Poll::Ready(Some(Err(Error::new(ErrorKind::Protocol, message))));
                }
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").finish_non_exhaustive()
    }
}

/// How much of an unneeded answer is read for its connection's sake, and for how long.
pub(crate) const DRAIN_BYTES: usize = 64 * 1024;
pub(crate) const DRAIN_TIME: Duration = Duration::from_secs(1);
