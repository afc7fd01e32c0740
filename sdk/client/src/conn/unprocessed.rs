//! Recognises requests that the peer has not processed.

/// How a peer says that it has not processed a request (RFC 9113 §8.7).
///
/// Upstream: <https://github.com/hyperium/hyper/issues/2500>, and a method that tells it:
/// <https://github.com/hyperium/hyper/pull/4052>. h2 does not document it:
/// <https://github.com/hyperium/h2/issues/741>.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unprocessed {
    /// It reset the stream with REFUSED_STREAM.
    RefusedStream,
    /// It sent GOAWAY before it came to this stream. hyper fails a request with the peer's GOAWAY
    /// only if its stream is above the last one that the peer processes, or if the request never
    /// became a stream: see [`crate::conn::h2_task`]. Streams that the peer accepted and did not
    /// answer fail with whatever ended the connection.
    Goaway,
}

impl Unprocessed {
    pub(crate) fn from_error(error: &hyper::Error) -> Option<Self> {
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            if let Some(h2) = cause.downcast_ref::<h2::Error>() {
                let refused = h2.is_reset() && h2.reason() == Some(h2::Reason::REFUSED_STREAM);
                return if !h2.is_remote() {
                    None
                } else if refused {
                    Some(Self::RefusedStream)
                } else {
                    h2.is_go_away().then_some(Self::Goaway)
                };
            }
            source = cause.source();
        }
        None
    }
}
