//! One source for each incoming token.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use bowline_http_client::AccessToken;
use bowline_proof::TokenHash;
use lru::LruCache;

use super::{Builder, OAuth};
use crate::{Error, Fixed};

/// Exchanges tokens that callers present (RFC 8693), each once for as long as the result lasts: for
/// a service that is called with a token and calls another service for the same subject.
///
/// The service verifies the token and its proof first (AS-3): `Exchanges` cannot. It keeps a source
/// for each of the last 1,000 tokens, and drops the least recently used beyond that.
pub struct Exchanges {
    settings: Builder,
    sources: Mutex<LruCache<TokenHash, Arc<OAuth>>>,
}

/// Roughly the number of subjects that call a service at the same time. Dropping a source costs one
/// more exchange.
const MAX_SOURCES: NonZeroUsize = NonZeroUsize::new(1000).expect("not zero");

impl Exchanges {
    /// Exchanges with these settings, their actor included; their own subject, if any, is ignored.
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub fn new(settings: Builder) -> Result<Self, Error> {
        // An actor without a subject is fine here: the subjects come later.
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

    /// The source that exchanges this token.
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub fn for_token(&self, subject: &AccessToken) -> Result<Arc<OAuth>, Error> {
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
