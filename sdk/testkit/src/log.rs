//! Everything that a test process logs, so that a test can search it for secrets (EX-7).

use std::io::{self, Write};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// The text logged so far. Clones share it.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Captures everything that the process logs from the first call on, at every level, also the
    /// lines of other tests. A subscriber for one thread would miss lines: `tracing` caches per
    /// call site, for all threads, whether any subscriber is interested.
    ///
    /// # Panics
    /// If the process has another subscriber already.
    pub fn for_process() -> Self {
        static LOG: LazyLock<Log> = LazyLock::new(|| {
            let log = Log::default();
            let writer = log.clone();
            // `try_init` also captures what crates log through `log`: rustls does.
            tracing_subscriber::fmt()
                .with_max_level(tracing::Level::TRACE)
                .with_ansi(false)
                .with_writer(move || writer.clone())
                .try_init()
                .expect("no other global subscriber");
            log
        });
        LOG.clone()
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
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
