//! rmcp's side: messages out by POST, messages in from the stream, and what happens when it breaks.

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

use super::http::{Http, Stream};
use super::patience::Patience;
use super::session::{Session, Taken};
use crate::Error;
use crate::error::Cause;

type Quit = WorkerQuitReason<Error>;
type Context = WorkerContext<LegacySseWorker>;
type Responder = oneshot::Sender<Result<(), Error>>;

/// How long an answer is held for the end of its POST.
const HOLD: Duration = Duration::from_millis(200);
/// POSTs at a time; rmcp waits beyond that.
const MAX_POSTS: usize = 64;
/// Events before the answer to a repeated `initialize`: only pings and log messages may come then.
const MAX_BEFORE_BEGUN: usize = 64;

/// The task behind a transport that [`LegacySse`](crate::LegacySse) has made.
pub struct LegacySseWorker {
    http: Http,
    session: Session,
    patience: Patience,
    posts: FuturesUnordered<BoxFuture<'static, (u64, Result<(), Error>)>>,
    /// Who waits for which POST.
    senders: HashMap<u64, (Sent, Responder)>,
    next_post: u64,
    /// Whether the server accepts a message no later than it answers it, by the last one.
    prompt: bool,
}

/// What a POST carries, as far as it matters when it fails.
enum Sent {
    Request(RequestId),
    /// `notifications/initialized`, which a new session begins with in any case.
    Initialized,
    Other,
}

impl LegacySseWorker {
    pub(super) fn new(http: Http, reconnects: u32) -> Self {
        Self {
            http,
            session: Session::default(),
            patience: Patience::new(reconnects),
            posts: FuturesUnordered::new(),
            senders: HashMap::new(),
            next_post: 0,
            prompt: true,
        }
    }

    async fn live(&mut self, context: &mut Context) -> Result<(), Quit> {
        let first = context.recv_from_handler().await?;
        let mut stream = match self.http.open().await {
            Ok(stream) => stream,
            Err(e) => {
                let _ = first.responder.send(Err(e.clone()));
                return Err(Quit::fatal(e, "opening the event stream"));
            }
        };
        self.send(&stream, first);
        loop {
            let why = self.talk(&mut stream, context).await?;
            tracing::debug!("the event stream broke: {why}");
            self.patience.ended_after(stream.opened.elapsed());
            self.lose(&why);
            // Closed before another one is opened.
            let retry = stream.retry.pause();
            drop(stream);
            stream = match self.open_again(why, retry, context).await {
                Ok(stream) => stream,
                Err(e) => {
                    self.end(&e, context).await;
                    return Err(Quit::fatal(e, "opening the event stream again"));
                }
            };
        }
    }

    /// Until the stream breaks: returns why it did.
    async fn talk(&mut self, stream: &mut Stream, context: &mut Context) -> Result<Error, Quit> {
        loop {
            tokio::select! {
                permit = context.to_handler_tx.reserve(), if !self.session.inbox.is_empty() => {
                    let permit = permit.map_err(|_| Quit::HandlerTerminated)?;
                    if let Some(message) = self.session.inbox.pop_front() {
                        permit.send(message);
                    }
                }
                // Nothing more is read before rmcp has taken what was read.
                event = stream.next(), if self.session.inbox.is_empty() => {
                    let event = match event {
                        Ok(event) => event,
                        Err(why) => return Ok(why),
                    };
                    match self.take_in(stream, &event.event, &event.data) {
                        Ok(Taken::Answer(id)) => {
                            self.patience.renew();
                            self.hold(&id).await;
                        }
                        Ok(_) => {}
                        Err(why) => return Ok(why),
                    }
                }
                message = context.from_handler_rx.recv(), if self.posts.len() < MAX_POSTS => {
                    self.send(stream, message.ok_or(Quit::HandlerTerminated)?);
                }
                Some((post, result)) = self.posts.next() => self.posted(post, result),
            }
        }
    }

    /// Waits for the end of a POST whose answer is already here, a moment at most: the caller's
    /// next message often follows hard upon it, and would find the HTTP/1.1 connection busy. It
    /// would need another one, and that another proof.
    async fn hold(&mut self, id: &RequestId) {
        let limit = if self.prompt { HOLD } else { Duration::ZERO };
        let is_over = async {
            while self.is_posting(id) {
                let Some((post, result)) = self.posts.next().await else {
                    return;
                };
                self.posted(post, result);
            }
        };
        self.prompt = timeout(limit, is_over).await.is_ok();
    }

    fn is_posting(&self, id: &RequestId) -> bool {
        let mut senders = self.senders.values();
        senders.any(|(sent, _)| matches!(sent, Sent::Request(sent) if sent == id))
    }

    fn take_in(&mut self, stream: &mut Stream, event: &str, data: &str) -> Result<Taken, Error> {
        match event {
            "message" => self.session.incoming(data),
            "endpoint" => {
                stream.endpoint = super::endpoint::resolve(&self.http.uri, data)?;
                Ok(Taken::Other)
            }
            _ => Ok(Taken::Other),
        }
    }

    fn send(&mut self, stream: &Stream, request: WorkerSendRequest<Self>) {
        let Some(message) = self.session.outgoing(request.message) else {
            tracing::debug!("dropping an answer to a request of an earlier session");
            let _ = request.responder.send(Ok(()));
            return;
        };
        let sent = match &message {
            ClientJsonRpcMessage::Request(request) => Sent::Request(request.id.clone()),
            ClientJsonRpcMessage::Notification(notification) => match notification.notification {
                ClientNotification::InitializedNotification(_) => Sent::Initialized,
                _ => Sent::Other,
            },
            _ => Sent::Other,
        };
        let post = self.next_post;
        self.next_post += 1;
        self.senders.insert(post, (sent, request.responder));
        let (http, endpoint, version) = (
            self.http.clone(),
            stream.endpoint.clone(),
            self.session.version(),
        );
        let posting = async move { (post, http.post(endpoint, version, message).await) };
        self.posts.push(posting.boxed());
    }

    fn posted(&mut self, post: u64, result: Result<(), Error>) {
        let Some((sent, responder)) = self.senders.remove(&post) else {
            return;
        };
        if let (Err(_), Sent::Request(id)) = (&result, &sent) {
            self.session.forget(id);
        }
        let _ = responder.send(result);
    }

    /// Tells everybody who waits for something of this session that it will not come.
    fn lose(&mut self, why: &Error) {
        self.posts.clear();
        for (_, (sent, responder)) in self.senders.drain() {
            if let Sent::Request(id) = &sent {
                self.session.forget(id);
            }
            let _ = responder.send(match sent {
                Sent::Initialized => Ok(()),
                _ => Err(Cause::StreamBroke(why.clone()).into()),
            });
        }
        self.session.lose(why);
    }

    /// A new stream, and on it a new session, as often as patience allows. What is for rmcp is
    /// delivered meanwhile.
    async fn open_again(
        &mut self,
        mut why: Error,
        retry: Option<Duration>,
        context: &mut Context,
    ) -> Result<Stream, Error> {
        let Some(initialize) = self.session.initialize() else {
            return Err(why);
        };
        loop {
            if !why.is_worth_another_stream() {
                return Err(why);
            }
            let Some(pause) = self.patience.pause(why.retry_after().or(retry)) else {
                let tries = self.patience.tried();
                return Err(Cause::GaveUp { tries, last: why }.into());
            };
            self.pause(pause, context).await;
            match self.begin_again(initialize.clone()).await {
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

    async fn begin_again(&mut self, initialize: ClientJsonRpcMessage) -> Result<Stream, Error> {
        let mut stream = self.http.open().await?;
        self.http
            .post(stream.endpoint.clone(), None, initialize)
            .await?;
        let time = self.http.open_time;
        let answered = async {
            for _ in 0..MAX_BEFORE_BEGUN {
                let event = stream.next().await?;
                if self.take_in(&mut stream, &event.event, &event.data)? == Taken::Begun {
                    return Ok(());
                }
            }
            Err(Error::from(Cause::Flood(
                "events before it answers initialize",
            )))
        };
        match timeout(time, answered).await {
            Ok(answered) => answered?,
            Err(_) => return Err(Cause::SlowStream(time).into()),
        }
        if let Some(initialized) = self.session.initialized() {
            self.http
                .post(stream.endpoint.clone(), self.session.version(), initialized)
                .await?;
        }
        Ok(stream)
    }

    /// The end: whoever waits hears why, as far as rmcp still listens.
    async fn end(&mut self, why: &Error, context: &mut Context) {
        self.lose(why);
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
        Cause::Closed.into()
    }

    fn err_join(e: tokio::task::JoinError) -> Error {
        Cause::Panicked(e.to_string()).into()
    }

    async fn run(mut self, mut context: Context) -> Result<(), Quit> {
        let cancellation = context.cancellation_token.clone();
        tokio::select! {
            quit = self.live(&mut context) => quit,
            () = cancellation.cancelled() => Err(Quit::Cancelled),
        }
    }
}

impl std::fmt::Debug for LegacySseWorker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LegacySseWorker").finish_non_exhaustive()
    }
}
