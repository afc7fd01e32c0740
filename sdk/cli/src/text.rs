//! Text for people: times, tokens that must not be shown, and what came from elsewhere.

use bowline::AccessToken;
use x509_parser::time::ASN1Time;

/// A number of seconds.
pub(crate) fn rough(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} minutes", seconds / 60),
        7200..172_800 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// A point in time, in seconds since 1970, and how far away it is.
pub(crate) fn moment(at: u64, now: u64) -> String {
    let away = match at.checked_sub(now) {
        Some(0) => "now".to_owned(),
        Some(ahead) => format!("in {}", rough(ahead)),
        None => format!("{} ago", rough(now - at)),
    };
    let date = i64::try_from(at)
        .ok()
        .and_then(|at| ASN1Time::from_timestamp(at).ok());
    match date {
        Some(date) => format!("{date}, {away}"),
        None => away,
    }
}

/// Now, in seconds since 1970.
pub(crate) fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// How a token is named where it must not be shown: the first bytes of its SHA-256.
pub(crate) fn token_name(token: &AccessToken) -> String {
    hash_name(token.hash().as_bytes())
}

/// The same of its hash.
pub(crate) fn hash_name(hash: &[u8]) -> String {
    let first = hash.iter().take(4);
    first.fold("sha256:".to_owned(), |name, byte| {
        format!("{name}{byte:02x}")
    })
}

/// What came from elsewhere, without the characters that a terminal obeys and those that reorder
/// text.
pub(crate) fn printable(text: &str) -> String {
    let reorders = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.replace(|c: char| c.is_control() || reorders(c), "\u{fffd}")
}
