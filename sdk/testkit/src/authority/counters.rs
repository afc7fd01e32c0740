//! How many requests each endpoint has received.

use std::sync::atomic::{AtomicU64, Ordering};

use super::names::{INTROSPECTION_PATH, JWKS_PATH, TOKEN_PATH};

/// One count per endpoint that a test asks about.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) token: Counter,
    pub(super) introspection: Counter,
    pub(super) jwks: Counter,
    /// Token requests that asked for an exchange.
    pub(super) exchanges: Counter,
    /// Token requests that were granted by a refresh token.
    pub(super) refreshes: Counter,
}

impl Counters {
    /// Counts a request for this path, before anything else is known about it.
    pub(super) fn request(&self, path: &str) {
        match path {
            TOKEN_PATH => self.token.increment(),
            INTROSPECTION_PATH => self.introspection.increment(),
            JWKS_PATH => self.jwks.increment(),
            _ => {}
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
