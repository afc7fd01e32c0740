//! Times and durations in seconds, as JSON has them.

use serde_json::Value;

/// A number of seconds: a `NumericDate` such as `exp` (RFC 7519 §2), or a lifetime such as
/// `expires_in` (RFC 6749 §5.1). One reader for both ends, so that they agree.
///
/// `3600`, `3600.0` and `3.6e3` are one number (RFC 8259 §6). A fraction is cut off, and what is
/// larger than [`u64::MAX`] is that. `None` for everything else: a negative number, a string,
/// `null`. Whether that counts as absent or as an error the caller decides: without an `expires_in`
/// a token has no known end, but an `exp` that cannot be read must not be taken for none.
pub fn seconds(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        let seconds = value.as_f64().filter(|seconds| *seconds >= 0.0)?;
        // Saturates.
        Some(seconds as u64)
    })
}
