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
//! The futures that hyper gives the executor for each request run in the same task
//! ([`StreamTasks`]). That is no part of the proof; it spares each response a task.
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

use crate::conn::stream_tasks::StreamTasks;

/// hyper's executor of one connection: keeps the first future, which is the connection's I/O, and
/// the others for the connection's task, as long as there is one.
#[derive(Clone, Default)]
pub(crate) struct CaptureExecutor(Arc<Mutex<Captured>>);

#[derive(Default)]
struct Captured {
    /// The first future that hyper gives to its executor.
    io: IoFuture,
    /// Those of requests that have come since the task looked last.
    requests: Vec<BoxFuture<'static, ()>>,
    /// No task runs them any more.
    is_over: bool,
}

#[derive(Default)]
enum IoFuture {
    #[default]
    Awaited,
    Captured(BoxFuture<'static, ()>),
    Taken,
}

impl CaptureExecutor {
    fn take_io(&self) -> Option<BoxFuture<'static, ()>> {
        match std::mem::replace(&mut self.lock().io, IoFuture::Taken) {
            IoFuture::Captured(io) => Some(io),
            IoFuture::Awaited | IoFuture::Taken => None,
        }
    }

    fn move_requests(&self, tasks: &mut StreamTasks) {
        let mut captured = self.lock();
        for future in captured.requests.drain(..) {
            tasks.add(future);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Captured> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F> Executor<F> for CaptureExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        let mut captured = self.lock();
        match captured.io {
            IoFuture::Awaited => captured.io = IoFuture::Captured(future.boxed()),
            // hyper calls this from the futures that the task polls: it looks afterwards.
            _ if !captured.is_over => captured.requests.push(future.boxed()),
            _ => {
                drop(captured);
                tokio::spawn(future);
            }
        }
    }
}

/// hyper's dispatcher and the connection's I/O. Ends when the connection takes no more requests;
/// the I/O of responses that are still under way then goes on in a task of its own.
pub(crate) struct H2Task<C, L> {
    dispatch: Option<C>,
    rest: Option<Rest>,
    /// Looks at the connection after each step.
    look: L,
}

/// Everything but the dispatcher.
struct Rest {
    io: Option<BoxFuture<'static, ()>>,
    tasks: StreamTasks,
    executor: CaptureExecutor,
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
            rest: Some(Rest {
                io: executor.take_io(),
                tasks: StreamTasks::default(),
                executor,
            }),
            look,
        }
    }
}

impl Rest {
    /// The requests that the dispatcher has made streams of, the I/O, and the requests whose
    /// responses it has brought.
    fn step(&mut self, cx: &mut Context<'_>) {
        self.poll_requests();
        if let Some(io) = &mut self.io
            && io.poll_unpin(cx).is_ready()
        {
            self.io = None;
        }
        self.poll_requests();
        // What these have spawned themselves, to upgrade a connection: the task is woken for it.
        self.executor.move_requests(&mut self.tasks);
    }

    fn poll_requests(&mut self) {
        self.executor.move_requests(&mut self.tasks);
        self.tasks.poll();
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
        let (Some(dispatch), Some(rest)) = (&mut this.dispatch, &mut this.rest) else {
            return Poll::Pending;
        };
        rest.tasks.begin(cx);
        let ended = dispatch.poll_unpin(cx);
        rest.step(cx);
        rest.tasks.wait(cx);
        (this.look)(dispatch);
        if ended.is_ready() {
            this.dispatch = None;
        }
        ended
    }
}

impl Future for Rest {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.tasks.begin(cx);
        this.step(cx);
        this.tasks.wait(cx);
        match this.io.is_none() && this.tasks.is_empty() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

impl<C, L> Drop for H2Task<C, L> {
    fn drop(&mut self) {
        // Before the I/O is spawned: it shuts the connection down once no dispatcher can send.
        self.dispatch = None;
        if let (Some(rest), Ok(runtime)) = (self.rest.take(), Handle::try_current()) {
            runtime.spawn(rest);
        }
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        let mut captured = self.executor.lock();
        captured.is_over = true;
        // They hold the executor, which holds them.
        let left = std::mem::take(&mut captured.requests);
        drop(captured);
        drop(left);
    }
}
