//! The log: standard error, for people or as JSON.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::debug_fn;

use crate::arguments::{LogFormat, LogOptions};

/// Starts the log. `log_level` was checked by [`level`].
pub(crate) fn start(options: &LogOptions) {
    let filter = EnvFilter::builder().parse_lossy(&options.log_level);
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    match options.log_format {
        LogFormat::Human if io::stderr().is_terminal() => log.with_target(false).init(),
        LogFormat::Human => log
            .with_ansi(false)
            .with_target(false)
            .fmt_fields(plain_fields())
            .init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}

/// As they are written by default, but the colours, which cost a third of an access line even where
/// they are off.
fn plain_fields() -> impl for<'writer> FormatFields<'writer> {
    debug_fn(|line, field, value| match field.name() {
        "message" => write!(line, "{value:?}"),
        name => write!(line, "{name}={value:?}"),
    })
    .delimited(" ")
}
