//! What a source tells the outside.
//!
//! No event carries a token (EX-7).

use std::sync::Arc;
use std::time::SystemTime;

use crate::Error;

/// Receives every [`Event`] of a source, on the task where it happens: be quick, do not block.
pub trait Observer: Send + Sync + 'static {
    /// Called once per event.
    fn event(&self, event: &Event<'_>);
}

/// Something that happened at a source.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A token was requested from the authorization server, taken from the seed that processes share,
    /// or read from the file.
    Obtained {
        /// Why it was asked for.
        reason: Reason,
        /// Whether it is another one than before: a file is read again while it holds the same.
        is_new: bool,
        /// When it expires, if that is known.
        expires_at: Option<SystemTime>,
    },
    /// The same failed. Callers may still get the token before, while it is valid.
    Failed {
        /// Why it was asked for.
        reason: Reason,
        /// What went wrong.
        error: &'a Error,
    },
    /// A caller was given a token.
    HandedOut,
    /// A caller was given this error.
    NotHandedOut(&'a Error),
    /// The resource refused a token, so that another one is requested.
    Refused,
}

/// Why a source asks for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// There is none that can be used.
    Missing,
    /// The one that there is expires soon, or the file is due to be read again.
    Refresh,
    /// The resource refused the one that there is.
    Refused,
}

impl Reason {
    /// A short name in snake case, for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Refresh => "refresh",
            Self::Refused => "refused",
        }
    }
}

/// The observer of a source, if it has one.
#[derive(Clone, Default)]
pub(crate) struct Observed(pub(crate) Option<Arc<dyn Observer>>);

impl Observed {
    pub(crate) fn emit(&self, event: &Event<'_>) {
        if let Some(observer) = &self.0 {
            observer.event(event);
        }
    }
}
