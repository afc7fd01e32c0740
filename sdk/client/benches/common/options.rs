//! The command line of every bench.

use std::path::PathBuf;

use clap::Parser;

/// Measures, and prints a line `name value` for each figure; the same goes to
/// target/bench/NAME.json.
///
/// Progress is reported on stderr.
#[derive(Clone, Debug, Parser)]
#[command(max_term_width = 100)]
pub(crate) struct Options {
    /// Measure briefly, to see that it works. The figures then mean little.
    #[arg(long)]
    pub(crate) quick: bool,

    /// Write the figures to this file instead of target/bench/NAME.json.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Measure only the parts whose name contains one of these, such as `h1.c32` [default: all].
    filters: Vec<String>,

    /// cargo passes it to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    pub(crate) fn from_command_line() -> Self {
        Self::parse()
    }

    /// Whether a part is to be measured.
    pub(crate) fn wants(&self, part: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| part.contains(&**filter))
    }

    /// `quick` with `--quick`, otherwise `whole`.
    pub(crate) fn pick<T>(&self, whole: T, quick: T) -> T {
        if self.quick { quick } else { whole }
    }
}
