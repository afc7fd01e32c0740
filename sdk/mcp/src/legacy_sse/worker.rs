//! rmcp's worker: posts messages, reads the event stream, and reconnects when the stream breaks.

use std::collections::HashMap;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use rmcp::RoleClient;
use rmcp::model::{ClientJsonRpcMessage, ClientNotification, RequestId};
use rmcp::transport::worker::{Worker, WorkerContext, WorkerQuitReason, WorkerSendRequest};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::http::{Connector, DataEvent, OpenStream};
use super::reconnect::Reconnects;
use super::session::{Incoming, Session};
use crate::Error;
use crate::error::LegacyCause;

type Quit = WorkerQuitReason<Error>;
type Context = WorkerContext<LegacySseWorker>;
type Responder = oneshot::Sender<Result<(), Error>>;

/// Maximum time for which a response waits for the end of its POST.
const HOLD: Duration = Duration::from_millis(200);
/// Maximum number of concurrent POSTs; rmcp waits beyond that.
const MAX_POSTS: usize = 64;
/// Maximum number of events before the response to a repeated `initialize`: only pings and log
/// messages may come before it.
const MAX_EVENTS_BEFORE_RESPONSE: usize = 64;

/// The task behind a transport that [`LegacySse`](crate::LegacySse) has made.
pub struct LegacySseWorker {
    connector: Connector,
    session: Session,
    reconnects: Reconnects,
    posts: FuturesUnordered<BoxFuture<'static, (u64, Result<(), Error>)>>,
    /// What each POST carries, and where to report its result.
    senders: HashMap<u64, (Posted, Responder)>,
    next_post: u64,
    /// Whether the server accepts a message no later than it responds to it, judged by the last
    /// one.
    accepts_promptly: bool,
}

/// What a POST carries, as far as it matters when the POST fails.
enum Posted {
    Request(RequestId),
    /// `notifications/initialized`, which is sent again on a new session in any case.
    Initialized,
    Other,
}

impl LegacySseWorker {
    pub(super) fn new(connector: Connector, max_reconnects: u32) -> Self {
        Self {
            session: Session::new(connector.sent.clone()),
            connector,
            reconnects: Reconnects::new(max_reconnects),
            posts: FuturesUnordered::new(),
            senders: HashMap::new(),
            next_post: 0,
            accepts_promptly: true,
        }
    }

    /// Runs one session after the other, until rmcp ends or reconnecting fails.
    async fn run_sessions(&mut self, context: &mut Context) -> Result<(), Quit> {
        let first = context.recv_from_handler().await?;
        let mut stream = match self.connector.open().await {
            Ok(stream) => stream,
            Err(e) => {
                let _ = first.responder.send(Err(e.clone()));
                return Err(Quit::fatal(e, "opening the event stream"));
            }
        };
        self.send(&stream, first);
        loop {
            let why = self.pump(&mut stream, context).await?;
            tracing::debug!("the event stream broke: {why}");
            self.reconnects.stream_ended(stream.opened.elapsed());
            self.fail_pending(&why);
            let retry = stream.retry();
            // Close the old stream before a new one is opened.
            drop(stream);
            stream = match self.reconnect(why, retry, context).await {
                Ok(stream) => stream,
                Err(e) => {
                    self.shut_down(&e, context).await;
                    return Err(Quit::fatal(e, "opening the event stream again"));
                }
            };
        }
    }

    /// Passes messages both ways until the stream breaks, and returns why it broke.
    async fn pump(
        &mut self,
        stream: &mut OpenStream,
        context: &mut Context,
    ) -> Result<Error, Quit> {
        loop {
            tokio::select! {
                permit = context.to_handler_tx.reserve(), if !self.session.inbox.is_empty() => {
                    let permit = permit.map_err(|_| Quit::HandlerTerminated)?;
                    if let Some(message) = self.session.inbox.pop_front() {
                        permit.send(message);
                    }
                }
                // Read on only when rmcp has taken all messages: a slow handler slows the server.
                event = stream.next(), if self.session.inbox.is_empty() => {
                    let event = match event {
                        Ok(event) => event,
                        Err(why) => return Ok(why),
                    };
                    match self.handle_event(stream, event) {
                        Ok(Incoming::Response(id)) => {
                            self.reconnects.reset();
                            self.await_post(&id).await;
                        }
                        Ok(_) => {}
                        Err(why) => return Ok(why),
                    }
                }
                message = context.from_handler_rx.recv(), if self.posts.len() < MAX_POSTS => {
                    self.send(stream, message.ok_or(Quit::HandlerTerminated)?);
                }
                Some((post, result)) = self.posts.next() => self.finish_post(post, result),
            }
        }
    }

    /// Waits, for a moment at most, for the end of a POST whose response is already here. The
    /// caller's next message often follows the response at once. It would find the HTTP/1.1
    /// connection of that POST busy, and need a new connection and a new proof.
    async fn await_post(&mut self, id: &RequestId) {
        let limit = if self.accepts_promptly {
            HOLD
        } else {
            Duration::ZERO
        };
        let finished = async {
            while self.is_posting(id) {
                let Some((post, result)) = self.posts.next().await else {
                    return;
                };
                self.finish_post(post, result);
            }
        };
        self.accepts_promptly = timeout(limit, finished).await.is_ok();
    }

    fn is_posting(&self, id: &RequestId) -> bool {
        let mut senders = self.senders.values();
        senders.any(|(posted, _)| matches!(posted, Posted::Request(posted) if posted == id))
    }

    fn handle_event(
        &mut self,
        stream: &mut OpenStream,
        event: DataEvent,
    ) -> Result<Incoming, Error> {
        match event.name.as_str() {
            "message" => self.session.incoming(&event.data),
            "endpoint" => {
                stream.endpoint = super::endpoint::resolve(&self.connector.uri, &event.data)?;
                Ok(Incoming::Other)
            }
            _ => Ok(Incoming::Other),
        }
    }

    fn send(&mut self, stream: &OpenStream, request: WorkerSendRequest<Self>) {
        let Some(message) = self.session.outgoing(request.message) else {
            tracing::debug!("dropping the response to a request of an earlier session");
            let _ = request.responder.send(Ok(()));
            return;
        };
        let posted = match &message {
            ClientJsonRpcMessage::Request(request) => Posted::Request(request.id.clone()),
            ClientJsonRpcMessage::Notification(notification) => match notification.notification {
                ClientNotification::InitializedNotification(_) => Posted::Initialized,
                _ => Posted::Other,
            },
            _ => Posted::Other,
        };
        let post = self.next_post;
        self.next_post += 1;
        self.senders.insert(post, (posted, request.responder));
        let (connector, endpoint, version) = (
            self.connector.clone(),
            stream.endpoint.clone(),
            self.session.version(),
        );
        let posting = async move { (post, connector.post(endpoint, version, message).await) };
        self.posts.push(posting.boxed());
    }

    fn finish_post(&mut self, post: u64, result: Result<(), Error>) {
        let Some((posted, responder)) = self.senders.remove(&post) else {
            return;
        };
        if let (Err(_), Posted::Request(id)) = (&result, &posted) {
            self.session.forget(id);
        }
        let _ = responder.send(result);
    }

    /// Fails everything that waits for this session: POSTs under way, and requests without a
    /// response.
    fn fail_pending(&mut self, why: &Error) {
        self.posts.clear();
        for (_, (posted, responder)) in self.senders.drain() {
            if let Posted::Request(id) = &posted {
                self.session.forget(id);
            }
            let _ = responder.send(match posted {
                Posted::Initialized => Ok(()),
                _ => Err(LegacyCause::StreamBroken(why.clone()).into()),
            });
        }
        self.session.fail_pending(why);
    }

    /// Opens a new stream and begins a new session on it, in as many attempts as are allowed.
    /// Meanwhile rmcp gets the messages of the inbox.
    async fn reconnect(
        &mut self,
        mut why: Error,
        retry: Option<Duration>,
        context: &mut Context,
    ) -> Result<OpenStream, Error> {
        let Some(initialize) = self.session.initialize() else {
            return Err(why);
        };
        loop {
            if !why.is_retryable() {
                return Err(why);
            }
            let Some(pause) = self.reconnects.next_pause(why.retry_after().or(retry)) else {
                let attempts = self.reconnects.attempts();
                return Err(LegacyCause::GaveUp {
                    attempts,
                    last: why,
                }
                .into());
            };
            self.pause(pause, context).await;
            match self.reinitialize(initialize.clone()).await {
                Ok(stream) => return Ok(stream),
                Err(e) => why = e,
            }
        }
    }

    async fn pause(&mut self, time: Duration, context: &mut Context) {
        let mut sleeping = pin!(sleep(time));
        loop {
            tokio::select! {
                () = &mut sleeping => return,
                Ok(permit) = context.to_handler_tx.reserve(), if !self.session.inbox.is_empty() => {
                    if let Some(message) = self.session.inbox.pop_front() {
                        permit.send(message);
                    }
                }
            }
        }
    }

    /// Opens a stream and repeats the handshake on it.
    async fn reinitialize(
        &mut self,
        initialize: ClientJsonRpcMessage,
    ) -> Result<OpenStream, Error> {
        let mut stream = self.connector.open().await?;
        let endpoint = stream.endpoint.clone();
        self.connector.post(endpoint, None, initialize).await?;
        let limit = self.connector.open_timeout;
        let answered = async {
            for _ in 0..MAX_EVENTS_BEFORE_RESPONSE {
                let event = stream.next().await?;
                let incoming = self.handle_event(&mut stream, event)?;
                if incoming == Incoming::Reinitialized {
                    return Ok(());
                }
            }
            let too_many = LegacyCause::TooMany("events before it answers initialize");
            Err(Error::from(too_many))
        };
        match timeout(limit, answered).await {
            Ok(answered) => answered?,
            Err(_) => return Err(LegacyCause::StreamTimeout(limit).into()),
        }
        if let Some(initialized) = self.session.initialized() {
            let (endpoint, version) = (stream.endpoint.clone(), self.session.version());
            self.connector.post(endpoint, version, initialized).await?;
        }
        Ok(stream)
    }

    /// Ends the transport: reports the reason to every sender, as far as rmcp still listens.
    async fn shut_down(&mut self, why: &Error, context: &mut Context) {
        self.fail_pending(why);
        context.from_handler_rx.close();
        while let Ok(request) = context.from_handler_rx.try_recv() {
            let _ = request.responder.send(Err(why.clone()));
        }
        for message in std::mem::take(&mut self.session.inbox) {
            if context.to_handler_tx.send(message).await.is_err() {
                return;
            }
        }
    }
}

impl Worker for LegacySseWorker {
    type Error = Error;
    type Role = RoleClient;

    fn err_closed() -> Error {
        LegacyCause::Closed.into()
    }

    fn err_join(e: tokio::task::JoinError) -> Error {
        LegacyCause::Panicked(e.to_string()).into()
    }

    async fn run(mut self, mut context: Context) -> Result<(), Quit> {
        let cancellation = context.cancellation_token.clone();
        tokio::select! {
            quit = self.run_sessions(&mut context) => quit,
            () = cancellation.cancelled() => Err(Quit::Cancelled),
        }
    }
}

impl std::fmt::Debug for LegacySseWorker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LegacySseWorker").finish_non_exhaustive()
    }
}
