//! Drives an HTTP/2 connection in one task, so that hyper's "peer's GOAWAY" proves that a request
//! was not processed (CL-7).
//!
//! hyper splits a client's h2 connection into a dispatcher, which turns requests into streams, and
//! an I/O future, which it gives to an executor. If two threads run them, this can happen:
//!
//! ```text
//! dispatcher (thread 1)                    I/O (thread 2)
//! opens stream 7 for the request
//!                                          reads GOAWAY, last stream 7
//! asks h2 whether it is ready for more:
//! gets the GOAWAY as an error, and fails
//! the request of stream 7 with it          writes HEADERS of stream 7: the server processes it
//! ```
//!
//! In one task the I/O cannot run between the two steps of the dispatcher. Then a request fails
//! with the peer's GOAWAY only if its stream is above the last one that the peer processes, or if
//! it never became a stream. Neither was processed (RFC 9113 §6.8).
//!
//! Upstream: no issue; report 1 in `docs/src/upstream.md`.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hyper::rt::Executor;
use tokio::runtime::Handle;

/// hyper's executor of one connection: keeps the first future, which is the connection's I/O, and
/// spawns the others.
#[derive(Clone, Default)]
pub(crate) struct CaptureExecutor(Arc<Mutex<IoFuture>>);

/// The first future that hyper gives to its executor.
#[derive(Default)]
enum IoFuture {
    #[default]
    Awaited,
    Captured(BoxFuture<'static, ()>),
    Taken,
}

impl CaptureExecutor {
    fn take(&self) -> Option<BoxFuture<'static, ()>> {
        match std::mem::replace(&mut *self.lock(), IoFuture::Taken) {
            IoFuture::Captured(io) => Some(io),
            IoFuture::Awaited | IoFuture::Taken => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, IoFuture> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F> Executor<F> for CaptureExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        let mut first = self.lock();
        match *first {
            IoFuture::Awaited => *first = IoFuture::Captured(future.boxed()),
            IoFuture::Captured(_) | IoFuture::Taken => {
                drop(first);
                tokio::spawn(future);
            }
        }
    }
}

/// hyper's dispatcher and the connection's I/O. Ends when the connection takes no more requests;
/// the I/O of responses that are still under way then goes on in a task of its own.
pub(crate) struct H2Task<C, L> {
    dispatch: Option<C>,
    io: Option<BoxFuture<'static, ()>>,
    /// Looks at the connection after each step.
    look: L,
}

impl<C, L> H2Task<C, L>
where
    C: Future + Unpin,
    L: Fn(&C) + Unpin,
{
    /// `executor` is the one that the connection was made with.
    pub(crate) fn new(dispatch: C, executor: CaptureExecutor, look: L) -> Self {
        Self {
            dispatch: Some(dispatch),
            io: executor.take(),
            look,
        }
    }
}

impl<C, L> Future for H2Task<C, L>
where
    C: Future + Unpin,
    L: Fn(&C) + Unpin,
{
    type Output = C::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        let this = self.get_mut();
        let Some(dispatch) = &mut this.dispatch else {
            return Poll::Pending;
        };
        let ended = dispatch.poll_unpin(cx);
        if let Some(io) = &mut this.io
            && io.poll_unpin(cx).is_ready()
        {
            this.io = None;
        }
        (this.look)(dispatch);
        if ended.is_ready() {
            this.dispatch = None;
        }
        ended
    }
}

impl<C, L> Drop for H2Task<C, L> {
    fn drop(&mut self) {
        // Before the I/O is spawned: it shuts the connection down once no dispatcher can send.
        self.dispatch = None;
        if let (Some(io), Ok(runtime)) = (self.io.take(), Handle::try_current()) {
            runtime.spawn(io);
        }
    }
}
