//! What h2 says of a request that the peer did nothing about.

/// How a peer says that it did nothing about a request (RFC 9113 §8.7).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum TurnedAway {
    /// It reset the stream with REFUSED_STREAM.
    RefusedStream,
    /// It said GOAWAY before it came to this stream. hyper fails a request with the peer's GOAWAY
    /// only if its stream is above the last one that the peer processes, or if the request never
    /// became a stream: see [`crate::conn::h2_task`]. Streams that the peer took on and did not answer
    /// fail with whatever ended the connection.
    Goaway,
}

impl TurnedAway {
    pub(crate) fn by(error: &hyper::Error) -> Option<Self> {
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            if let Some(h2) = cause.downcast_ref::<h2::Error>() {
                let refused = h2.is_reset() && h2.reason() == Some(h2::Reason::REFUSED_STREAM);
                return match h2.is_remote() {
                    true if refused => Some(Self::RefusedStream),
                    true if h2.is_go_away() => Some(Self::Goaway),
                    _ => None,
                };
            }
            source = cause.source();
        }
        None
    }
}
