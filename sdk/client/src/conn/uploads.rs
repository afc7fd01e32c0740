//! How far each request has been written, for the limits on what it waits for while it is sent.
//!
//! An [`Upload`] is one attempt to send a request. Three tasks meet there: the request's, which
//! waits for the response and gives up when a limit has passed; hyper's, which reads the body; and
//! the connection's driver, which sees the frames.
//!
//! A request sets no timer, because nearly all of them are written at once. Only while some are
//! not, the driver of their HTTP/2 connection keeps one timer for all of them, and wakes those that
//! have something to wait for ([`Uploads::tick`]):
//!
//! ```text
//! request   added   given to hyper   waits for the response          woken: looks, gives up
//! driver                     writes a part, the window is full       timer: tick()
//! ```

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use tokio::time::Instant;

/// One attempt to send a request.
#[derive(Default)]
pub(crate) struct Upload {
    /// The body, if it was there as a whole from the beginning.
    pub(crate) whole: Option<Bytes>,
    /// hyper has been given all of the body.
    is_read: AtomicBool,
    /// How many bytes of the body hyper has been given.
    given: AtomicU64,
    /// A later attempt has taken the body over.
    is_superseded: AtomicBool,
    /// Its stream on HTTP/2, once hyper has made one of it. There is no stream 0.
    stream: AtomicU32,
    /// How many bytes of the body were written.
    written: AtomicU64,
    /// Something was given or written since `moved_at`.
    has_moved: AtomicBool,
    /// When something was last given or written, or later: see [`Uploads::stamp`].
    moved_at: Mutex<Option<Instant>>,
    /// All of the request was written, or its stream was reset.
    is_finished: AtomicBool,
    /// The driver has looked at its timer.
    ticked: AtomicBool,
    waker: AtomicWaker,
}

impl Upload {
    /// The whole of a body.
    pub(crate) fn whole(body: Bytes) -> Self {
        Self {
            is_read: AtomicBool::new(body.is_empty()),
            whole: Some(body),
            ..Self::default()
        }
    }

    /// The same attempt, given back unsent, is about to be given to another connection.
    pub(crate) fn restart(&self) {
        self.stream.store(0, Ordering::Release);
        self.written.store(0, Ordering::Release);
        self.is_finished.store(false, Ordering::Release);
    }

    pub(crate) fn is_read(&self) -> bool {
        self.is_read.load(Ordering::Acquire)
    }

    /// All of the body, the first time.
    pub(crate) fn read(&self, body: &Bytes) -> Option<Bytes> {
        if self.is_read.swap(true, Ordering::AcqRel) {
            return None;
        }
        self.given.store(body.len() as u64, Ordering::Release);
        self.has_moved.store(true, Ordering::Release);
        Some(body.clone())
    }

    /// hyper was given so many bytes of the body.
    pub(crate) fn note_given(&self, bytes: u64) {
        self.given.fetch_add(bytes, Ordering::AcqRel);
        *lock(&self.moved_at) = Some(Instant::now());
    }

    pub(crate) fn supersede(&self) {
        self.is_superseded.store(true, Ordering::Release);
    }

    pub(crate) fn is_superseded(&self) -> bool {
        self.is_superseded.load(Ordering::Acquire)
    }

    /// Its stream, once hyper has made one of it.
    pub(crate) fn stream(&self) -> Option<u32> {
        Some(self.stream.load(Ordering::Acquire)).filter(|stream| *stream != 0)
    }

    pub(crate) fn set_stream(&self, stream: u32) {
        self.stream.store(stream, Ordering::Release);
    }

    /// Since when hyper has something of the body that it cannot write.
    pub(crate) fn blocked_since(&self) -> Option<Instant> {
        if self.is_finished.load(Ordering::Acquire)
            || self.written.load(Ordering::Acquire) >= self.given.load(Ordering::Acquire)
        {
            return None;
        }
        // Where no driver does it any more.
        self.stamp(Instant::now());
        *lock(&self.moved_at)
    }

    /// Waits until the driver looks at its timer.
    pub(crate) fn poll_tick(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.waker.register(cx.waker());
        if self.ticked.swap(false, Ordering::AcqRel) {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    fn stamp(&self, now: Instant) {
        let mut moved_at = lock(&self.moved_at);
        if self.has_moved.swap(false, Ordering::AcqRel) || moved_at.is_none() {
            *moved_at = Some(now);
        }
    }
}

/// The requests of an HTTP/2 connection that are not all written.
#[derive(Default)]
pub(crate) struct Uploads {
    list: Mutex<Vec<Arc<Upload>>>,
    /// How many they are: read each time that the driver runs.
    unfinished: AtomicUsize,
    /// A part of a body was written, not its last one.
    has_moved: AtomicBool,
}

impl Uploads {
    /// A request that is about to be given to hyper. It stays until all of it is written, or what
    /// is returned is dropped.
    pub(crate) fn add(&self, upload: Arc<Upload>) -> Unfinished<'_> {
        let mut list = lock(&self.list);
        list.push(upload.clone());
        self.unfinished.store(list.len(), Ordering::Release);
        Unfinished {
            uploads: self,
            upload,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.unfinished.load(Ordering::Acquire) == 0
    }

    /// All of this stream's request was written, or nothing more will be.
    pub(crate) fn finish(&self, stream: u32) {
        self.remove(|upload| upload.stream.load(Ordering::Acquire) == stream);
    }

    /// Bytes of a body were written, not its last ones.
    pub(crate) fn wrote(&self, stream: u32, bytes: u64) {
        let list = lock(&self.list);
        let mut uploads = list.iter();
        if let Some(upload) = uploads.find(|u| u.stream.load(Ordering::Acquire) == stream) {
            upload.written.fetch_add(bytes, Ordering::AcqRel);
            upload.has_moved.store(true, Ordering::Release);
            self.has_moved.store(true, Ordering::Release);
        }
    }

    /// Notes when the bodies have moved of which parts were written. So no frame needs the time.
    pub(crate) fn stamp_moved(&self) {
        if self.has_moved.load(Ordering::Acquire) && self.has_moved.swap(false, Ordering::AcqRel) {
            let now = Instant::now();
            let list = lock(&self.list);
            let moved = list
                .iter()
                .filter(|u| u.written.load(Ordering::Acquire) > 0);
            moved.for_each(|upload| upload.stamp(now));
        }
    }

    /// The same for all streams that were opened. A body that the peer takes nothing of at all is
    /// seen only now, up to a tick late.
    pub(crate) fn stamp(&self, has_opened: impl Fn(u32) -> bool) {
        let now = Instant::now();
        let list = lock(&self.list);
        let opened = list.iter().filter(|u| u.stream().is_some_and(&has_opened));
        opened.for_each(|upload| upload.stamp(now));
    }

    /// Wakes every request in the list, to look whether it has waited for too long.
    pub(crate) fn tick(&self) {
        let list = lock(&self.list).clone();
        for upload in list {
            upload.ticked.store(true, Ordering::Release);
            upload.waker.wake();
        }
    }

    fn remove(&self, is_it: impl Fn(&Upload) -> bool) {
        let mut list = lock(&self.list);
        if let Some(index) = list.iter().position(|upload| is_it(upload)) {
            let upload = list.swap_remove(index);
            self.unfinished.store(list.len(), Ordering::Release);
            drop(list);
            upload.is_finished.store(true, Ordering::Release);
        }
    }
}

/// Takes a request out of the list.
pub(crate) struct Unfinished<'a> {
    uploads: &'a Uploads,
    upload: Arc<Upload>,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if !self.upload.is_finished.load(Ordering::Acquire) {
            let it = Arc::as_ptr(&self.upload);
            self.uploads.remove(|upload| std::ptr::eq(upload, it));
        }
    }
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
