//! What a binding remembers for each origin.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::origin::Origin;

/// One value for each origin, shared by the connections to it.
pub(super) struct PerOrigin<T>(Mutex<HashMap<Origin, Arc<T>>>);

/// Beyond this many, the values that no connection holds are dropped: what they remember costs one
/// more challenge, or a wrong label, when it is needed again.
const MAX_ORIGINS: usize = 1024;

impl<T> PerOrigin<T> {
    /// The origin's value; `make` makes it for a new origin.
    pub(super) fn get_or_insert_with(&self, origin: &Origin, make: impl FnOnce() -> T) -> Arc<T> {
        let mut origins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = origins.get(origin) {
            return value.clone();
        }
        if origins.len() >= MAX_ORIGINS {
            origins.retain(|_, value| Arc::strong_count(value) > 1);
        }
        let value = Arc::new(make());
        origins.insert(origin.clone(), value.clone());
        value
    }
}

impl<T> Default for PerOrigin<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

#[cfg(test)]
mod tests;
