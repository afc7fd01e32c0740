//! Why the egress does not pass a request on.

use http::StatusCode;

/// Why a request is not passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    /// A short name in snake case, for counts.
    pub(crate) reason: &'static str,
    pub(super) text: String,
}

impl Refused {
    pub(crate) fn new(status: StatusCode, reason: &'static str, text: impl Into<String>) -> Self {
        Self {
            status,
            reason,
            text: text.into(),
        }
    }
}
