//! Secrets: from a file, from standard input, from the environment; from the command line with a
//! warning, since every user of the machine can read it there.

use std::io::Read;
use std::path::Path;

use crate::failure::Failure;

/// Longer input is no secret of any kind that is read here.
const MAX_BYTES: u64 = 1024 * 1024;

/// The value of an option that takes `VALUE|@FILE|-`; white space around it is left out.
///
/// `option` names it in messages, which quote nothing of the value.
pub(crate) fn read(option: &str, value: &str) -> Result<String, Failure> {
    let bytes = read_bytes(option, value)?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(_) => Err(Failure::usage(format!("{option}: it is not UTF-8 text"))),
    }
}

/// The same, as bytes and as they are.
pub(crate) fn read_bytes(option: &str, value: &str) -> Result<Vec<u8>, Failure> {
    let unreadable =
        |from: &str, error| Failure::usage(format!("{option}: {from} cannot be read: {error}"));
    let mut bytes = Vec::new();
    match value.strip_prefix('@') {
        None if value == "-" => std::io::stdin()
            .take(MAX_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| unreadable("standard input", error))?,
        None => return Ok(value.as_bytes().to_vec()),
        Some(path) => std::fs::File::open(path)
            .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
            .map_err(|error| unreadable(path, error))?,
    };
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Failure::usage(format!("{option}: it has more than 1 MiB")));
    }
    Ok(bytes)
}

/// Whether `value` stands on the command line of this process.
pub(crate) fn is_on_command_line(value: &str) -> bool {
    // `--token VALUE`, `--token=VALUE`, `-H VALUE`, `-HVALUE`.
    let is_it = |argument: String| {
        let attached = match argument.strip_prefix("--") {
            Some(long) => long.split_once('=').map(|(_, attached)| attached),
            None => argument.strip_prefix('-').and_then(|short| short.get(1..)),
        };
        argument == value || attached == Some(value)
    };
    !value.is_empty() && std::env::args().any(is_it)
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

/// Warns of a private key that every user of the machine can read.
pub(crate) fn warn_if_world_readable(path: &Path) {
    if mode(path).is_some_and(|mode| mode & 0o004 != 0) {
        let path = path.display();
        tracing::warn!("{path} can be read by every user of this machine: `chmod 600 {path}`");
    }
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
