//! Secrets: from a file, from standard input, from the environment; from the command line with a
//! warning, since every user of the machine can read it there.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use crate::failure::Failure;

/// Longer input is no secret of any kind that is read here.
const MAX_BYTES: u64 = 1024 * 1024;

/// Where a secret is: `@FILE`, `-` for standard input, or the secret itself.
///
/// In each method `option` names it in messages, which quote nothing of the secret.
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

    /// A long-lived secret's bytes, without the line end behind it: a file that every user can read
    /// is refused.
    pub(crate) fn read(&self, option: &str) -> Result<Vec<u8>, Failure> {
        if let Some(path) = self.file() {
            refuse_world_readable(option, path)?;
        }
        warn_if_on_command_line(option, &self.0);
        let mut secret = read_bytes(option, &self.0)?;
        while secret.last().is_some_and(|byte| b"\r\n".contains(byte)) {
            secret.pop();
        }
        match secret.is_empty() {
            true => Err(Failure::usage(format!("{option}: the secret is empty"))),
            false => Ok(secret),
        }
    }

    /// A short-lived one as text, without white space around it, whoever can read its file.
    pub(crate) fn read_text(&self, option: &str) -> Result<String, Failure> {
        warn_if_on_command_line(option, &self.0);
        match String::from_utf8(read_bytes(option, &self.0)?) {
            Ok(text) => Ok(text.trim().to_owned()),
            Err(_) => Err(Failure::usage(format!("{option}: it is not UTF-8 text"))),
        }
    }
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

/// What an option that takes `VALUE|@FILE|-` stands for, as it is.
pub(crate) fn read_bytes(option: &str, value: &str) -> Result<Vec<u8>, Failure> {
    match value.strip_prefix('@') {
        Some(path) => read_file(option, Path::new(path)),
        None if value == "-" => standard_input(option),
        None => Ok(value.as_bytes().to_vec()),
    }
}

pub(crate) fn read_file(option: &str, path: &Path) -> Result<Vec<u8>, Failure> {
    let read = File::open(path).and_then(read_bounded);
    let bytes = read.map_err(|error| {
        let file = path.display();
        Failure::usage(format!("{option}: {file} cannot be read: {error}"))
    })?;
    refuse_long(option, bytes)
}

/// A file that other users must not be able to read: a private key, a secret.
pub(crate) fn read_private_file(option: &str, path: &Path) -> Result<Vec<u8>, Failure> {
    let bytes = read_file(option, path)?;
    refuse_world_readable(option, path)?;
    Ok(bytes)
}

/// Standard input, which is there once, for one option; a reload gets the same.
fn standard_input(option: &str) -> Result<Vec<u8>, Failure> {
    static TAKEN: Mutex<Option<(String, Vec<u8>)>> = Mutex::new(None);
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    match &*taken {
        Some((by, bytes)) if by == option => return Ok(bytes.clone()),
        Some((by, _)) => {
            return Err(Failure::usage(format!(
                "{option}: standard input is read for {by} already: give @FILE"
            )));
        }
        None => {}
    }
    let bytes = read_bounded(std::io::stdin()).map_err(|error| {
        Failure::usage(format!("{option}: standard input cannot be read: {error}"))
    })?;
    let bytes = refuse_long(option, bytes)?;
    *taken = Some((option.to_owned(), bytes.clone()));
    Ok(bytes)
}

fn read_bounded(from: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn refuse_long(option: &str, bytes: Vec<u8>) -> Result<Vec<u8>, Failure> {
    match bytes.len() as u64 > MAX_BYTES {
        true => Err(Failure::usage(format!("{option}: it has more than 1 MiB"))),
        false => Ok(bytes),
    }
}

/// Whether `value` stands on the command line of this process.
pub(crate) fn is_on_command_line(value: &str) -> bool {
    // `--token VALUE`, `--token=VALUE`, `-H VALUE`, `-HVALUE`.
    let is_it = |argument: std::ffi::OsString| {
        let argument = argument.to_string_lossy();
        let attached = match argument.strip_prefix("--") {
            Some(long) => long.split_once('=').map(|(_, attached)| attached),
            None => argument.strip_prefix('-').and_then(|short| short.get(1..)),
        };
        argument == value || attached == Some(value)
    };
    !value.is_empty() && std::env::args_os().any(is_it)
}

/// Warns of a secret that stands on the command line.
pub(crate) fn warn_if_on_command_line(option: &str, value: &str) {
    if value != "-" && !value.starts_with('@') && is_on_command_line(value) {
        tracing::warn!(
            "{option}: a secret on the command line can be read by every user of this machine and \
             stays in the shell's history: give @FILE, `-` (standard input) or a variable"
        );
    }
}

/// Refuses a file with a secret that every user of the machine can read.
pub(crate) fn refuse_world_readable(option: &str, path: &Path) -> Result<(), Failure> {
    if mode(path).is_none_or(|mode| mode & 0o004 == 0) {
        return Ok(());
    }
    let file = path.display();
    Err(Failure::usage(format!(
        "{option}: every user of this machine can read {file}: run `chmod 600 {file}`, and \
         replace what it holds if others were here"
    )))
}

#[cfg(unix)]
fn mode(path: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    Some(std::fs::metadata(path).ok()?.permissions().mode())
}

#[cfg(not(unix))]
fn mode(_: &Path) -> Option<u32> {
    None
}
