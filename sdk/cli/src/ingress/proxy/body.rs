//! Bodies, streamed in both directions: a frame is asked for only when the other end takes one.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderName;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};

use super::fields;
use super::places::Place;
use super::sse::{COMMENT, Position};
use super::unread::LentBody;
use crate::passing::body::{BoxError, with_trailers};
use crate::passing::fields::strip_hop_by_hop;

/// Why a request's body did not arrive whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the client's body is too long")]
    TooLong,
    #[error("the client sent nothing of its body for too long")]
    Stalled,
    #[error("the client's body was not finished")]
    Broken,
}

/// What became of a request's body, for the answer.
#[derive(Debug, Default)]
pub(super) struct Fate(AtomicU8);

impl Fate {
    pub(super) fn error(&self) -> Option<BodyError> {
        match self.0.load(Ordering::Relaxed) {
            1 => Some(BodyError::TooLong),
            2 => Some(BodyError::Stalled),
            3 => Some(BodyError::Broken),
            _ => None,
        }
    }

    fn fail(&self, error: BodyError) -> BodyError {
        let number = match error {
            BodyError::TooLong => 1,
            BodyError::Stalled => 2,
            BodyError::Broken => 3,
        };
        self.0.store(number, Ordering::Relaxed);
        error
    }
}

/// Ends what makes no progress. It costs nothing as long as frames are there when they are asked
/// for.
#[derive(Debug)]
struct Patience {
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
}

impl Patience {
    fn new(limit: Duration) -> Self {
        Self {
            limit,
            timer: None,
            is_waiting: false,
        }
    }

    fn progress(&mut self) {
        self.is_waiting = false;
    }

    /// Nothing is there: whether that has been so for too long.
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep(self.limit)));
        if !self.is_waiting {
            self.is_waiting = true;
            timer.as_mut().reset(Instant::now() + self.limit);
        }
        timer.as_mut().poll(cx).is_ready()
    }
}

/// A request's body on its way to the upstream.
pub(super) struct RequestBody {
    /// `None`: it is empty.
    inner: Option<LentBody>,
    left: Option<u64>,
    patience: Patience,
    strip: Arc<[HeaderName]>,
    fate: Arc<Fate>,
    /// Tells the exchange that the upstream has taken something, or all.
    progress: Arc<tokio::sync::Notify>,
}

impl RequestBody {
    pub(super) fn new(
        inner: LentBody,
        max: Option<u64>,
        timeout: Duration,
        strip: Arc<[HeaderName]>,
    ) -> Self {
        Self {
            inner: Some(inner),
            left: max,
            patience: Patience::new(timeout),
            strip,
            fate: Arc::default(),
            progress: Arc::default(),
        }
    }

    pub(super) fn empty() -> Self {
        Self {
            inner: None,
            left: None,
            patience: Patience::new(Duration::MAX),
            strip: Arc::default(),
            fate: Arc::default(),
            progress: Arc::default(),
        }
    }

    pub(super) fn fate(&self) -> Arc<Fate> {
        self.fate.clone()
    }

    pub(super) fn progress(&self) -> Arc<tokio::sync::Notify> {
        self.progress.clone()
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let Some(inner) = &mut this.inner else {
            return Poll::Ready(None);
        };
        let Poll::Ready(frame) = Pin::new(inner).poll_frame(cx) else {
            return match this.patience.is_over(cx) {
                true => Poll::Ready(Some(Err(this.fate.fail(BodyError::Stalled)))),
                false => Poll::Pending,
            };
        };
        this.patience.progress();
        this.progress.notify_one();
        let frame = match frame {
            None => return Poll::Ready(None),
            Some(Err(_)) => return Poll::Ready(Some(Err(this.fate.fail(BodyError::Broken)))),
            Some(Ok(frame)) => frame,
        };
        if let (Some(left), Some(data)) = (&mut this.left, frame.data_ref()) {
            match left.checked_sub(data.len() as u64) {
                Some(rest) => *left = rest,
                None => return Poll::Ready(Some(Err(this.fate.fail(BodyError::TooLong)))),
            }
        }
        let strip = &this.strip;
        Poll::Ready(Some(Ok(with_trailers(frame, |trailers| {
            // GW-2.
            fields::strip_request_trailers(trailers, strip);
        }))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let inner = self.inner.as_ref();
        inner.map_or(SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

/// The body of a response: the upstream's, or of this ingress.
pub(crate) type Body = crate::passing::body::Body<Box<ResponseBody>>;

/// A response's body on its way from the upstream. Dropping it ends the exchange with the upstream,
/// and frees the request's place.
pub(crate) struct ResponseBody {
    pub(super) inner: Incoming,
    pub(super) waiting: Waiting,
    pub(super) _place: Place,
}

/// What is done while the upstream sends nothing.
pub(super) enum Waiting {
    /// The exchange ends.
    Limited(Stalled),
    /// A comment is sent.
    Comments(Comments),
    /// Nothing.
    Patient,
}

pub(super) struct Stalled {
    patience: Patience,
    upstream: Arc<str>,
}

impl Waiting {
    pub(super) fn limited(limit: Duration, upstream: Arc<str>) -> Self {
        Self::Limited(Stalled {
            patience: Patience::new(limit),
            upstream,
        })
    }

    pub(super) fn comments(every: Duration) -> Self {
        Self::Comments(Comments {
            patience: Patience::new(every),
            position: Position::new(),
        })
    }
}

pub(super) struct Comments {
    patience: Patience,
    position: Position,
}

#[derive(Debug, thiserror::Error)]
#[error("the upstream sent nothing of its response for too long")]
struct UpstreamStalled;

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.poll(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.waiting {
            Waiting::Comments(_) => SizeHint::default(),
            _ => self.inner.size_hint(),
        }
    }
}

impl ResponseBody {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) else {
            return self.wait(cx);
        };
        match &mut self.waiting {
            Waiting::Limited(stalled) => stalled.patience.progress(),
            Waiting::Comments(comments) => comments.patience.progress(),
            Waiting::Patient => {}
        }
        let frame = match frame {
            None => return Poll::Ready(None),
            Some(Err(error)) => {
                tracing::warn!(%error, "the upstream's response broke off");
                return Poll::Ready(Some(Err(error.into())));
            }
            Some(Ok(frame)) => frame,
        };
        let frame = match frame.into_data() {
            Ok(data) => match &mut self.waiting {
                Waiting::Comments(comments) => Frame::data(comments.position.follow(data)),
                _ => Frame::data(data),
            },
            Err(trailers) => with_trailers(trailers, strip_hop_by_hop),
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.waiting {
            Waiting::Patient => Poll::Pending,
            Waiting::Limited(Stalled { patience, upstream }) => match patience.is_over(cx) {
                true => {
                    let seconds = patience.limit.as_secs_f32();
                    tracing::warn!(
                        "upstream {upstream}: it sent nothing of a response for {seconds} s; the \
                         response was ended (--upstream-stalled-timeout)"
                    );
                    Poll::Ready(Some(Err(UpstreamStalled.into())))
                }
                false => Poll::Pending,
            },
            Waiting::Comments(Comments { patience, position }) => {
                // Within an event the upstream is waited for.
                if !position.is_between() || !patience.is_over(cx) {
                    return Poll::Pending;
                }
                patience.progress();
                position.comment_sent();
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(COMMENT)))))
            }
        }
    }
}
