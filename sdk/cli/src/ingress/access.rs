//! The access log: one line a request, once its response has ended, and the counts of requests.
//!
//! A line has the path without the query, and never a token, a proof, or another field's value.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bowline::server::{Check, ConnectionFacts, ConnectionId, DpopCheck, VerifiedBinding};
use http::{Method, Request, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use metrics::{counter, gauge, histogram};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use tokio::time::Instant;
use tower::Service;

use super::proxy::{Passed, Refused};

/// The `tracing` target of access lines.
const TARGET: &str = "bowline::access";

/// What follows is cut off in the log.
const MAX_PATH: usize = 1024;

/// How many requests have begun, and how they have ended.
pub(crate) struct InFlight {
    begun: AtomicU64,
    answered: AtomicU64,
    cut: AtomicU64,
}

impl InFlight {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            begun: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            cut: AtomicU64::new(0),
        })
    }

    pub(super) fn now(&self) -> u64 {
        // In this order it is never below 0.
        let ended = self.answered() + self.cut();
        self.begun().saturating_sub(ended)
    }

    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }

    /// How many responses have reached their end.
    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Ordering::SeqCst)
    }

    /// How many have ended before, whichever end did that.
    pub(super) fn cut(&self) -> u64 {
        self.cut.load(Ordering::SeqCst)
    }
}

/// The outermost service: logs what the others have answered.
#[derive(Clone)]
pub(crate) struct Access<S> {
    inner: S,
    in_flight: Arc<InFlight>,
}

impl<S> Access<S> {
    pub(crate) fn new(inner: S, in_flight: Arc<InFlight>) -> Self {
        Self { inner, in_flight }
    }
}

impl<S, R, B> Service<Request<R>> for Access<S>
where
    S: Service<Request<R>, Response = Response<B>>,
    S::Future: Send + 'static,
    B: Body,
{
    type Response = Response<LoggedBody<B>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let mut line = Line::begin(&request, self.in_flight.clone());
        let response = self.inner.call(request);
        Box::pin(async move {
            let response = response.await?;
            line.answered(&response);
            Ok(response.map(|inner| LoggedBody { inner, line }))
        })
    }
}

/// A request's line in the making. Dropped, it is written.
struct Line {
    method: Method,
    path: String,
    version: Version,
    connection: Option<ConnectionId>,
    begun: Instant,
    status: Option<StatusCode>,
    class: &'static str,
    /// What the policy would have said, where it is only observed.
    observed: Option<&'static str>,
    check: Option<&'static str>,
    id: Option<&'static str>,
    bytes: u64,
    ended: bool,
    in_flight: Arc<InFlight>,
}

impl Line {
    fn begin<R>(request: &Request<R>, in_flight: Arc<InFlight>) -> Self {
        in_flight.begun.fetch_add(1, Ordering::SeqCst);
        gauge!("bowline_ingress_requests_in_flight").increment(1);
        let facts = request.extensions().get::<Arc<ConnectionFacts>>();
        Self {
            method: request.method().clone(),
            path: loggable(request.uri().path()).into_owned(),
            version: request.version(),
            connection: facts.map(|facts| facts.id()),
            begun: Instant::now(),
            status: None,
            class: "none",
            observed: None,
            check: None,
            id: None,
            bytes: 0,
            ended: false,
            in_flight,
        }
    }

    fn answered<B>(&mut self, response: &Response<B>) {
        let status = response.status();
        self.status = Some(status);
        let extensions = response.extensions();
        if let Some(binding) = extensions.get::<VerifiedBinding>() {
            self.class = binding.class().name();
            self.observed = binding.observed().map(|observed| observed.name());
            let failed = binding.observed().and_then(|observed| observed.check());
            self.check = failed.map(|check| check.name());
            self.id = failed.map(|check| check.id());
        } else if extensions.get::<Passed>().is_some() {
            self.class = "public";
        }
        if let Some(check) = extensions.get::<Check>() {
            (self.check, self.id) = (Some(check.name()), Some(check.id()));
        } else if let Some(check) = extensions.get::<DpopCheck>() {
            (self.check, self.id) = (Some(check.name()), Some(check.id()));
        } else if let Some(refused) = extensions.get::<Refused>() {
            self.check = Some(refused.reason);
        }
        // Its body is never sent, and so never asked for.
        self.ended = self.method == Method::HEAD
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        gauge!("bowline_ingress_requests_in_flight").decrement(1);
        let took = self.begun.elapsed();
        let status = self.status.map(|status| status.as_u16());
        let label = status.map_or(Cow::Borrowed("none"), |status| status.to_string().into());
        counter!("bowline_ingress_requests_total", "status" => label, "class" => self.class)
            .increment(1);
        counter!("bowline_ingress_response_bytes_total").increment(self.bytes);
        histogram!("bowline_ingress_request_seconds").record(took);
        if self.ended {
            self.in_flight.answered.fetch_add(1, Ordering::SeqCst);
        } else {
            self.in_flight.cut.fetch_add(1, Ordering::SeqCst);
            counter!("bowline_ingress_requests_cut_total").increment(1);
        }
        let ms = (took.as_secs_f64() * 1e6).round() / 1e3;
        tracing::info!(
            target: TARGET,
            method = %self.method,
            path = %self.path,
            http = ?self.version,
            status,
            class = %self.class,
            observed = self.observed.map(tracing::field::display),
            check = self.check.map(tracing::field::display),
            id = self.id.map(tracing::field::display),
            bytes = self.bytes,
            ms,
            connection = self.connection.map(tracing::field::display),
            cut = (!self.ended).then_some(true),
            "request"
        );
    }
}

/// A path as it may stand in a line: no control characters, nothing endless.
fn loggable(path: &str) -> Cow<'_, str> {
    const REST: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'\\');
    let mut path: Cow<'_, str> = utf8_percent_encode(path, REST).into();
    if path.len() > MAX_PATH {
        // All of it is ASCII now.
        let path = path.to_mut();
        path.truncate(MAX_PATH);
        path.push_str("...");
    }
    path
}

/// A response's body, which counts its bytes and keeps the request's line until it ends.
pub(crate) struct LoggedBody<B: Body> {
    inner: B,
    line: Line,
}

impl<B: Body + Unpin> Body for LoggedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.inner).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    this.line.bytes += bytes::Buf::remaining(data) as u64;
                }
                this.line.ended |= this.inner.is_end_stream();
            }
            Some(Err(_)) => {}
            None => this.line.ended = true,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B: Body> Drop for LoggedBody<B> {
    fn drop(&mut self) {
        // An empty body is never asked for a frame.
        self.line.ended |= self.inner.is_end_stream();
    }
}

#[cfg(test)]
mod tests;
