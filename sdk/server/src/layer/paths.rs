//! How a path can be read, by this server and by the service behind it (RS-12, RS-13).

use std::borrow::Cow;

/// Whether a path has one reading only: it is in the normal form of RFC 3986 section 6.2.2, and
/// holds nothing that a server behind this one could take for a separator, a parameter, or a way
/// up (RS-13).
pub(super) fn is_plain(path: &str) -> bool {
    let Some(segments) = path.strip_prefix('/') else {
        return false;
    };
    let inner = segments.rsplit_once('/').map_or("", |(inner, _)| inner);
    // Only the last segment may be empty.
    let has_empty =
        segments.starts_with('/') || !inner.is_empty() && inner.split('/').any(str::is_empty);
    let has_dots = segments
        .split('/')
        .any(|segment| matches!(segment, "." | ".."));
    !has_empty && !has_dots && has_plain_characters(path.as_bytes())
}

/// Escapes are in upper case, and only of characters that must be escaped and separate nothing.
fn has_plain_characters(mut path: &[u8]) -> bool {
    while let Some((&first, rest)) = path.split_first() {
        path = rest;
        let is_plain = match first {
            b'%' => {
                let Some((digits, rest)) = path.split_first_chunk::<2>() else {
                    return false;
                };
                path = rest;
                !digits.iter().any(u8::is_ascii_lowercase)
                    && escaped(*digits)
                        .is_some_and(|byte| !is_unreserved(byte) && !b"/\\%".contains(&byte))
            }
            byte => is_unreserved(byte) || b"!$&'()*+,=:@/".contains(&byte),
        };
        if !is_plain {
            return false;
        }
    }
    true
}

/// All readings of a path (RS-12): as sent; with its escapes decoded once and twice; and each of
/// these with dot segments, empty segments and `;` parameters removed and `\` read as `/`.
pub(super) fn readings(path: &str) -> Vec<Cow<'_, [u8]>> {
    let sent = path.as_bytes();
    let mut readings = vec![Cow::Borrowed(sent)];
    // Most paths have only one.
    if is_plain(path) && !path.ends_with('/') && !sent.contains(&b'%') {
        return readings;
    }
    let once = decoded(sent);
    let twice = decoded(&once);
    for reading in [sent.to_vec(), once, twice] {
        readings.push(Cow::Owned(cleaned(&reading)));
        readings.push(Cow::Owned(reading));
    }
    readings
}

/// Damaged escapes stay as they are.
fn decoded(mut path: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(path.len());
    while let Some((&first, rest)) = path.split_first() {
        path = rest;
        let byte = match path.split_first_chunk::<2>() {
            Some((digits, rest)) if first == b'%' => match escaped(*digits) {
                Some(byte) => {
                    path = rest;
                    byte
                }
                None => first,
            },
            _ => first,
        };
        decoded.push(byte);
    }
    decoded
}

fn cleaned(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    for segment in path.split(|byte| b"/\\".contains(byte)) {
        let end = segment.iter().position(|&byte| byte == b';');
        match &segment[..end.unwrap_or(segment.len())] {
            b"" | b"." => {}
            b".." => drop(kept.pop()),
            name => kept.push(name),
        }
    }
    let mut cleaned = vec![b'/'];
    cleaned.extend(kept.join(&b'/'));
    cleaned
}

fn escaped(digits: [u8; 2]) -> Option<u8> {
    let value = |digit: u8| char::from(digit).to_digit(16);
    let byte = value(digits[0])? * 16 + value(digits[1])?;
    u8::try_from(byte).ok()
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

#[cfg(test)]
mod tests;
