//! What a binding remembers for each origin.

use std::sync::{Arc, Mutex, PoisonError};

use crate::cache::Cache;
use crate::origin::Origin;

/// One value for each origin, shared by the connections to it.
pub(super) struct PerOrigin<T>(Mutex<Cache<Origin, Arc<T>>>);

/// Beyond this many, values that no connection holds are dropped: what they remember costs one
/// more challenge, or a wrong label, when it is needed again.
const MAX_ORIGINS: usize = 1024;

/// How many values are looked at for one that no connection holds. Few, however many origins there
/// are; and more than one goes if more than one was found, so that the number falls again after many
/// connections have closed.
const TRIES: usize = 8;

impl<T> PerOrigin<T> {
    /// The origin's value; `make` makes it for a new origin.
    pub(super) fn get_or_insert_with(&self, origin: &Origin, make: impl FnOnce() -> T) -> Arc<T> {
        let mut origins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = origins.get(origin) {
            return value.clone();
        }
        for _ in 0..TRIES {
            if origins.len() < MAX_ORIGINS {
                break;
            }
            let unused = origins
                .random()
                .filter(|(_, value)| Arc::strong_count(value) == 1)
                .map(|(origin, _)| origin.clone());
            if let Some(unused) = unused {
                origins.remove(&unused);
            }
        }
        let value = Arc::new(make());
        origins.insert(origin, value.clone());
        value
    }
}

impl<T> Default for PerOrigin<T> {
    fn default() -> Self {
        // Those that a connection holds stay, so the bound is kept where values are added.
        Self(Mutex::new(Cache::new(usize::MAX)))
    }
}

#[cfg(test)]
mod tests;
