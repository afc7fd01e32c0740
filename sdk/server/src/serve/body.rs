//! Response bodies that tell when they have something to send.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::activity::Activity;

pin_project! {
    /// A response body. Without one yet, from the request on, it is a `TrackedBody<()>`.
    pub(super) struct TrackedBody<B> {
        #[pin]
        body: B,
        telling: Telling,
    }
}

/// Tells the connection's activity of one response.
struct Telling {
    activity: Arc<Activity>,
    /// A frame was given, and hyper has not asked for another one: it waits for the peer.
    ready: bool,
}

impl TrackedBody<()> {
    pub(super) fn begin(activity: Arc<Activity>) -> Self {
        activity.frames().body_begins();
        Self {
            body: (),
            telling: Telling {
                activity,
                ready: false,
            },
        }
    }

    pub(super) fn track<B>(self, body: B) -> TrackedBody<B> {
        TrackedBody {
            body,
            telling: self.telling,
        }
    }
}

impl Telling {
    fn taken(&mut self) {
        if self.ready {
            self.ready = false;
            self.activity.frames().frame_taken();
        }
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        self.taken();
        self.activity.frames().body_ends();
    }
}

impl<B: Body> Body for TrackedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        this.telling.taken();
        let frame = ready!(this.body.poll_frame(cx));
        if matches!(&frame, Some(Ok(frame)) if frame.is_data()) {
            this.telling.ready = true;
            this.telling.activity.frames().frame_ready();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
