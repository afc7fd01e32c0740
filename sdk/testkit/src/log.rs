//! Everything that a test process logs, to be searched for what must not be in it (EX-7).

use std::io::{self, Write};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// What has been logged. Clones share it.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Everything that the process logs from the first call on, at every level; what other tests
    /// log meanwhile is in it too. A subscriber of one thread would miss lines: whether a line is
    /// logged at all is decided by the first thread that comes to it, and for all.
    ///
    /// # Panics
    /// If the process has another subscriber already.
    pub fn for_process() -> Self {
        static LOG: LazyLock<Log> = LazyLock::new(|| {
            let log = Log::default();
            let writer = log.clone();
            let subscriber = tracing_subscriber::fmt()
                .with_max_level(tracing::Level::TRACE)
                .with_ansi(false)
                .with_writer(move || writer.clone())
                .finish();
            tracing::subscriber::set_global_default(subscriber).expect("nobody else listens");
            log
        });
        LOG.clone()
    }

    /// What it is so far.
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
