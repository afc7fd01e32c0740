//! The certificates that a client holds, and which of them a token needs (CL-8).

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use bowline_proof::{AccessToken, Thumbprint};
use rustls::ClientConfig;

use crate::config::HttpVersions;
use crate::conn::identity::Identity;
use crate::conn::tls::{self, Trust};
use crate::error::{Error, ErrorKind};

/// The current identity and the others.
pub(crate) struct Identities {
    trust: Trust,
    http: HttpVersions,
    set: RwLock<Set>,
}

struct Set {
    current: Arc<IdentityConfig>,
    /// Used only for the requests that need them, until they expire: those before the current one,
    /// and those that will be current next.
    others: Vec<Arc<IdentityConfig>>,
}

/// An identity, or none, with the TLS configuration that presents it.
pub(crate) struct IdentityConfig {
    pub(crate) identity: Option<Arc<Identity>>,
    pub(crate) tls: ClientConfig,
}

impl IdentityConfig {
    fn new(
        identity: Option<Arc<Identity>>,
        trust: &Trust,
        http: HttpVersions,
    ) -> Result<Arc<Self>, Error> {
        let tls = tls::template(trust, identity.as_ref(), http)?;
        Ok(Arc::new(Self { identity, tls }))
    }

    pub(crate) fn thumbprint(&self) -> Option<Thumbprint> {
        self.identity.as_ref().map(|identity| identity.thumbprint())
    }

    pub(crate) fn not_after(&self) -> Option<SystemTime> {
        self.identity.as_ref().map(|identity| identity.not_after())
    }

    fn is_expired(&self) -> bool {
        self.not_after()
            .is_some_and(|not_after| not_after < SystemTime::now())
    }
}

impl Identities {
    pub(crate) fn new(
        current: Option<Arc<Identity>>,
        retired: Vec<Arc<Identity>>,
        trust: Trust,
        http: HttpVersions,
    ) -> Result<Self, Error> {
        let set = Set {
            current: IdentityConfig::new(current, &trust, http)?,
            others: retired
                .into_iter()
                .map(|identity| IdentityConfig::new(Some(identity), &trust, http))
                .collect::<Result<_, _>>()?,
        };
        Ok(Self {
            trust,
            http,
            set: RwLock::new(set),
        })
    }

    /// Makes `identity` the current one and retires the one before.
    pub(crate) fn replace(&self, identity: Arc<Identity>) -> Result<(), Error> {
        let config = IdentityConfig::new(Some(identity), &self.trust, self.http)?;
        let mut set = self.set.write().unwrap_or_else(PoisonError::into_inner);
        set.others
            .retain(|other| !other.is_expired() && other.thumbprint() != config.thumbprint());
        let before = std::mem::replace(&mut set.current, config);
        if before.identity.is_some() && before.thumbprint() != set.current.thumbprint() {
            set.others.push(before);
        }
        Ok(())
    }

    /// Holds `identity` besides the current one.
    pub(crate) fn hold(&self, identity: Arc<Identity>) -> Result<(), Error> {
        let thumbprint = identity.thumbprint();
        let is_held = |set: &Set| {
            set.all()
                .any(|config| config.thumbprint() == Some(thumbprint))
        };
        if is_held(&self.set.read().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(());
        }
        let config = IdentityConfig::new(Some(identity), &self.trust, self.http)?;
        let mut set = self.set.write().unwrap_or_else(PoisonError::into_inner);
        set.others.retain(|other| !other.is_expired());
        if !is_held(&set) {
            set.others.push(config);
        }
        Ok(())
    }

    pub(crate) fn current(&self) -> Arc<IdentityConfig> {
        let set = self.set.read().unwrap_or_else(PoisonError::into_inner);
        set.current.clone()
    }

    /// The identity that takes over when this one expires, if one is held: the current one, else
    /// that which is valid for longest.
    pub(crate) fn successor(&self, of: &IdentityConfig) -> Option<Arc<IdentityConfig>> {
        let set = self.set.read().unwrap_or_else(PoisonError::into_inner);
        let outlives = |other: &&Arc<IdentityConfig>| other.not_after() > of.not_after();
        let current = Some(&set.current).filter(outlives);
        let other = || {
            let others = set.others.iter().filter(outlives);
            others.max_by_key(|other| other.not_after())
        };
        current.or_else(other).cloned()
    }

    /// The identity that a token is bound to, or that its request asks for, or the current one.
    pub(crate) fn for_request(
        &self,
        token: Option<&AccessToken>,
        requested: Option<Thumbprint>,
    ) -> Result<Arc<IdentityConfig>, Error> {
        let set = self.set.read().unwrap_or_else(PoisonError::into_inner);
        // A malformed `cnf` is the binding's to report.
        let bound_to = token.and_then(|token| token.confirmation().ok()?.x5t_s256);
        let Some(thumbprint) = bound_to.or(requested) else {
            return Ok(set.current.clone());
        };
        let needs = match bound_to {
            Some(_) => "the access token is bound to",
            None => "the request asks for",
        };
        match set
            .all()
            .find(|config| config.thumbprint() == Some(thumbprint))
        {
            Some(config) if config.is_expired() => {
                let ago = config
                    .not_after()
                    .and_then(|when| when.elapsed().ok())
                    .map(whole_seconds)
                    .unwrap_or_default();
                let message = format!(
                    "{needs} a certificate that expired {ago:?} ago; ask for a token with the certificate in use"
                );
                Err(Error::new(ErrorKind::TokenBoundToOtherCertificate, message))
            }
            Some(config) => Ok(config.clone()),
            None if set.current.identity.is_none() && set.others.is_empty() => Err(Error::new(
                ErrorKind::NoIdentity,
                format!(
                    "{needs} a client certificate, and this client has none: give the client an identity"
                ),
            )),
            None => Err(Error::new(
                ErrorKind::TokenBoundToOtherCertificate,
                format!(
                    "{needs} a certificate that this client does not hold; ask for a token with the certificate in use"
                ),
            )),
        }
    }
}

impl Set {
    fn all(&self) -> impl Iterator<Item = &Arc<IdentityConfig>> {
        std::iter::once(&self.current).chain(&self.others)
    }
}

fn whole_seconds(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs())
}
