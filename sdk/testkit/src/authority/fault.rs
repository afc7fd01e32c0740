//! Fault injection: a test selects an [`InjectedFault`], and every endpoint behaves accordingly.

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

use super::counters::Counters;

/// How all endpoints of the server behave: see
/// [`Authority::set_fault`](super::Authority::set_fault).
///
/// Whatever the fault, TLS handshakes succeed and requests are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum InjectedFault {
    /// As they should.
    #[default]
    None,
    /// No response: the connection is closed (HTTP/1.1), or the stream is reset (HTTP/2).
    Down,
    /// 503 with `Retry-After`.
    Unavailable {
        /// What `Retry-After` says, in seconds.
        retry_after: u32,
    },
    /// 200 with a body that is not JSON, although its content type says so.
    Garbage,
    /// 200 with a body that begins as JSON and never ends.
    Endless,
    /// No response until another fault is set; then the response that fault gives.
    Hold,
    /// The request is processed, and the connection is closed before the response.
    ResponseLost,
    /// The request is processed, and its response is held until another fault is set.
    ResponseHeld,
}

/// The endpoints, with the fault in front of them.
#[derive(Clone)]
pub(super) struct FaultService {
    pub(super) faults: Arc<FaultControl>,
    pub(super) counters: Arc<Counters>,
    pub(super) endpoints: Router,
}

impl Service<Request<Incoming>> for FaultService {
    type Response = Response<Body>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Response<Body>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // a router is always ready
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let Self {
            faults,
            counters,
            mut endpoints,
        } = self.clone();
        counters.request(request.uri().path());
        Box::pin(async move {
            let fault = faults.current().await;
            match fault {
                InjectedFault::None
                | InjectedFault::Hold
                | InjectedFault::ResponseLost
                | InjectedFault::ResponseHeld => {
                    let response = match endpoints.call(request).await {
                        Ok(response) => response,
                        Err(never) => match never {},
                    };
                    match fault {
                        InjectedFault::ResponseLost => Err(io::ErrorKind::ConnectionReset.into()),
                        InjectedFault::ResponseHeld => {
                            faults.hold(InjectedFault::ResponseHeld).await;
                            Ok(response)
                        }
                        _ => Ok(response),
                    }
                }
                InjectedFault::Down => Err(io::ErrorKind::ConnectionReset.into()),
                InjectedFault::Unavailable { retry_after } => Ok(unavailable(retry_after)),
                InjectedFault::Garbage => Ok(json(Body::from("<html>no token today</html>"))),
                InjectedFault::Endless => Ok(json(Body::new(EndlessBody { begun: false }))),
            }
        })
    }
}

/// The fault that is set, and how many requests it holds.
#[derive(Debug)]
pub(super) struct FaultControl {
    fault: watch::Sender<InjectedFault>,
    pub(super) held: watch::Sender<usize>,
    /// Requests whose caller has given up while they were held.
    pub(super) given_up: watch::Sender<usize>,
}

impl FaultControl {
    pub(super) fn new() -> Self {
        Self {
            fault: watch::Sender::new(InjectedFault::None),
            held: watch::Sender::new(0),
            given_up: watch::Sender::new(0),
        }
    }

    pub(super) fn set(&self, fault: InjectedFault) {
        self.fault.send_replace(fault);
    }

    /// The fault, as soon as it is not (or no longer) [`InjectedFault::Hold`].
    async fn current(&self) -> InjectedFault {
        self.hold(InjectedFault::Hold).await
    }

    /// The fault, as soon as it is another one than this.
    async fn hold(&self, this: InjectedFault) -> InjectedFault {
        let now = *self.fault.borrow();
        if now != this {
            return now;
        }
        self.held.send_modify(|held| *held += 1);
        let mut held = HeldRequest {
            control: self,
            is_let_go: false,
        };
        let mut fault = self.fault.subscribe();
        let fault = fault.wait_for(|fault| *fault != this).await;
        held.is_let_go = true;
        match fault {
            Ok(fault) => *fault,
            // The sender is borrowed, so the channel cannot close meanwhile.
            Err(_) => InjectedFault::None,
        }
    }
}

/// Lowers the count when dropped, so also for a caller that gives up.
struct HeldRequest<'a> {
    control: &'a FaultControl,
    is_let_go: bool,
}

impl Drop for HeldRequest<'_> {
    fn drop(&mut self) {
        self.control.held.send_modify(|held| *held -= 1);
        if !self.is_let_go {
            self.control.given_up.send_modify(|requests| *requests += 1);
        }
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
        let has_begun = std::mem::replace(&mut self.begun, true);
        let chunk = Bytes::from_static(if has_begun {
            MORE
        } else {
            br#"{"access_token":""#
        });
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }
}
