//! The log: standard error, for people or as JSON.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::arguments::{LogFormat, LogOptions};

/// Starts the log. `log_level` was checked by [`level`].
pub(crate) fn start(options: &LogOptions) {
    let filter = EnvFilter::builder().parse_lossy(&options.log_level);
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    match options.log_format {
        LogFormat::Human => log
            .with_ansi(io::stderr().is_terminal())
            .with_target(false)
            .init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}
