//! An agent's connection: it is served until the agent, its caller's certificate, a limit or the end of
//! the process ends it.

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
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
        let requests = activity.clone();
        let service = service_fn(move |request| {
            let open = requests.begin();
            let response = answer(request);
            async move { Ok::<_, Infallible>(response.await.map(|body| open.until_end_of(body))) }
        });
        let builder = self.server();
        let served = builder.serve_connection_with_upgrades(TokioIo::new(io), service);
        tokio::pin!(served);
        let ending = tokio::select! {
            biased;
            () = self.tasks.stop.cancelled() => Ending::Process,
            () = entrance.end_wanted() => Ending::Caller,
            () = activity.idle(Instant::now(), self.patience.idle) => Ending::Idle,
            served = served.as_mut() => return note_end(served),
        };
        // GOAWAY, or `Connection: close`; an idle connection ends. A request that crosses that is
        // answered.
        served.as_mut().graceful_shutdown();
        // Its agent may not acknowledge that, or send a head that does not end.
        let unused = activity.idle(Instant::now(), self.patience.end);
        let over = async {
            match ending {
                Ending::Process => std::future::pending().await,
                Ending::Idle => unused.await,
                Ending::Caller => {
                    let _ = timeout(self.patience.drain, unused).await;
                }
            }
        };
        tokio::select! {
            served = served.as_mut() => note_end(served),
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

fn note_end(served: Result<(), Box<dyn Error + Send + Sync>>) {
    if let Err(error) = served {
        tracing::debug!(%error, "an agent's connection ended early");
    }
}
