//! The access log: one line a request, once its response has ended, and the counts of requests.
//!
//! A line has the path without the query, and never a token, a proof, or another field's value.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bowline::server::ConnectionId;
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body::{Body, Frame, SizeHint};
use metrics::{Label, counter, gauge, histogram};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use tokio::time::Instant;

use super::metric_names::MetricNames;

/// The `tracing` target of access lines.
const TARGET: &str = "bowline::access";

/// What follows is cut off in the log.
const MAX_PATH: usize = 1024;

/// How many requests have begun, and how they have ended.
pub(crate) struct InFlight {
    begun: AtomicU64,
    answered: AtomicU64,
    cut: AtomicU64,
    metrics: &'static MetricNames,
    has_log: bool,
}

impl InFlight {
    pub(crate) fn new(metrics: &'static MetricNames) -> Arc<Self> {
        Arc::new(Self {
            begun: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            cut: AtomicU64::new(0),
            metrics,
            has_log: true,
        })
    }

    /// Counts, and writes no lines.
    pub(crate) fn without_log(metrics: &'static MetricNames) -> Arc<Self> {
        let mut counts = Self::new(metrics);
        if let Some(counts) = Arc::get_mut(&mut counts) {
            counts.has_log = false;
        }
        counts
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

/// What the service knows of a request.
#[derive(Debug, Default)]
pub(crate) struct Note {
    /// Of the agents' connections there is none.
    pub(crate) connection: Option<ConnectionId>,
    /// Who has shown a certificate to the egress.
    pub(crate) caller: Option<Arc<str>>,
    /// What was verified.
    pub(crate) class: Option<&'static str>,
    /// What the policy would have said, where it is only observed.
    pub(crate) observed: Option<&'static str>,
    /// Why it was refused.
    pub(crate) check: Option<&'static str>,
    /// The rule of the wire profile.
    pub(crate) id: Option<&'static str>,
    /// To which allowed origin it went.
    pub(crate) origin: Option<String>,
}

/// A request's line in the making. Dropped, it is written.
pub(crate) struct Line {
    method: Method,
    path: String,
    version: Version,
    begun: Instant,
    status: Option<StatusCode>,
    pub(crate) note: Note,
    bytes: u64,
    ended: bool,
    in_flight: Arc<InFlight>,
}

impl Line {
    pub(crate) fn begin<R>(request: &Request<R>, in_flight: Arc<InFlight>, note: Note) -> Self {
        in_flight.begun.fetch_add(1, Ordering::SeqCst);
        gauge!(in_flight.metrics.requests_in_flight).increment(1);
        Self {
            method: request.method().clone(),
            path: loggable(target(request.uri())).into_owned(),
            version: request.version(),
            begun: Instant::now(),
            status: None,
            note,
            bytes: 0,
            ended: false,
            in_flight,
        }
    }

    /// The response, whose body keeps the line until it ends.
    pub(crate) fn answered<B: Body>(mut self, response: Response<B>) -> Response<LoggedBody<B>> {
        let status = response.status();
        self.status = Some(status);
        // Its body is never sent, and so never asked for.
        self.ended = self.method == Method::HEAD
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        response.map(|inner| LoggedBody { inner, line: self })
    }

    fn count(&self) {
        let metrics = self.in_flight.metrics;
        let status = self.status.as_ref().map_or("none", StatusCode::as_str);
        let mut labels = vec![Label::new("status", status.to_owned())];
        labels.extend(self.note.class.map(|class| Label::new("class", class)));
        let origin = self.note.origin.clone();
        labels.extend(origin.map(|origin| Label::new("origin", origin)));
        counter!(metrics.requests, labels).increment(1);
        counter!(metrics.response_bytes).increment(self.bytes);
        histogram!(metrics.request_seconds).record(self.begun.elapsed());
        if self.ended {
            self.in_flight.answered.fetch_add(1, Ordering::SeqCst);
        } else {
            self.in_flight.cut.fetch_add(1, Ordering::SeqCst);
            counter!(metrics.requests_cut).increment(1);
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        gauge!(self.in_flight.metrics.requests_in_flight).decrement(1);
        self.count();
        if !self.in_flight.has_log {
            return;
        }
        let ms = (self.begun.elapsed().as_secs_f64() * 1e6).round() / 1e3;
        let note = &self.note;
        tracing::info!(
            target: TARGET,
            method = %self.method,
            caller = note.caller.as_deref().map(loggable).map(tracing::field::display),
            origin = note.origin.as_ref().map(tracing::field::display),
            path = %self.path,
            http = ?self.version,
            status = self.status.map(|status| status.as_u16()),
            class = note.class.map(tracing::field::display),
            observed = note.observed.map(tracing::field::display),
            check = note.check.map(tracing::field::display),
            id = note.id.map(tracing::field::display),
            bytes = self.bytes,
            ms,
            connection = note.connection.map(tracing::field::display),
            cut = (!self.ended).then_some(true),
            "request"
        );
    }
}
/// The path; of a `CONNECT` host and port.
fn target(uri: &Uri) -> &str {
    match (uri.path(), uri.authority()) {
        ("", Some(authority)) => authority.as_str(),
        (path, _) => path,
    }
}

/// A path, or a name of a certificate, as it may stand in a line: one word without control
/// characters, and nothing endless.
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
