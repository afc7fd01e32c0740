//! What hyper spawns for each HTTP/2 request, run inside the connection's own task.
//!
//! hyper gives its executor two futures for each request: one that waits for the response, and one
//! that sends the body. A task for each is a place in the runtime's queue, and perhaps another
//! thread, on the way of each response. Here each has a place in a list. A waker of its own says
//! that it is to be polled; the waker belongs to the place, and is made once.
//!
//! A future that panics, as the caller's body may, is dropped, and its stream is reset: the other
//! requests go on, as they do when a task panics.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::future::BoxFuture;

/// The futures of one connection's requests.
#[derive(Default)]
pub(crate) struct StreamTasks {
    places: Vec<Place>,
    /// Indices of places without a future.
    free: Vec<usize>,
    woken: Arc<Woken>,
    /// The waker in `woken.task`.
    placed: Option<Waker>,
    /// Reused between steps.
    turn: Vec<usize>,
}

struct Place {
    future: Option<BoxFuture<'static, ()>>,
    /// The same as `waker`.
    mark: Arc<Mark>,
    waker: Waker,
}

struct Mark {
    index: usize,
    /// It is in the list of those that were woken.
    is_woken: AtomicBool,
    woken: Arc<Woken>,
}

#[derive(Default)]
struct Woken {
    list: Mutex<Vec<usize>>,
    is_any: AtomicBool,
    /// The connection's task looks at the list again before it waits.
    is_busy: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl StreamTasks {
    pub(crate) fn is_empty(&self) -> bool {
        self.places.len() == self.free.len()
    }

    /// One more, which is polled in the next [`poll`](Self::poll).
    pub(crate) fn add(&mut self, future: BoxFuture<'static, ()>) {
        let index = self.free.pop().unwrap_or_else(|| {
            let index = self.places.len();
            let mark = Arc::new(Mark {
                index,
                is_woken: AtomicBool::new(false),
                woken: self.woken.clone(),
            });
            self.places.push(Place {
                future: None,
                waker: mark.clone().into(),
                mark,
            });
            index
        });
        let place = &mut self.places[index];
        place.future = Some(future);
        if !place.mark.is_woken.swap(true, Ordering::AcqRel) {
            self.woken.push(index);
        }
    }

    /// From now on until [`wait`](Self::wait) what is woken does not wake the task.
    pub(crate) fn begin(&mut self, cx: &mut Context<'_>) {
        let waker = cx.waker();
        let is_placed = |placed: &Waker| placed.will_wake(waker);
        if !self.placed.as_ref().is_some_and(is_placed) {
            self.placed = Some(waker.clone());
            *lock(&self.woken.task) = Some(waker.clone());
        }
        self.woken.is_busy.store(true, Ordering::SeqCst);
    }

    /// Polls those that were woken, once each.
    pub(crate) fn poll(&mut self) {
        let mut turn = std::mem::take(&mut self.turn);
        self.woken.take(&mut turn);
        for index in turn.drain(..) {
            let Some(place) = self.places.get_mut(index) else {
                continue;
            };
            // Before it is polled: what wakes it later counts.
            place.mark.is_woken.store(false, Ordering::SeqCst);
            let Some(future) = &mut place.future else {
                continue;
            };
            let mut cx = Context::from_waker(&place.waker);
            let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut cx)));
            if !matches!(polled, Ok(Poll::Pending)) {
                place.future = None;
                self.free.push(index);
            }
        }
        self.turn = turn;
    }

    /// The task is about to wait: it is woken by whatever is woken from now on, or was since the
    /// last look.
    pub(crate) fn wait(&mut self, cx: &mut Context<'_>) {
        self.woken.is_busy.store(false, Ordering::SeqCst);
        if self.woken.is_any.load(Ordering::SeqCst) {
            cx.waker().wake_by_ref();
        }
    }
}

impl Woken {
    fn push(&self, index: usize) {
        let mut list = lock(&self.list);
        list.push(index);
        self.is_any.store(true, Ordering::SeqCst);
    }

    fn take(&self, turn: &mut Vec<usize>) {
        if self.is_any.load(Ordering::SeqCst) {
            let mut list = lock(&self.list);
            std::mem::swap(&mut *list, turn);
            self.is_any.store(false, Ordering::SeqCst);
        }
    }
}

impl Wake for Mark {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_woken.swap(true, Ordering::SeqCst) {
            return;
        }
        self.woken.push(self.index);
        if !self.woken.is_busy.load(Ordering::SeqCst)
            && let Some(task) = &*lock(&self.woken.task)
        {
            task.wake_by_ref();
        }
    }
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
