//! By which configuration of a layer a cache was filled.

use std::sync::atomic::{AtomicU64, Ordering};

/// Which configuration a connection's cache was filled under. Those that were never replaced share
/// the first one, so that layers of one server share their connections' caches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Generation(u64);

impl Generation {
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}
