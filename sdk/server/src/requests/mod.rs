//! Follows the requests on one connection by the bytes that pass in both directions: how many are
//! open, and which responses the peer does not take.
//!
//! A listener must know this of every connection, whatever serves it: `axum::serve` does not report it.
//! Only framing is read, never a field section of HTTP/2; and nothing is refused here, because
//! hyper reads the same bytes and does that. What cannot be followed counts as no request.

mod h1;
mod h2;

use std::mem;

use tokio::time::Instant;

use self::h2::PREFACE;
pub(crate) use self::h2::{Stalled, StreamId, Streams, reset_frame};

/// See the module.
#[derive(Debug)]
pub(crate) enum Requests {
    /// This much of the preface of HTTP/2 has come, and nothing else.
    Undecided {
        preface: usize,
        streams: Streams,
    },
    H1(h1::Exchanges),
    H2(Streams),
}

impl Requests {
    /// The first bytes decide, whatever was negotiated: under `axum::serve` they do.
    pub(crate) fn new() -> Self {
        Self::Undecided {
            preface: 0,
            streams: Streams::default(),
        }
    }

    /// The peer sent this.
    pub(crate) fn received(&mut self, bytes: &[u8], now: Instant) {
        match self {
            Self::Undecided { preface, streams } => {
                let begun = *preface;
                let expected = &PREFACE[begun..];
                let same = bytes
                    .iter()
                    .zip(expected)
                    .take_while(|(a, b)| a == b)
                    .count();
                if same == expected.len() {
                    *self = Self::H2(mem::take(streams));
                    self.received(&bytes[same..], now);
                } else if same == bytes.len() {
                    *preface += same;
                } else {
                    *self = Self::H1(h1::Exchanges::default());
                    self.received(&PREFACE[..begun], now);
                    self.received(bytes, now);
                }
            }
            Self::H1(exchanges) => exchanges.received(bytes),
            Self::H2(streams) => streams.received(bytes, now),
        }
    }

    /// This was sent to the peer.
    pub(crate) fn sent(&mut self, bytes: &[u8], now: Instant) {
        match self {
            Self::H1(exchanges) => exchanges.sent(bytes),
            // HTTP/2 may begin on this side.
            Self::Undecided { streams, .. } | Self::H2(streams) => streams.sent(bytes, now),
        }
    }

    /// Whether the head of a request has arrived completely.
    pub(crate) fn begun(&self) -> bool {
        match self {
            Self::Undecided { .. } => false,
            Self::H1(exchanges) => exchanges.begun(),
            Self::H2(streams) => streams.begun(),
        }
    }

    /// How many requests have arrived whose responses have not been sent completely.
    pub(crate) fn open(&self) -> usize {
        match self {
            Self::Undecided { .. } => 0,
            Self::H1(exchanges) => exchanges.open(),
            Self::H2(streams) => streams.open(),
        }
    }

    /// The streams of HTTP/2, if it is that.
    pub(crate) fn streams(&mut self) -> Option<&mut Streams> {
        match self {
            Self::H2(streams) => Some(streams),
            Self::Undecided { .. } | Self::H1(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
