//! Serves HTTP/1.1 and HTTP/2 on accepted connections. Each request carries its connection's facts.

mod activity;

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
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;
use tower_service::Service;

use self::activity::Activity;
use crate::expiry::past_not_after;
use crate::{Clock, CloseReason, ConnectionFacts, Lingering, Listener};

type BoxError = Box<dyn StdError + Send + Sync>;

/// Limits of a server. The defaults suit a server whose peers are not fully trusted.
///
/// They bound connections, not requests: the service must bound request bodies itself.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServeOptions {
    /// How long a new connection may take until the head of its first request has arrived. Default:
    /// 30 s.
    pub first_request_timeout: Duration,
    /// How long a connection may stay without a request afterwards. Default: 5 minutes, because
    /// each closed connection costs its client a new proof.
    pub idle_timeout: Duration,
    /// How long requests in flight may continue once a connection is being drained. Default: 30 s.
    pub drain_timeout: Duration,
    /// HTTP/2 streams at a time on one connection. Default: 200.
    pub max_concurrent_streams: u32,
    /// Connections at a time; further ones wait. Default: 10,000.
    pub max_connections: usize,
    /// The clock by which client certificates expire (RS-1). Default: the system's.
    pub clock: Clock,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            first_request_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(300),
            drain_timeout: Duration::from_secs(30),
            max_concurrent_streams: 200,
            max_connections: 10_000,
            clock: Clock::default(),
        }
    }
}

/// Serves every connection of `listener` with `service` (such as an `axum::Router`) until
/// `shutdown` completes; then stops listening, drains the connections, and returns when they are
/// closed.
///
/// Each request finds its `Arc<`[`ConnectionFacts`]`>` among its extensions.
pub async fn serve<S, B>(
    mut listener: Listener,
    service: S,
    options: ServeOptions,
    shutdown: impl Future<Output = ()>,
) where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let mut shutdown = pin!(shutdown);
    let (stop, stopped) = watch::channel(());
    let slots = Arc::new(Semaphore::new(options.max_connections));
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            let slot = slots.clone().acquire_owned().await;
            (listener.accept().await, slot)
        };
        let (connection, slot) = tokio::select! {
            biased;
            () = &mut shutdown => break,
            next = next => next,
        };
        let (stream, facts) = connection.into_parts();
        let (service, options, mut stopped) = (service.clone(), options.clone(), stopped.clone());
        connections.spawn(async move {
            // An error means that the sender was dropped, which also means: stop.
            let stop = async move { drop(stopped.changed().await) };
            serve_connection(stream, facts, service, &options, stop).await;
            drop(slot);
        });
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    drop(stop);
    while connections.join_next().await.is_some() {}
}

/// Serves one connection until it is closed.
///
/// It is *drained* (no new request; those in flight finish, within [`ServeOptions::drain_timeout`])
/// when `shutdown` completes, when its client certificate expires (RS-1), or when it is idle for
/// too long. HTTP/2 is spoken where it was negotiated, HTTP/1.1 otherwise, never guessed from the
/// first bytes.
pub async fn serve_connection<IO, S, B>(
    stream: TlsStream<IO>,
    facts: Arc<ConnectionFacts>,
    service: S,
    options: &ServeOptions,
    shutdown: impl Future<Output = ()>,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let activity = Activity::new();
    let service = with_facts(service, facts.clone(), activity.clone());
    let builder = http_builder(&facts, options);
    let mut connection =
        pin!(builder.serve_connection(TokioIo::new(Lingering::new(stream)), service));
    let reason = tokio::select! {
        result = connection.as_mut() => return log_end(&facts, result),
        () = shutdown => CloseReason::Shutdown,
        () = past_not_after(&facts, &options.clock) => CloseReason::Certificate,
        // The verifier set the reason when it asked for the drain.
        () = facts.drain_wanted() => CloseReason::Unknown,
        () = activity.idle(options.first_request_timeout, options.idle_timeout) => {
            CloseReason::Idle
        }
    };
    facts.close_report.set_reason(reason);
    tracing::debug!(connection = %facts.id(), reason = facts.close_report.reason().map(CloseReason::name), "draining");
    connection.as_mut().graceful_shutdown();
    match tokio::time::timeout(options.drain_timeout, connection).await {
        Ok(result) => log_end(&facts, result),
        Err(_) => tracing::debug!(connection = %facts.id(), "closed: draining took too long"),
    }
}

/// Wraps `service` so that each request carries the facts and counts as in flight until its
/// response has been sent.
fn with_facts<S, B>(
    service: S,
    facts: Arc<ConnectionFacts>,
    activity: Arc<Activity>,
) -> impl hyper::service::Service<
    Request<Incoming>,
    Response = Response<impl Body<Data = B::Data, Error = B::Error> + Send + use<S, B>>,
    Error = BoxError,
    Future: Send + 'static,
>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Body + Send + 'static,
{
    let service = TowerToHyperService::new(service);
    service_fn(move |mut request: Request<Incoming>| {
        let in_flight = activity.begin();
        request.extensions_mut().insert(facts.clone());
        let response = service.call(request);
        async move {
            let response = response.await.map_err(Into::into)?;
            Ok(response.map(|body| in_flight.track(body)))
        }
    })
}

fn http_builder(facts: &ConnectionFacts, options: &ServeOptions) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    // hyper's header_read_timeout also counts the idle time between two requests, and it closes
    // without a TLS close_notify. `Activity` bounds both instead.
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None);
    builder
        .http2()
        .timer(TokioTimer::new())
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
