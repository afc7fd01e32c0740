//! The `Retry-After` field of a response.

#[cfg(test)]
mod tests;

use std::time::Duration;

use http::{HeaderMap, header};

/// The longest delay that a server may ask for. What it asks beyond that is not honoured.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// `Retry-After` in seconds, or until a date by the server's own clock, for which the response
/// needs a `Date` (RFC 9110 §10.2.3). Not bounded: see [`bounded`].
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let field = |name| headers.get(name)?.to_str().ok();
    let after = field(header::RETRY_AFTER)?.trim();
    if let Some(seconds) = delta_seconds(after) {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(after).ok()?;
    let now = httpdate::parse_http_date(field(header::DATE)?).ok()?;
    until.duration_since(now).ok()
}

/// A number of seconds in a field: digits and nothing else (RFC 9110 §10.2.3, RFC 9111 §1.2.2).
/// More than can be counted is [`u64::MAX`].
pub fn delta_seconds(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

/// As much of what a server asked for as is honoured; nothing if it asked for nothing.
pub fn bounded(retry_after: Option<Duration>) -> Duration {
    retry_after.unwrap_or_default().min(MAX_RETRY_AFTER)
}
