//! Faults on demand: what a caller meets when its authorization server has a bad day.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body::Frame;
use hyper::body::Incoming;
use tokio::sync::watch;
use tower_service::Service;

use super::ServerState;

/// How the whole server behaves, all endpoints alike: see
/// [`Authority::set_fault`](super::Authority::set_fault).
///
/// TLS handshakes succeed in any weather, and requests are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum InjectedFault {
    /// As it should.
    #[default]
    None,
    /// No answer: the connection is closed (HTTP/1.1), or the stream is reset (HTTP/2).
    Down,
    /// 503 with `Retry-After`.
    Unavailable {
        /// What `Retry-After` says, in seconds.
        retry_after: u32,
    },
    /// 200 with a body that is no JSON, whatever its type says.
    Garbage,
    /// 200 with a body that begins as JSON and never ends.
    Endless,
    /// No answer until the weather changes; then that weather's answer.
    Hold,
}

/// The endpoints under the weather.
#[derive(Clone)]
pub(super) struct FaultLayer {
    pub(super) state: Arc<ServerState>,
    pub(super) endpoints: Router,
}

impl Service<Request<Incoming>> for FaultLayer {
    type Response = Response<Body>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Response<Body>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // a router is always ready
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let Self {
            state,
            mut endpoints,
        } = self.clone();
        state.counters.arrived(request.uri().path());
        Box::pin(async move {
            match state.faults.clear().await {
                InjectedFault::None | InjectedFault::Hold => match endpoints.call(request).await {
                    Ok(response) => Ok(response),
                    Err(never) => match never {},
                },
                InjectedFault::Down => Err(io::ErrorKind::ConnectionReset.into()),
                InjectedFault::Unavailable { retry_after } => Ok(unavailable(retry_after)),
                InjectedFault::Garbage => Ok(json(Body::from("<html>no token today</html>"))),
                InjectedFault::Endless => Ok(json(Body::new(EndlessBody { begun: false }))),
            }
        })
    }
}

/// The weather now, and who waits for another one.
#[derive(Debug)]
pub(super) struct FaultControl {
    weather: watch::Sender<InjectedFault>,
    pub(super) held: watch::Sender<usize>,
}

impl FaultControl {
    pub(super) fn new() -> Self {
        Self {
            weather: watch::Sender::new(InjectedFault::None),
            held: watch::Sender::new(0),
        }
    }

    pub(super) fn set(&self, weather: InjectedFault) {
        self.weather.send_replace(weather);
    }

    /// The weather, once it is no longer [`InjectedFault::Hold`].
    async fn clear(&self) -> InjectedFault {
        let now = *self.weather.borrow();
        if now != InjectedFault::Hold {
            return now;
        }
        self.held.send_modify(|held| *held += 1);
        let _leaving = Leaving(&self.held);
        let mut weather = self.weather.subscribe();
        match weather
            .wait_for(|weather| *weather != InjectedFault::Hold)
            .await
        {
            Ok(weather) => *weather,
            // The sender is borrowed, so the channel cannot close meanwhile.
            Err(_) => InjectedFault::None,
        }
    }
}

/// Also a caller that gives up is held no longer.
struct Leaving<'a>(&'a watch::Sender<usize>);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|held| *held -= 1);
    }
}

fn unavailable(retry_after: u32) -> Response<Body> {
    let mut response = Response::new(Body::from("out of order"));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, retry_after.into());
    response
}

fn json(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let value = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    response
}

/// `{"access_token":"aaaa…`
struct EndlessBody {
    begun: bool,
}

impl http_body::Body for EndlessBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        const MORE: &[u8] = &[b'a'; 16 * 1024];
        let chunk = match std::mem::replace(&mut self.begun, true) {
            false => Bytes::from_static(br#"{"access_token":""#),
            true => Bytes::from_static(MORE),
        };
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }
}
