//! Serves HTTP/1.1 and HTTP/2 on accepted connections. Each request carries its connection's facts.

mod body;

use std::error::Error as StdError;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower_service::Service;

use self::body::TrackedBody;
use crate::activity::Activity;
use crate::layer::keep_uri;
use crate::when_woken::WhenWoken;
use crate::{CloseReason, Connection, ConnectionFacts, Listener};

type BoxError = Box<dyn StdError + Send + Sync>;

/// An HTTP service that can be served on many connections: an `axum::Router`, say.
///
/// Implemented for every such tower service.
pub trait HttpService:
    Service<
        Request<Incoming>,
        Response = Response<<Self as HttpService>::Body>,
        Error: Into<BoxError>,
        Future: Send + 'static,
    > + Clone
    + Send
    + 'static
{
    /// The body of its responses.
    type Body: Body<Data: Send, Error: Into<BoxError>> + Send + 'static;
}

impl<S, B> HttpService for S
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Body = B;
}

/// How connections are served. How many there are and how long they may do nothing is the
/// listener's: see [`ConnectionLimits`](crate::ConnectionLimits).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServeOptions {
    /// How long requests in flight may continue once a connection is being drained. Default: 30 s.
    pub drain_timeout: Duration,
    /// HTTP/2 streams at a time on one connection. Default: 200.
    pub max_concurrent_streams: u32,
    /// Bytes of the head of one request, 8 KiB at least; a longer one is answered 431. Default:
    /// 64 KiB.
    pub max_head_bytes: u32,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            drain_timeout: Duration::from_secs(30),
            max_concurrent_streams: 200,
            max_head_bytes: 64 * 1024,
        }
    }
}

/// How long a connection may take for its end that was closed for another one. It was idle.
const EVICTION: Duration = Duration::from_secs(1);

/// Serves every connection of `listener` with `service` (such as an `axum::Router`) until
/// `shutdown` completes; then stops listening, drains the connections, and returns when they are
/// closed. A peer that was connecting just then gets its handshake, and is drained as well.
///
/// Each request finds its `Arc<`[`ConnectionFacts`]`>` among its extensions.
pub async fn serve<S: HttpService>(
    mut listener: Listener,
    service: S,
    options: ServeOptions,
    shutdown: impl Future<Output = ()>,
) {
    let mut shutdown = pin!(shutdown);
    let (stop, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    let one = |connection| {
        let (service, options, mut stopped) = (service.clone(), options.clone(), stopped.clone());
        async move {
            // An error means that the sender was dropped, which also means: stop.
            let stop = async move { drop(stopped.changed().await) };
            serve_connection(connection, service, &options, stop).await;
        }
    };
    loop {
        let connection = tokio::select! {
            biased;
            () = &mut shutdown => break,
            connection = listener.accept() => connection,
        };
        connections.spawn(one(connection));
        while connections.try_join_next().is_some() {}
    }
    listener.stop_listening();
    drop(stop);
    while let Some(connection) = listener.accept_pending().await {
        connections.spawn(one(connection));
    }
    while connections.join_next().await.is_some() {}
}

/// Serves one connection until it is closed.
///
/// It is *drained* (no new request; those in flight finish, within [`ServeOptions::drain_timeout`])
/// when `shutdown` completes, when its client certificate expires or no longer verifies (RS-1), or
/// when one of its [`ConnectionLimits`](crate::ConnectionLimits) is reached. HTTP/2 is spoken where
/// it was negotiated, HTTP/1.1 otherwise, never guessed from the first bytes.
pub async fn serve_connection<IO, S>(
    connection: Connection<IO>,
    service: S,
    options: &ServeOptions,
    shutdown: impl Future<Output = ()>,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: HttpService,
{
    let (stream, ending) = connection.into_parts();
    let facts = ending.facts();
    let service = with_facts(service, facts.clone(), ending.activity().clone());
    let builder = http_builder(facts, options);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = async {
        tokio::select! {
            biased;
            () = shutdown => CloseReason::Shutdown,
            reason = ending.wanted() => reason,
        }
    };
    let reason = tokio::select! {
        // A response that is ready at the same moment says that it is the last (RFC 9112 section 9.6).
        biased;
        reason = WhenWoken::new(ended) => reason,
        result = connection.as_mut() => return log_end(facts, result),
    };
    facts.close_report.set_reason(reason);
    tracing::debug!(connection = %facts.id(), reason = facts.close_report.reason().map(CloseReason::name), "draining");
    connection.as_mut().graceful_shutdown();
    let limit = match reason {
        CloseReason::Evicted => EVICTION.min(options.drain_timeout),
        _ => options.drain_timeout,
    };
    match tokio::time::timeout(limit, connection).await {
        Ok(result) => log_end(facts, result),
        Err(_) => tracing::debug!(connection = %facts.id(), "closed: draining took too long"),
    }
}

/// Wraps `service` so that each request carries the facts, and the connection's activity knows which
/// response bodies have something to send.
fn with_facts<S: HttpService>(
    service: S,
    facts: Arc<ConnectionFacts>,
    activity: Arc<Activity>,
) -> impl hyper::service::Service<
    Request<Incoming>,
    Response = Response<impl Body<Data: Send, Error: Into<BoxError>> + Send + use<S>>,
    Error = BoxError,
    Future: Send + 'static,
> {
    let service = TowerToHyperService::new(service);
    service_fn(move |mut request: Request<Incoming>| {
        let body = TrackedBody::begin(activity.clone());
        request.extensions_mut().insert(facts.clone());
        keep_uri(&mut request);
        let response = service.call(request);
        async move {
            let response = response.await.map_err(Into::into)?;
            Ok(response.map(|inner| body.track(inner)))
        }
    })
}

fn http_builder(facts: &ConnectionFacts, options: &ServeOptions) -> Builder<TokioExecutor> {
    // hyper panics with less.
    const MIN_HEAD_BYTES: u32 = 8 * 1024;
    let max_head_bytes = options.max_head_bytes.max(MIN_HEAD_BYTES);
    let mut builder = Builder::new(TokioExecutor::new());
    // hyper's header_read_timeout also counts the idle time between two requests, and it closes
    // without a TLS close_notify. `ConnectionLimits` bound both instead.
    // Upstream: https://github.com/hyperium/hyper/issues/1628 and
    // https://github.com/hyperium/hyper/issues/2355.
    builder
        .http1()
        .timer(TokioTimer::new())
        .max_buf_size(usize::try_from(max_head_bytes).unwrap_or(usize::MAX))
        .header_read_timeout(None);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(max_head_bytes)
        .max_concurrent_streams(options.max_concurrent_streams)
        .keep_alive_interval(Duration::from_secs(60));
    match facts.alpn() {
        Some(b"h2") => builder.http2_only(),
        _ => builder.http1_only(),
    }
}

fn log_end(facts: &ConnectionFacts, result: Result<(), BoxError>) {
    match result {
        Ok(()) => {
            facts.close_report.set_reason(CloseReason::Peer);
            tracing::debug!(connection = %facts.id(), "closed");
        }
        Err(error) => {
            facts.close_report.set_reason(CloseReason::Error);
            tracing::debug!(connection = %facts.id(), %error, "broken");
        }
    }
}
