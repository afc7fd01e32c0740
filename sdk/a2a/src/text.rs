//! Text that agents wrote, as far as an error or a log may quote it.

use bowline_transport::head::{content_type, has_media_type};
use http::HeaderMap;

/// Maximum length of quoted text, in characters.
const MAX_TEXT: usize = 200;

/// Text of an agent as an error may quote it: on one line, of limited length, and without anything
/// that could be a token, a proof or a key. Servers echo what they were sent, and errors end up in
/// logs (EX-7).
pub(crate) fn printable(text: &str) -> String {
    let line: String = text
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    truncated(&without_secrets(&line), MAX_TEXT)
}

/// A shorter run of characters reveals nothing useful of a secret.
const MIN_SECRET: usize = 16;
/// No word is this long, even one without a digit.
const MAX_WORD: usize = 40;

/// The text with an ellipsis for each run of characters that could be part of a token (RFC 6750
/// §2.1: `b64token`). Words, host names and UUIDs, which identify tasks, are kept.
fn without_secrets(text: &str) -> String {
    let is_token_char = |c: char| c.is_ascii_alphanumeric() || "-._~+/=".contains(c);
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let run = &rest[..rest.find(|c| !is_token_char(c)).unwrap_or(rest.len())];
        kept.push_str(if could_be_secret(run) { "…" } else { run });
        rest = &rest[run.len()..];
        let other = rest.find(is_token_char).unwrap_or(rest.len());
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
    !is_uuid && (run.len() >= MAX_WORD || (run.len() >= MIN_SECRET && is_mixed))
}

/// The first `limit` characters, with an ellipsis if there are more.
pub(crate) fn truncated(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// Describes a body that is not A2A: its media type, and the beginning of its text.
pub(crate) fn describe(fields: &HeaderMap, bytes: &[u8]) -> String {
    let text = printable(&String::from_utf8_lossy(bytes));
    match content_type(fields) {
        _ if bytes.is_empty() => "no text".to_owned(),
        // Markup is of no use in a log.
        Some(_) if is_html(fields) => "an HTML page".to_owned(),
        Some(media_type) => format!("{}: {text}", printable(&media_type)),
        None => format!("text without a media type: {text}"),
    }
}

pub(crate) fn is_html(fields: &HeaderMap) -> bool {
    has_media_type(fields, "text/html") || has_media_type(fields, "application/xhtml+xml")
}

#[cfg(test)]
mod tests;
