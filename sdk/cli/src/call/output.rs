//! Where response bodies go.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Standard output, a file, or nowhere.
pub(super) enum Output {
    Discard,
    /// `ends_line`: whether the last byte was a line feed, or there was none.
    Stdout {
        ends_line: bool,
    },
    File {
        path: PathBuf,
        /// Opened with the first bytes: a request that fails leaves an older file as it is.
        file: Option<File>,
    },
}

impl Output {
    pub(super) fn new(path: Option<&Path>, repeat: u64) -> Self {
        match path {
            Some(path) if path != Path::new("-") => Self::File {
                path: path.to_owned(),
                file: None,
            },
            None if repeat > 1 => Self::Discard,
            Some(_) | None => Self::Stdout { ends_line: true },
        }
    }

    pub(super) fn is_discard(&self) -> bool {
        matches!(self, Self::Discard)
    }

    /// Writes at once, so that a stream of events is seen as it comes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Discard => Ok(()),
            Self::Stdout { ends_line } => {
                if let Some(last) = bytes.last() {
                    *ends_line = *last == b'\n';
                }
                let mut stdout = io::stdout().lock();
                stdout.write_all(bytes)?;
                stdout.flush()
            }
            Self::File { path, file } => match file {
                Some(file) => file.write_all(bytes),
                None => file.insert(File::create(path)?).write_all(bytes),
            },
        }
    }

    /// A whole line of standard output, whatever was written there before.
    pub(super) fn line(&mut self, line: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        if matches!(self, Self::Stdout { ends_line: false }) {
            stdout.write_all(b"\n")?;
        }
        writeln!(stdout, "{line}")?;
        stdout.flush()
    }
}
