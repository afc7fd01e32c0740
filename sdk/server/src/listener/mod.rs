//! Accepts TCP connections and runs many TLS handshakes at a time, with one queue of finished
//! connections.

#[cfg(feature = "axum")]
mod axum;
mod connection;
mod places;
mod socket;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

#[cfg(feature = "axum")]
pub use self::axum::{EndingConnection, PeerFacts};
pub use self::connection::Connection;
use self::places::{Place, Places};
use crate::activity::Activity;
use crate::limit::{ConnectionLimits, Limit};
use crate::limit_reports::LimitReports;
use crate::owner::Owner;
use crate::{Acceptor, CloseReason};

/// At the handshake limit, a handshake that has taken longer than this is cancelled to admit a new
/// peer.
const MIN_HANDSHAKE_TIME: Duration = Duration::from_secs(1);

/// How many finished connections wait for `accept`. When this queue is full, finished handshakes
/// wait for room in it, and new peers wait in the kernel's queue.
const QUEUE_LENGTH: usize = 64;

/// How long to wait when the process is out of file descriptors or memory.
const BACK_OFF: Duration = Duration::from_millis(200);

/// Accepts TCP connections and performs their TLS handshakes, each in a task of its own with a time
/// limit, so that a silent peer does not delay others. [`serve`](crate::serve) and `axum::serve`
/// take it.
///
/// The number of connections is limited, and which of them stay when there are many is decided by
/// who holds them: see [`ConnectionLimits`].
///
/// The number of handshakes is limited too. At the limit, the oldest one is cancelled for a new
/// peer if it has taken more than a second: an honest peer needs milliseconds, so a flood of silent
/// or slow peers delays it only briefly. If all are younger, new peers wait.
///
/// Dropping it stops listening and cancels the pending handshakes.
#[derive(Debug)]
pub struct Listener {
    finished: mpsc::Receiver<Connection>,
    local_addr: SocketAddr,
    /// Dropped when the listener stops to listen.
    listens: Option<oneshot::Sender<()>>,
    accepting: AbortHandle,
}

impl Listener {
    /// Binds `address` and starts to accept.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn bind(address: impl ToSocketAddrs, acceptor: Acceptor) -> io::Result<Self> {
        Self::new(TcpListener::bind(address).await?, acceptor)
    }

    /// Starts to accept from a socket that is already bound, with the default limits.
    ///
    /// # Errors
    /// The socket has no local address.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(tcp: TcpListener, acceptor: Acceptor) -> io::Result<Self> {
        Self::with_limits(tcp, acceptor, ConnectionLimits::default())
    }

    /// The same with other limits.
    ///
    /// # Errors
    /// The socket has no local address.
    ///
    /// # Panics
    /// Outside a tokio runtime, and when a limit on a number is 0.
    pub fn with_limits(
        tcp: TcpListener,
        acceptor: Acceptor,
        limits: ConnectionLimits,
    ) -> io::Result<Self> {
        assert!(
            limits.max_handshakes > 0 && limits.max_connections > 0,
            "a listener must be allowed at least one connection and one handshake"
        );
        let local_addr = tcp.local_addr()?;
        let (queue, finished) = mpsc::channel(QUEUE_LENGTH);
        let reports = LimitReports::new(acceptor.observer.clone());
        let admission = Admission {
            places: Places::new(&limits, reports.clone()),
            acceptor,
            queue,
            limits,
            reports,
        };
        let (listens, stopped) = oneshot::channel();
        let accepting = accept_all(tcp, Arc::new(admission), stopped);
        Ok(Self {
            finished,
            local_addr,
            listens: Some(listens),
            accepting: tokio::spawn(accepting).abort_handle(),
        })
    }

    /// The next connection whose handshake has succeeded. It is safe to cancel.
    pub async fn accept(&mut self) -> Connection {
        match self.finished.recv().await {
            Some(connection) => connection,
            // It has stopped to listen, or the runtime ends.
            None => std::future::pending().await,
        }
    }

    /// Stops listening. Peers that the kernel has already accepted are not let down: their handshakes
    /// go on, and [`accept_pending`](Self::accept_pending) has the connections.
    pub fn stop_listening(&mut self) {
        self.listens = None;
    }

    /// After [`stop_listening`](Self::stop_listening): the next connection, or `None` if no
    /// handshake is left. Each handshake has its time limit, so this ends. It is safe to cancel.
    pub async fn accept_pending(&mut self) -> Option<Connection> {
        self.finished.recv().await
    }

    /// The address of the listening socket.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// What becomes of a TCP stream.
struct Admission {
    acceptor: Acceptor,
    places: Arc<Places>,
    queue: mpsc::Sender<Connection>,
    limits: ConnectionLimits,
    reports: Arc<LimitReports>,
}

async fn accept_all(
    tcp: TcpListener,
    admission: Arc<Admission>,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut handshakes = Handshakes::default();
    let mut listens = true;
    loop {
        let accepted = match listens {
            true => tokio::select! {
                biased;
                _ = &mut stopped => {
                    listens = false;
                    continue;
                }
                accepted = tcp.accept() => accepted,
            },
            // Those that wait in the kernel's queue; closing the socket would reset them.
            false => match tcp.accept().now_or_never() {
                Some(accepted) => accepted,
                None => break,
            },
        };
        match accepted {
            Ok((stream, peer)) => {
                // Without a place the stream is closed here, before its handshake.
                if let Some(place) = admission.places.admit(peer) {
                    handshakes.make_room(&admission).await;
                    handshakes.begin(stream, peer, place, admission.clone());
                }
            }
            Err(error) if concerns_one_peer(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "accepting failed; waiting {BACK_OFF:?} before the next attempt");
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
    drop(tcp);
    while handshakes.tasks.join_next().await.is_some() {}
}

/// The pending handshakes. Dropping this cancels them.
#[derive(Default)]
struct Handshakes {
    tasks: JoinSet<()>,
    /// Handshakes that may still be pending, the oldest first.
    by_age: VecDeque<PendingHandshake>,
}

struct PendingHandshake {
    started: Instant,
    peer: SocketAddr,
    /// Cancels the handshake. It is closed once the handshake has ended, successfully or not: a
    /// finished connection that waits in the queue is not cancelled.
    displace: oneshot::Sender<()>,
}

impl Handshakes {
    fn begin(
        &mut self,
        stream: TcpStream,
        peer: SocketAddr,
        place: Place,
        admission: Arc<Admission>,
    ) {
        let (displace, displaced) = oneshot::channel();
        let started = Instant::now();
        self.by_age.push_back(PendingHandshake {
            started,
            peer,
            displace,
        });
        self.tasks
            .spawn(handshake(stream, peer, place, admission, displaced));
    }

    /// Completes when fewer handshakes are pending than may be. If none ends by itself, cancels
    /// the oldest as soon as it is older than [`MIN_HANDSHAKE_TIME`].
    ///
    /// Example with a limit of 2: silent peers A and B connect at 0.0 s and 0.5 s, an honest peer C
    /// at 0.6 s. A is cancelled at 1.0 s, and C's handshake starts. If another peer D connects
    /// then, it waits until C has finished, or until B is cancelled at 1.5 s.
    async fn make_room(&mut self, admission: &Admission) {
        let limit = admission.limits.max_handshakes;
        loop {
            while self.tasks.try_join_next().is_some() {}
            while self
                .by_age
                .front()
                .is_some_and(|oldest| oldest.displace.is_closed())
            {
                self.by_age.pop_front();
            }
            if self.tasks.len() < limit {
                return;
            }
            let deadline = self
                .by_age
                .front()
                .map(|oldest| oldest.started + MIN_HANDSHAKE_TIME);
            let expired = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                _ = self.tasks.join_next() => {}
                () = expired => {
                    // If the send fails, the handshake has just ended by itself, and the loop sees
                    // that.
                    if let Some(oldest) = self.by_age.pop_front()
                        && oldest.displace.send(()).is_ok()
                    {
                        let owner = Owner::of(None, Some(oldest.peer));
                        admission.reports.reached(Limit::Handshakes, &owner);
                        self.tasks.join_next().await;
                    }
                }
            }
        }
    }
}

async fn handshake(
    stream: TcpStream,
    peer: SocketAddr,
    place: Place,
    admission: Arc<Admission>,
    displaced: oneshot::Receiver<()>,
) {
    let limits = &admission.limits;
    socket::set_up(&stream, limits.stalled_response_timeout);
    match admission
        .acceptor
        .accept_unless(stream, peer, displaced)
        .await
    {
        Ok((stream, facts)) => {
            let activity = Activity::new();
            if !place.settle(&facts, &activity) {
                facts.close_report.set_reason(CloseReason::Evicted);
                return;
            }
            tracing::debug!(connection = %facts.id(), %peer, resumed = facts.is_resumed(), "connection accepted");
            let reports = admission.reports.clone();
            let connection =
                Connection::with_place(stream, facts, activity, limits, reports, Some(place));
            // This fails only if the listener was dropped.
            let _ = admission.queue.send(connection).await;
        }
        Err(error) => {
            let cause = std::error::Error::source(&error);
            tracing::debug!(%peer, %error, cause, "connection refused");
        }
    }
}

fn concerns_one_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}
