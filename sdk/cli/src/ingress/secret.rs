//! Secrets: from a file, standard input, or as they are.

use std::fmt;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use crate::failure::Failure;

/// Where a secret is: `@FILE`, `-` for standard input, or the secret itself.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SecretAt(String);

impl FromStr for SecretAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" | "@" => Err("a secret is @FILE, - for standard input, or its text".to_owned()),
            text => Ok(Self(text.to_owned())),
        }
    }
}

impl SecretAt {
    /// The file that holds it.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.0.strip_prefix('@').map(Path::new)
    }

    /// The secret's bytes, without the line end behind it. `option` is the option's name.
    pub(crate) fn read(&self, option: &str) -> Result<Vec<u8>, Failure> {
        let mut secret = match self.file() {
            Some(path) => read_private(path, option)?,
            None if self.0 == "-" => standard_input(option)?,
            None => {
                self.warn_if_listed(option);
                self.0.clone().into_bytes()
            }
        };
        while secret.last().is_some_and(|byte| b"\r\n".contains(byte)) {
            secret.pop();
        }
        match secret.is_empty() {
            true => Err(Failure::usage(format!("{option}: the secret is empty"))),
            false => Ok(secret),
        }
    }

    /// Every user of this machine can read the arguments of a process.
    fn warn_if_listed(&self, option: &str) {
        let is_listed = |argument: std::ffi::OsString| {
            let argument = argument.to_string_lossy();
            let value = argument.split_once('=').map_or("", |(_, value)| value);
            *argument == *self.0 || value == self.0
        };
        if std::env::args_os().any(is_listed) {
            tracing::warn!(
                "{option}: a secret on the command line can be read by every user; use @FILE"
            );
        }
    }
}

/// Standard input, which is there once, for one option; a reload gets the same.
fn standard_input(option: &str) -> Result<Vec<u8>, Failure> {
    static TAKEN: Mutex<Option<(String, Vec<u8>)>> = Mutex::new(None);
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    match &*taken {
        Some((by, text)) if by == option => return Ok(text.clone()),
        Some((by, _)) => {
            return Err(Failure::usage(format!(
                "{option}: standard input is {by}'s already; use @FILE"
            )));
        }
        None => {}
    }
    let mut text = Vec::new();
    std::io::stdin().read_to_end(&mut text).map_err(|error| {
        Failure::usage(format!("{option}: standard input cannot be read: {error}"))
    })?;
    *taken = Some((option.to_owned(), text.clone()));
    Ok(text)
}

/// Shows no secret.
impl fmt::Debug for SecretAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.file() {
            Some(path) => write!(f, "@{}", path.display()),
            None => f.write_str("-"),
        }
    }
}

/// A file that others must not read: a private key, a secret.
pub(crate) fn read_private(path: &Path, option: &str) -> Result<Vec<u8>, Failure> {
    let file = path.display();
    let text = std::fs::read(path)
        .map_err(|error| Failure::usage(format!("{option}: {file} cannot be read: {error}")))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(path).map_or(0, |found| found.permissions().mode());
        if mode & 0o004 != 0 {
            return Err(Failure::usage(format!(
                "{option}: every user can read {file}: run `chmod 600 {file}`, and replace what \
                 it holds if others were here"
            )));
        }
    }
    Ok(text)
}
