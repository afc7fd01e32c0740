//! The connections and requests of a [`CyclingServer`](super::CyclingServer), counted so that tests
//! can wait for them.

use bowline_server::{ConnectionFacts, ConnectionId};
use tokio::sync::watch;

use crate::task::until;

/// Totals, and one row per connection.
///
/// The rows of closed connections stay: memory grows with the number of connections ever opened.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// TLS handshakes completed.
    pub opened: u64,
    /// Those of them that resumed a session.
    pub resumed: u64,
    /// Handshakes that failed.
    pub failed: u64,
    /// Opened connections that are over.
    pub closed: u64,
    /// Requests received.
    pub requests: u64,
    /// Every connection opened, in that order.
    pub connections: Vec<ConnectionCount>,
}

impl Counts {
    /// Connections opened by a full handshake.
    #[must_use]
    pub fn full(&self) -> u64 {
        self.opened - self.resumed
    }

    /// Connections open now.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.opened - self.closed
    }
}

/// The counts of one connection.
#[derive(Clone, Debug)]
pub struct ConnectionCount {
    /// The connection's id, as in its [`ConnectionFacts`].
    pub id: ConnectionId,
    /// Whether its handshake resumed a session.
    pub resumed: bool,
    /// Whether it speaks HTTP/2.
    pub h2: bool,
    /// Requests received on it.
    pub requests: u64,
    /// Whether it is over.
    pub closed: bool,
}

pub(super) struct ConnectionLog(watch::Sender<Counts>);

impl ConnectionLog {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(Counts::default()))
    }

    pub(super) fn counts(&self) -> Counts {
        self.0.borrow().clone()
    }

    pub(super) async fn until(&self, what: &str, reached: impl Fn(&Counts) -> bool) {
        until(&self.0, what, reached).await;
    }

    /// Adds a connection and returns the index of its row.
    pub(super) fn opened(&self, facts: &ConnectionFacts) -> usize {
        let mut row = 0;
        self.0.send_modify(|counts| {
            row = counts.connections.len();
            counts.opened += 1;
            counts.resumed += u64::from(facts.is_resumed());
            counts.connections.push(ConnectionCount {
                id: facts.id(),
                resumed: facts.is_resumed(),
                h2: facts.alpn() == Some(b"h2"),
                requests: 0,
                closed: false,
            });
        });
        row
    }

    pub(super) fn failed(&self) {
        self.0.send_modify(|counts| counts.failed += 1);
    }

    pub(super) fn request(&self, row: usize) {
        self.0.send_modify(|counts| {
            counts.requests += 1;
            counts.connections[row].requests += 1;
        });
    }

    pub(super) fn closed(&self, row: usize) {
        self.0.send_modify(|counts| {
            counts.closed += 1;
            counts.connections[row].closed = true;
        });
    }
}
