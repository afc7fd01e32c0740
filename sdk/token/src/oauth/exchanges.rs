//! One source for each token that comes in.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use bowline_client::AccessToken;
use bowline_proof::TokenHash;
use lru::LruCache;

use super::{Builder, OAuth};
use crate::{Error, Fixed};

/// Exchanges tokens that others present (RFC 8693), each once for as long as the result lasts: for
/// a service that is called with a token and calls another one for the same subject.
///
/// Whoever calls verifies the token and its proof first (AS-3): here nobody can. It keeps the
/// sources of the last tokens that it saw, and forgets the least recently used beyond that.
pub struct Exchanges {
    settings: Builder,
    sources: Mutex<LruCache<TokenHash, Arc<OAuth>>>,
}

/// As many subjects as call a service at the same time, roughly; forgetting one costs one more
/// exchange.
const MAX_SOURCES: NonZeroUsize = NonZeroUsize::new(1000).expect("not zero");

impl Exchanges {
    /// Exchanges as these settings say, their actor included; a subject of their own is left aside.
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub fn new(settings: Builder) -> Result<Self, Error> {
        // An actor is none too many: its subjects come later.
        let without_actor = Builder {
            actor: None,
            ..settings.clone()
        };
        without_actor.build()?;
        Ok(Self {
            settings,
            sources: Mutex::new(LruCache::new(MAX_SOURCES)),
        })
    }

    /// The source of tokens for the subject of this one.
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub fn of(&self, subject: &AccessToken) -> Result<Arc<OAuth>, Error> {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(source) = sources.get(subject.hash()) {
            return Ok(source.clone());
        }
        let fixed = Fixed::new(subject.clone()).clock(self.settings.clock.clone());
        let source = Arc::new(self.settings.clone().exchange(fixed).build()?);
        sources.put(*subject.hash(), source.clone());
        Ok(source)
    }
}

impl std::fmt::Debug for Exchanges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchanges")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
