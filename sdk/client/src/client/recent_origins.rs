//! The origins of recent requests.
//!
//! Most requests go to few origins, and their URIs are written alike. So a URI whose scheme and
//! authority were seen before is compared, not checked, normalised and copied again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::Uri;
use http::uri::Scheme;

use crate::origin::{InvalidTarget, Origin};

/// One place for each hash: an origin takes the place of another one, and the work is done again
/// when that comes back.
pub(super) struct RecentOrigins([Mutex<Option<Known>>; PLACES]);

const PLACES: usize = 64;

/// 2^64 divided by the golden ratio.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

struct Known {
    is_https: bool,
    /// As it was written.
    authority: Box<str>,
    origin: Arc<Origin>,
}

impl RecentOrigins {
    /// The origin of an absolute URI.
    ///
    /// # Errors
    /// As [`Origin::from_uri`].
    pub(super) fn find_or_read(&self, uri: &Uri) -> Result<Arc<Origin>, InvalidTarget> {
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
            return Err(InvalidTarget::NotAbsolute);
        };
        let is_https = *scheme == Scheme::HTTPS;
        if !is_https && *scheme != Scheme::HTTP {
            return Origin::from_uri(uri).map(Arc::new);
        }
        let authority = authority.as_str();
        let mut place = self.place(authority);
        if let Some(known) = &*place
            && known.is_https == is_https
            && *known.authority == *authority
        {
            return Ok(known.origin.clone());
        }
        let origin = Arc::new(Origin::from_uri(uri)?);
        *place = Some(Known {
            is_https,
            authority: authority.into(),
            origin: origin.clone(),
        });
        Ok(origin)
    }

    fn place(&self, authority: &str) -> MutexGuard<'_, Option<Known>> {
        // Not a hash table's hash: a collision costs one request some work.
        let mix = |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(FACTOR);
        let (words, rest) = authority.as_bytes().as_chunks::<8>();
        let hash = words
            .iter()
            .fold(0, |hash, word| mix(hash, u64::from_le_bytes(*word)));
        let hash = rest
            .iter()
            .fold(hash, |hash, byte| mix(hash, u64::from(*byte)));
        let index = (hash >> 32) as usize % PLACES;
        self.0[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for RecentOrigins {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

#[cfg(test)]
mod tests;
