//! Drives an h2 connection in one task, so that what hyper says of a request that GOAWAY met can be
//! believed.
//!
//! hyper splits a client's h2 connection into a dispatcher, which turns requests into streams, and
//! an I/O future, which it gives to an executor. Run by two threads, GOAWAY can be read while the
//! dispatcher is in the middle of a request: it has opened the stream, looks once more whether the
//! connection is ready, sees the GOAWAY, and fails the request with it, although the stream is on
//! its way and the server will process it. In one task neither runs inside the other. Then a
//! request fails with the peer's GOAWAY only if its stream is above the last one that the peer
//! processes, or if it never became a stream: both are unprocessed (RFC 9113 §6.8), which is what
//! CL-7 has to know.

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
pub(crate) struct OneTask(Arc<Mutex<First>>);

#[derive(Default)]
enum First {
    #[default]
    Awaited,
    Kept(BoxFuture<'static, ()>),
    Taken,
}

impl OneTask {
    fn take(&self) -> Option<BoxFuture<'static, ()>> {
        match std::mem::replace(&mut *self.lock(), First::Taken) {
            First::Kept(io) => Some(io),
            First::Awaited | First::Taken => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, First> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F> Executor<F> for OneTask
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        let mut first = self.lock();
        match *first {
            First::Awaited => *first = First::Kept(future.boxed()),
            First::Kept(_) | First::Taken => {
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
    /// `together` is the executor that the connection was made with.
    pub(crate) fn new(dispatch: C, together: OneTask, look: L) -> Self {
        Self {
            dispatch: Some(dispatch),
            io: together.take(),
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
        // First: the I/O ends in good order when nobody can send any more.
        self.dispatch = None;
        if let (Some(io), Ok(runtime)) = (self.io.take(), Handle::try_current()) {
            runtime.spawn(io);
        }
    }
}
