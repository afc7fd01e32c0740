//! Why the command ends: one line for standard error, and the exit status.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

/// Why the command ends without having done its work.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Wrong usage or configuration: exit status 2.
    Usage(String),
    /// clap's own message, with its usage line (or a help text that was asked for).
    Clap(Box<clap::Error>),
    /// The work failed: exit status 1.
    Failed(String),
}

impl Failure {
    pub(crate) fn usage(message: impl Display) -> Self {
        Self::Usage(message.to_string())
    }

    pub(crate) fn failed(message: impl Display) -> Self {
        Self::Failed(message.to_string())
    }

    /// An address cannot be listened on. `option` is as it was given: `--listen 127.0.0.1:8443`.
    pub(crate) fn cannot_listen(option: impl Display, error: &io::Error) -> Self {
        Self::failed(match error.kind() {
            io::ErrorKind::AddrInUse => format!(
                "{option}: another process listens there; stop it, or choose another address"
            ),
            io::ErrorKind::PermissionDenied => format!(
                "{option}: this user may not listen there; ports below 1024 need a privilege \
                 (CAP_NET_BIND_SERVICE)"
            ),
            _ => format!("{option}: {error}"),
        })
    }

    /// What it says, in one line.
    pub(crate) fn line(&self) -> String {
        match self {
            Self::Usage(message) | Self::Failed(message) => message.clone(),
            Self::Clap(error) => {
                let text = error.to_string();
                let line = text.lines().next().unwrap_or_default();
                line.strip_prefix("error: ").unwrap_or(line).to_owned()
            }
        }
    }

    /// Writes it to standard error; what `main` returns.
    pub(crate) fn report(self) -> ExitCode {
        let (message, code) = match self {
            Self::Clap(error) => {
                // Help goes to standard output and is no failure.
                let code = u8::try_from(error.exit_code()).unwrap_or(2);
                return error
                    .print()
                    .map_or(ExitCode::FAILURE, |()| ExitCode::from(code));
            }
            Self::Usage(message) => (message, 2),
            Self::Failed(message) => (message, 1),
        };
        // A closed standard error cannot be told about.
        let _ = writeln!(std::io::stderr(), "bowline: {message}");
        ExitCode::from(code)
    }
}
