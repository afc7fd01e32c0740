//! The local authority: it speaks to agents in the name of the allowed origins (GW-6).
//!
//! - [`pair`]: a root, which agents trust, and the intermediate that signs for the allowed names alone;
//! - [`store`]: the directory in which a service keeps its pairs.

mod pair;
mod store;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;

use self::pair::Pair;
use self::store::Store;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// A leaf is issued anew when this much of its life is over.
const LEAF_USE: Duration = Duration::from_secs(12 * 3600);
/// So long before a pair ends there is another one: agents read the roots when they start.
const OVERLAP: Duration = Duration::from_secs(30 * 24 * 3600);

/// A certificate could not be made, or the authority not be kept.
#[derive(Debug, thiserror::Error)]
#[error("the local authority cannot be used")]
pub(crate) struct AuthorityError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl AuthorityError {
    pub(crate) fn new(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(error.into())
    }
}

/// The authority of one egress.
pub(crate) struct Authority {
    state: Mutex<State>,
    /// `None`: in memory only.
    store: Option<Store>,
}

struct State {
    names: Vec<String>,
    /// The one that ends first comes first.
    pairs: Vec<Pair>,
    leaves: HashMap<String, Leaf>,
}

#[derive(Clone)]
struct Leaf {
    key: Arc<CertifiedKey>,
    issued: SystemTime,
}

impl Authority {
    /// Makes an authority for these DNS names, in lower case, which is in memory only.
    ///
    /// # Errors
    /// A name that no certificate can hold; the system's random numbers fail.
    pub(crate) fn new<'a>(
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, AuthorityError> {
        Self::with(None, names)
    }

    /// The authority that is kept in this directory, which is made if it is missing. Its roots are in
    /// `root.pem` there.
    ///
    /// # Errors
    /// Those of [`new`](Self::new); the directory cannot be used, or another egress uses it.
    pub(crate) fn open<'a>(
        dir: &Path,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, AuthorityError> {
        Self::with(Some(Store::open(dir)?), names)
    }

    /// Whether [`open`](Self::open) can use the directory. Nothing is written, and another egress may be
    /// using it.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub(crate) fn check<'a>(
        dir: &Path,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), AuthorityError> {
        Store::check(dir)?;
        Self::new(names).map(|_| ())
    }

    fn with<'a>(
        store: Option<Store>,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, AuthorityError> {
        let pairs = match &store {
            Some(store) => store.read()?,
            None => Vec::new(),
        };
        let authority = Self {
            state: Mutex::new(State {
                names: Vec::new(),
                pairs,
                leaves: HashMap::new(),
            }),
            store,
        };
        authority.be_for(names, SystemTime::now())?;
        Ok(authority)
    }

    /// From now on it is for these names and no others. Returns whether there is a root that agents
    /// do not know yet.
    ///
    /// # Errors
    /// Those of [`open`](Self::open): then it is as before.
    pub(crate) fn be_for<'a>(
        &self,
        names: impl IntoIterator<Item = &'a str>,
        now: SystemTime,
    ) -> Result<bool, AuthorityError> {
        let mut names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        names.sort();
        names.dedup();
        let mut state = self.state();
        // A pair that may sign for a name that is not allowed any more is not kept.
        let is_of_use = |pair: &Pair| {
            !pair.left(now).is_zero() && pair.names().iter().all(|name| names.contains(name))
        };
        let lasts = |pair: &Pair| {
            is_of_use(pair)
                && pair.left(now) > OVERLAP
                && names.iter().all(|name| pair.names().contains(name))
        };
        let made = match state.pairs.iter().any(lasts) {
            true => None,
            false => Some(Pair::new(&names, now)?),
        };
        let is_new = made.is_some();
        let is_same = !is_new && names == state.names && state.pairs.iter().all(is_of_use);
        if let Some(store) = self.store.as_ref().filter(|_| !is_same) {
            let kept = state.pairs.iter().filter(|pair| is_of_use(pair));
            store.write(&kept.chain(&made).collect::<Vec<_>>())?;
        }
        state.pairs.retain(is_of_use);
        state.pairs.extend(made);
        state.leaves.retain(|name, _| names.contains(name));
        if names != state.names {
            // Some may be of a pair that is gone.
            state.leaves.clear();
        }
        state.names = names;
        Ok(is_new)
    }

    /// Looks now and then whether a new pair is needed, for as long as it is polled.
    pub(crate) async fn keep_up(&self) {
        loop {
            tokio::time::sleep(HOUR).await;
            let names = self.state().names.clone();
            match self.be_for(names.iter().map(String::as_str), SystemTime::now()) {
                Ok(false) => {}
                Ok(true) => tracing::warn!(
                    "the local authority has a new root, in use from 30 days on: agents that start \
                     from now on trust it"
                ),
                Err(error) => tracing::error!("{}", crate::causes::with_causes(&error)),
            }
        }
    }

    /// The newest root.
    pub(crate) fn root(&self) -> CertificateDer<'static> {
        let state = self.state();
        // `be_for` has left one at least.
        state.pairs[state.pairs.len() - 1].root().clone()
    }

    /// A certificate for this name alone, with its chain; the same one for half of its life. It is of
    /// the pair that ends first and lasts for it, since that is the one that agents know.
    ///
    /// # Errors
    /// A name that the authority is not for.
    pub(crate) fn leaf(
        &self,
        name: &str,
        now: SystemTime,
    ) -> Result<Arc<CertifiedKey>, AuthorityError> {
        let mut state = self.state();
        if !state.names.iter().any(|known| known == name) {
            return Err(AuthorityError::new(format!(
                "{name} is not an allowed name"
            )));
        }
        if let Some(leaf) = state.leaves.get(name) {
            // `Err`: the clock was set back.
            let age = now.duration_since(leaf.issued);
            if age.is_ok_and(|age| age < LEAF_USE) {
                return Ok(leaf.key.clone());
            }
        }
        let for_name = |pair: &&Pair| pair.names().iter().any(|known| known == name);
        let mut pairs = state.pairs.iter().filter(for_name);
        let pair = pairs.clone().find(|pair| pair.left(now) > DAY);
        let pair = pair.or_else(|| pairs.next_back());
        let pair = pair.ok_or_else(|| AuthorityError::new(format!("no pair is for {name}")))?;
        let key = Arc::new(pair.issue(name, now)?);
        let leaf = Leaf {
            key: key.clone(),
            issued: now,
        };
        state.leaves.insert(name.to_owned(), leaf);
        Ok(key)
    }

    /// Poisoning is ignored: the state is valid after each single change.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("names", &self.state().names)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
