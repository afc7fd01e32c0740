//! The one filter for text that a peer wrote and a message repeats (EX-7).
//!
//! Servers repeat what they were sent, and messages end in logs. So nothing that could be a token,
//! a proof or a key gets through, whether or not this process has sent it.

#[cfg(test)]
mod tests;

/// As many characters of a peer's text are shown.
pub const MAX_TEXT: usize = 200;

/// A peer's text, fit for a message: one line of at most [`MAX_TEXT`] characters, without control
/// characters, without characters that change the order or the look of what stands around them, and
/// with an ellipsis for whatever could be a token, a proof or a key.
pub fn printable(text: &str) -> String {
    shortened(&without_secrets(&one_line(text)), MAX_TEXT)
}

/// The same, of text that may have nothing but printable ASCII without quotes and backslashes, such
/// as an OAuth error (RFC 6749 §5.2): a question mark stands for each other character.
pub fn printable_ascii(text: &str) -> String {
    printable(&only_ascii(text)).replace('…', "...")
}

/// A URL, or a reference to one, fit for a message: without user information and fragment, which
/// may be secret, with an ellipsis for the query, and each segment of its path as
/// [`printable_ascii`] has it: a slash is one of the characters that tokens consist of.
///
/// Nothing is normalized: two URLs that differ in a slash at the end look different.
pub fn printable_url(url: &str) -> String {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    let (before, query) = url.split_at(end);
    let (scheme, rest) = match before.split_once("://") {
        Some((scheme, rest)) => (Some(printable_ascii(scheme)), rest),
        None => (None, before),
    };
    let mut segments = rest.split('/');
    let authority = segments.next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let mut shown = match scheme {
        // Host names may be long and have digits.
        Some(scheme) => format!("{scheme}://{}", only_ascii(host)),
        None => printable_ascii(host),
    };
    for segment in segments {
        shown.push('/');
        shown.push_str(&printable_ascii(segment));
    }
    if query.starts_with('?') {
        shown.push_str("?...");
    }
    shortened(&shown, MAX_TEXT).replace('…', "...")
}

/// The first `max` characters, and an ellipsis if there are more.
pub fn shortened(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

fn one_line(text: &str) -> String {
    let printed = text.trim().chars();
    printed
        .map(|c| if is_unprintable(c) { ' ' } else { c })
        .collect()
}

fn only_ascii(text: &str) -> String {
    let printed = text.chars();
    printed
        .map(|c| match c {
            ' ' | '!' | '#'..='[' | ']'..='~' => c,
            _ => '?',
        })
        .collect()
}

/// Control characters, and those of Unicode that are invisible or reverse the direction of text.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{2069}'
                | '\u{feff}'
        )
}

/// Fewer characters than this in a row reveal nothing of a secret.
const MIN_SECRET: usize = 16;
/// This many in a row are not a word, even without a digit.
const MIN_LONG: usize = 40;

/// The text with an ellipsis for each run of characters that could be a piece of a token (RFC 6750
/// §2.1: `b64token`). Words, host names and UUIDs, which name tasks, are left.
fn without_secrets(text: &str) -> String {
    let is_of_token = |c: char| c.is_ascii_alphanumeric() || "-._~+/=".contains(c);
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let run = &rest[..rest.find(|c| !is_of_token(c)).unwrap_or(rest.len())];
        kept.push_str(if could_be_secret(run) { "…" } else { run });
        rest = &rest[run.len()..];
        let other = rest.find(is_of_token).unwrap_or(rest.len());
        kept.push_str(&rest[..other]);
        rest = &rest[other..];
    }
    kept
}

fn could_be_secret(run: &str) -> bool {
    let is_uuid = run.len() == 36
        && run.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    let has = |kind: fn(&u8) -> bool| run.as_bytes().iter().any(kind);
    let is_mixed = has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic);
    !is_uuid && (run.len() >= MIN_LONG || (run.len() >= MIN_SECRET && is_mixed))
}
