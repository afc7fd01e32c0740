//! An agent's connection: it is served until the agent, its caller's certificate, a limit or the end of
//! the process ends it.

use std::convert::Infallible;
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::Proxy;
use super::entrance::Entrance;
use super::idle::Activity;
use crate::egress::body::Body;
use crate::ops::access::LoggedBody;

/// Streams that an agent may have open on one connection.
const MAX_STREAMS: u32 = 1000;

/// Why a connection ends before its agent closes it.
enum Ending {
    /// The process ends, which has a limit.
    Process,
    Idle,
    /// [`Entrance::end_wanted`]
    Caller,
}

impl Proxy {
    /// Serves an agent's connection to its end.
    pub(crate) async fn connection<IO>(self: Arc<Self>, io: IO, entrance: Entrance)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let proxy = self.clone();
        let from = entrance.clone();
        let answer = move |request| {
            let (proxy, entrance) = (proxy.clone(), from.clone());
            async move { proxy.front(request, &entrance).await }
        };
        self.serve(io, &entrance, answer).await;
    }

    /// Answers the requests of one connection.
    pub(super) async fn serve<IO, A, F>(&self, io: IO, entrance: &Entrance, answer: A)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        A: Fn(Request<Incoming>) -> F,
        F: Future<Output = Response<LoggedBody<Body>>> + Send + 'static,
    {
        let activity = Activity::new();
        let unused = UnusedUpgrade::default();
        let (requests, upgrade) = (activity.clone(), unused.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let open = requests.begin();
            let is_connect = request.method() == Method::CONNECT;
            let offered = request.extensions().get().cloned();
            let response = answer(request);
            let upgrade = upgrade.clone();
            async move {
                let response = response.await;
                // A tunnel has it.
                let is_used = is_connect && response.status().is_success();
                upgrade.replace(offered, is_used);
                Ok::<_, Infallible>(response.map(|body| open.until_end_of(body)))
            }
        });
        let builder = self.server();
        let served = builder.serve_connection_with_upgrades(TokioIo::new(io), service);
        tokio::pin!(served);
        let ending = tokio::select! {
            biased;
            () = self.tasks.stop.cancelled() => Ending::Process,
            () = entrance.end_wanted() => Ending::Caller,
            () = activity.idle(Instant::now(), self.patience.idle) => Ending::Idle,
            served = served.as_mut() => {
                note_end(served);
                return unused.shut_down(self.patience.end).await;
            }
        };
        // GOAWAY, or `Connection: close`; an idle connection ends. A request that crosses that is
        // answered.
        served.as_mut().graceful_shutdown();
        // Its agent may not acknowledge that, or send a head that does not end.
        let idle = activity.idle(Instant::now(), self.patience.end);
        let over = async {
            match ending {
                Ending::Process => std::future::pending().await,
                Ending::Idle => idle.await,
                Ending::Caller => {
                    let _ = timeout(self.patience.drain, idle).await;
                }
            }
        };
        tokio::select! {
            served = served.as_mut() => {
                note_end(served);
                unused.shut_down(self.patience.end).await;
            }
            () = over => tracing::debug!("an agent's connection was closed: it did not end in time"),
        }
    }

    fn server(&self) -> auto::Builder<TokioExecutor> {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            // `serve` has a limit for all that is no request.
            .header_read_timeout(None);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS);
        builder
    }
}

/// Gives the connection back, if its last request for another protocol, a `CONNECT` too, was not granted:
/// such a connection hyper drops at its end without shutting it down, which in TLS looks cut off.
/// Upstream: no issue; report 22 in `docs/src/upstream.md`.
#[derive(Clone, Default)]
struct UnusedUpgrade(Arc<Mutex<Option<OnUpgrade>>>);

impl UnusedUpgrade {
    /// hyper keeps the newest one that it has `offered`.
    fn replace(&self, offered: Option<OnUpgrade>, is_used: bool) {
        if offered.is_some() {
            *self.newest() = offered.filter(|_| !is_used);
        }
    }

    /// After the connection was served.
    async fn shut_down(&self, limit: Duration) {
        let newest = self.newest().take();
        // An error: hyper has shut it down, or it is broken.
        if let Some(newest) = newest
            && let Ok(connection) = newest.await
        {
            let _ = timeout(limit, TokioIo::new(connection).shutdown()).await;
        }
    }

    /// Poisoning is ignored: the value is replaced as a whole.
    fn newest(&self) -> MutexGuard<'_, Option<OnUpgrade>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn note_end(served: Result<(), Box<dyn Error + Send + Sync>>) {
    if let Err(error) = served {
        tracing::debug!(%error, "an agent's connection ended early");
    }
}
