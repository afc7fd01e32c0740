//! A refusal by a check, of a request with either kind of proof.

use std::fmt;

use crate::{check_table::CheckTable, session::Check};

/// A request was refused: by which check, and sometimes why in more detail.
///
/// It carries fixed text only, nothing of the request. `C` is [`Check`], or
/// [`DpopCheck`](crate::dpop::DpopCheck).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Refusal<C = Check> {
    check: C,
    detail: Option<&'static str>,
}

impl<C: CheckTable> Refusal<C> {
    /// A refusal by `check`, with a description of its own in place of the check's.
    ///
    /// `detail` may be sent to the client: keep to printable ASCII without `"` and `\` (RFC 6750
    /// §3).
    pub fn with_detail(check: C, detail: &'static str) -> Self {
        Self {
            check,
            detail: Some(detail),
        }
    }

    /// The check that refused.
    pub fn check(&self) -> C {
        self.check
    }

    /// What to tell the client: the detail if there is one, or else the check's description.
    pub fn description(&self) -> &'static str {
        self.detail.unwrap_or(self.check.row().description)
    }
}

impl<C: CheckTable> From<C> for Refusal<C> {
    fn from(check: C) -> Self {
        Self {
            check,
            detail: None,
        }
    }
}

impl<C: CheckTable> fmt::Display for Refusal<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.check.row().id, self.description())
    }
}

impl<C: CheckTable> std::error::Error for Refusal<C> {}
