//! Everything that a test process logs, so that a test can search it for secrets (EX-7).

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// The text logged so far. Clones share it.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

/// Whether lines are kept in the log.
static IS_KEPT: AtomicBool = AtomicBool::new(false);
/// Whether lines are printed.
static IS_PRINTED: AtomicBool = AtomicBool::new(false);

/// `None` if the process has a subscriber of its own.
static LOG: LazyLock<Option<Log>> = LazyLock::new(|| {
    let log = Log::default();
    let writer = log.clone();
    // `try_init` also captures what crates log through `log`: rustls does.
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .try_init()
        .ok()
        .map(|()| log)
});

/// Prints what the process logs from now on, at every level, to its standard error.
pub(crate) fn print() {
    IS_PRINTED.store(true, Ordering::Relaxed);
    LazyLock::force(&LOG);
}

impl Log {
    /// Captures everything that the process logs from the first call on, at every level, also the
    /// lines of other tests. A subscriber for one thread would miss lines: `tracing` caches per
    /// call site, for all threads, whether any subscriber is interested.
    ///
    /// # Panics
    /// If the process has another subscriber already.
    pub fn for_process() -> Self {
        IS_KEPT.store(true, Ordering::Relaxed);
        LOG.clone().expect("no other global subscriber")
    }

    /// The text so far.
    #[must_use]
    pub fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if IS_PRINTED.load(Ordering::Relaxed) {
            io::stderr().write_all(bytes)?;
        }
        if IS_KEPT.load(Ordering::Relaxed) {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
