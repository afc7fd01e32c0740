//! A connection in use.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::Pool;
use super::machine::{KeyId, Use};
use crate::body::ReplayBody;
use crate::conn::facts::{ConnectionFacts, HttpVersion};
use crate::conn::frames::ASSUMED_STREAMS;
use crate::conn::live::{Connection, Sender};
use crate::observe::{CloseReason, ConnectionUse};

/// A connection in use by one request: alone if it is h1, shared with others if it is h2.
///
/// Each ends in one of four ways. The response body ends: [`end_of_body`](Self::end_of_body). The
/// connection breaks: [`broken`](Self::broken). Nothing was written: [`release`](Self::release).
/// The request is cancelled: the checkout is dropped, which cancels what it had begun. All four
/// give the connection back to the pool, as far as it can carry another request.
pub(crate) struct Checkout {
    connection: Arc<Connection>,
    pool: Arc<Pool>,
    key: KeyId,
    /// `None` once it is of no more use.
    sender: Option<Sender>,
    phase: Phase,
    /// How long the peer keeps the connection once it is idle (`Keep-Alive: timeout`).
    keep_alive: Option<Duration>,
    body_sent: bool,
    /// When its request was written.
    written: Option<Instant>,
    /// The number of its request on the connection.
    number: u64,
    /// The pool knew how many requests the connection takes.
    was_limit_known: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing was written.
    Untouched,
    /// A request is on its way, or its response is.
    Busy,
    /// Its response has ended.
    Ended,
    /// The response said that it is the connection's last (RFC 9112 §9.3).
    Last,
    /// The pool has it back, or it is of no more use.
    Released,
}

/// What an h1 response says about its connection's future.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Persistence {
    /// It is the connection's last response (RFC 9112 §9.3).
    pub(crate) is_last: bool,
    /// `Keep-Alive`.
    pub(crate) keep_alive: KeepAlive,
    /// The request's body had been sent when the response came: only the response's end is left to
    /// wait for.
    pub(crate) body_sent: bool,
}

/// What an h1 server says of how long it keeps a connection, and for how many requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeepAlive {
    /// `timeout`, less a second.
    pub(crate) timeout: Option<Duration>,
    /// `max`: so many more.
    pub(crate) max: Option<u64>,
}

/// Why there is no response.
pub(crate) enum WriteError {
    /// The request never left: here it is (CL-7).
    Unsent(Box<Request<ReplayBody>>),
    /// It left, at least in part.
    Lost(hyper::Error),
}

impl Checkout {
    pub(super) fn new(
        sender: Sender,
        connection: Arc<Connection>,
        pool: Arc<Pool>,
        key: KeyId,
    ) -> Self {
        let was_limit_known = connection.wire.are_settings_acked();
        Self {
            connection,
            pool,
            key,
            sender: Some(sender),
            phase: Phase::Untouched,
            keep_alive: None,
            body_sent: false,
            written: None,
            number: 0,
            was_limit_known,
        }
    }

    pub(crate) fn facts(&self) -> &Arc<ConnectionFacts> {
        &self.connection.facts
    }

    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    pub(crate) fn is_closed(&self) -> bool {
        match &self.sender {
            Some(Sender::H1(sender)) => sender.is_closed(),
            Some(Sender::H2(sender)) => sender.is_closed(),
            None => true,
        }
    }

    /// Whether it has carried no request yet.
    pub(crate) fn is_new(&self) -> bool {
        self.connection.is_new()
    }

    pub(super) fn key(&self) -> KeyId {
        self.key
    }

    /// Counts a request that is about to be written.
    pub(crate) fn begin(&mut self) -> ConnectionUse {
        self.number = self.connection.requests.fetch_add(1, Ordering::Relaxed) + 1;
        match self.number {
            1 => ConnectionUse::New,
            _ => ConnectionUse::Reused,
        }
    }

    /// Writes the request and waits for the response's head.
    pub(crate) async fn write(
        &mut self,
        request: Request<ReplayBody>,
    ) -> Result<Response<Incoming>, WriteError> {
        self.phase = Phase::Busy;
        // Neither keeps the sender while it waits: see `ParkedSender`.
        let sent = match self.sender.take() {
            Some(Sender::H1(mut sender)) => {
                self.written = Some(Instant::now());
                self.connection.head_pending();
                let response = sender.try_send_request(request);
                self.connection.parked.park(sender);
                let sent = response.await;
                self.sender = self.connection.parked.take().map(Sender::H1);
                sent
            }
            Some(Sender::H2(mut sender)) => {
                if !self.has_room().await {
                    self.connection.requests.fetch_sub(1, Ordering::Relaxed);
                    return Err(WriteError::Unsent(Box::new(request)));
                }
                let response = sender.try_send_request(request);
                drop(sender);
                response.await
            }
            None => {
                unreachable!("a checkout loses its sender only to an error, which ends its use")
            }
        };
        sent.map_err(|mut error| {
            // Of no more use; hyper reports why.
            self.sender = None;
            self.connection.head_seen();
            match error.take_message() {
                Some(request) => {
                    self.connection.requests.fetch_sub(1, Ordering::Relaxed);
                    WriteError::Unsent(Box::new(request))
                }
                None => WriteError::Lost(error.into_error()),
            }
        })
    }

    /// Whether the h2 connection takes the request. The pool assigns any number of requests to one
    /// whose limit is not known yet; more than are assumed wait for it here, and go back to the
    /// pool if they are too many.
    async fn has_room(&self) -> bool {
        let wire = &self.connection.wire;
        let is_early = !wire.are_settings_acked() && self.number < ASSUMED_STREAMS as u64;
        if self.was_limit_known || is_early {
            return true;
        }
        wire.settings_acked().await;
        self.number <= wire.streams() as u64
    }

    /// The head of the response has come. If the response is the connection's last, the pool does
    /// not use the connection again.
    pub(crate) fn head_came(&mut self, persistence: Persistence) {
        self.keep_alive = persistence.keep_alive.timeout;
        if let Some(requests) = persistence.keep_alive.max {
            self.pool.left(self.key, &self.connection, requests);
        }
        self.body_sent = persistence.body_sent;
        if persistence.is_last {
            self.phase = Phase::Last;
            self.connection
                .expect_end(Some(CloseReason::ConnectionClose));
            self.connection.ended(CloseReason::ConnectionClose);
        }
        self.connection.head_seen();
    }

    /// The response has ended: the connection can go on as soon as hyper is done with it.
    pub(crate) fn end_of_body(mut self) {
        if self.phase == Phase::Busy {
            self.phase = Phase::Ended;
        }
        self.release();
    }

    /// The connection broke: hyper reports its end.
    pub(crate) fn broken(mut self) {
        self.sender = None;
        self.release();
    }

    /// Gives the connection back to the pool: unused, or after its response.
    pub(crate) fn release(mut self) {
        let sender = self.sender.take();
        self.give_back(sender);
        self.phase = Phase::Released;
    }

    fn give_back(&mut self, sender: Option<Sender>) {
        let sender = match sender {
            _ if self.connection.facts.http() == HttpVersion::H2 => {
                let made = match self.phase {
                    Phase::Untouched => Use::None,
                    _ => Use::Stream,
                };
                let now = Instant::now();
                self.pool
                    .release(now, self.key, &self.connection, None, made);
                return;
            }
            Some(Sender::H1(sender)) => Some(sender),
            _ => None,
        };
        // Before the sender is given back: the next request's head is not this one's.
        self.connection.head_seen();
        if let Some(sender) =
            sender.filter(|sender| !sender.is_closed() && self.phase != Phase::Last)
        {
            self.give_back_h1(sender);
        }
    }

    fn give_back_h1(&self, mut sender: http1::SendRequest<ReplayBody>) {
        let key = self.key;
        let connection = self.connection.clone();
        let (written, keep_alive) = (self.written, self.keep_alive);
        let release = move |pool: &Arc<Pool>, sender| {
            let now = Instant::now();
            let made = written.map_or(Use::None, |written| Use::Alone {
                took: now.saturating_duration_since(written),
                keep_alive,
            });
            pool.release(now, key, &connection, Some(Sender::H1(sender)), made);
        };
        if self.phase == Phase::Untouched || sender.is_ready() {
            release(&self.pool, sender);
            return;
        }
        // hyper learns only when it is polled next that the response has ended; a request body may
        // be under way. Outside a runtime nothing could poll it: the connection is dropped.
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if self.phase == Phase::Ended && self.body_sent {
            self.pool.returning(key, &self.connection);
        }
        // Weak: a client that was dropped must not be kept alive by its connections.
        let pool = Arc::downgrade(&self.pool);
        runtime.spawn(async move {
            if sender.ready().await.is_ok()
                && let Some(pool) = pool.upgrade()
            {
                release(&pool, sender);
            }
        });
    }
}

/// The request was cancelled: its caller dropped it or its body, it was not answered in time, or
/// its binding failed. Every other outcome gives the connection back by name.
impl Drop for Checkout {
    fn drop(&mut self) {
        if self.phase == Phase::Released {
            return;
        }
        let sender = match self.sender.take() {
            // While a request waits for its response, the connection keeps the sender.
            None if self.phase == Phase::Busy => self.connection.parked.take().map(Sender::H1),
            sender => sender,
        };
        if self.phase == Phase::Busy && matches!(sender, Some(Sender::H1(_))) {
            self.connection.expect_end(Some(CloseReason::Cancelled));
        }
        self.give_back(sender);
    }
}
