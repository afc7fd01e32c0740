//! Files with one key a line, which processes share: session ticket keys, and the secrets of nodes.

use std::io;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

pub(crate) const KEY_LEN: usize = 32;

pub(crate) type SharedKey = Zeroizing<[u8; KEY_LEN]>;

/// Why a file cannot be used.
pub(crate) enum KeyFileError {
    Unreadable(io::Error),
    /// It has this mode: others may read it.
    Mode(u32),
    /// It does not hold what it should. The text quotes no key (EX-7).
    Content(String),
}

/// Reads a file that nobody but its owner may read.
pub(crate) fn read(path: &Path) -> Result<Vec<SharedKey>, KeyFileError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let found = std::fs::metadata(path).map_err(KeyFileError::Unreadable)?;
        let mode = found.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyFileError::Mode(mode));
        }
    }
    let text = Zeroizing::new(std::fs::read(path).map_err(KeyFileError::Unreadable)?);
    parse(&text).map_err(KeyFileError::Content)
}

/// One key a line: the base64 of 32 bytes. Empty lines, and lines that start with `#`, mean nothing.
pub(crate) fn parse(text: &[u8]) -> Result<Vec<SharedKey>, String> {
    let lines = text
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .enumerate();
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with(b"#"));
    let mut keys: Vec<SharedKey> = Vec::new();
    for (index, line) in lines {
        // No error of a decoder goes along: it would quote the key (EX-7).
        let bytes = Zeroizing::new(STANDARD.decode(line).unwrap_or_default());
        let key = <[u8; KEY_LEN]>::try_from(&bytes[..])
            .map(Zeroizing::new)
            .map_err(|_| format!("line {} is not the base64 of 32 bytes", index + 1))?;
        if keys.contains(&key) {
            return Err(format!("line {} repeats a key", index + 1));
        }
        keys.push(key);
    }
    Ok(keys)
}
