//! Everything that is logged in a test binary, to be searched.

use std::io;
use std::sync::{Arc, Mutex};

use bowline_client::{Event, Observer};
use tracing_subscriber::fmt::MakeWriter;

/// Everything that was logged, and every event as it would be logged.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Observer for Log {
    fn event(&self, event: &Event<'_>) {
        tracing::trace!(?event, "event");
    }
}

impl Log {
    /// Takes everything from now on, at trace level. Once in a process.
    pub(crate) fn install() -> Self {
        let log = Self::default();
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(log.clone())
            .with_ansi(false)
            .init();
        log
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}
