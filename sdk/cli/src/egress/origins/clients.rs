//! The connections outwards: one client, with one pool, for all origins that have the same
//! certificate and the same authorities, and for all agents.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use bowline::client::metrics::MetricsObserver;
use bowline::client::{DpopKey, Observer};
use bowline::{Client, Identity, Trust};

use super::hash;
use super::options::{Credentials, DpopKeyAt, Setting};
use crate::egress::counts::Counts;
use crate::egress::names::HostPort;
use crate::failure::Failure;
use crate::identity;
use crate::values::ProofScope;

pub(super) struct Clients(HashMap<Credentials, Held>);

struct Held {
    client: Client,
    /// The one of before the reload.
    is_kept: bool,
    /// What a client cannot change: with others it is made anew.
    fixed: Fixed,
    /// Whom it is for.
    origins: Vec<HostPort>,
    /// The current one first; those before it are for the tokens that are bound to them (CL-8).
    identities: Vec<Arc<Identity>>,
}

#[derive(PartialEq, Eq)]
struct Fixed {
    /// The text of the file of authorities.
    authorities: Option<Vec<u8>>,
    /// Of the origins that do not have the client's own scope.
    scopes: HashMap<HostPort, ProofScope>,
    /// The hash of the file of the DPoP key.
    dpop_key: Option<[u8; 32]>,
}

impl Clients {
    /// # Errors
    /// A file cannot be used: then nothing has changed.
    pub(super) fn new(
        settings: &[Setting],
        counts: &Arc<Counts>,
        former: Option<&Self>,
    ) -> Result<Self, Failure> {
        let mut all = HashMap::new();
        for setting in settings {
            let credentials = &setting.credentials;
            if !all.contains_key(credentials) {
                let held = Held::new(credentials, settings, counts, former)?;
                all.insert(credentials.clone(), held);
            }
        }
        Ok(Self(all))
    }

    /// The new identities become the current ones; each client holds its own already.
    pub(super) fn put_into_use(&self) -> Result<(), Failure> {
        for held in self.0.values() {
            let new = &held.identities[0];
            let current = held.client.identity();
            if current.is_none_or(|current| current.thumbprint() != new.thumbprint()) {
                held.client
                    .replace_identity(new.clone())
                    .map_err(Failure::usage)?;
            }
        }
        Ok(())
    }

    /// The files of private keys, each once.
    pub(super) fn keys(&self) -> Vec<String> {
        let keys = self.0.keys().map(|of| of.key.display().to_string());
        let mut keys: Vec<String> = keys.collect();
        keys.sort();
        keys.dedup();
        keys
    }

    pub(super) fn of(&self, setting: &Setting) -> &Client {
        &self.0[&setting.credentials].client
    }

    /// Whether it is the one of before: what was made for it is still of use.
    pub(super) fn is_kept(&self, setting: &Setting) -> bool {
        self.0[&setting.credentials].is_kept
    }
}

impl Held {
    fn new(
        credentials: &Credentials,
        settings: &[Setting],
        counts: &Arc<Counts>,
        former: Option<&Clients>,
    ) -> Result<Self, Failure> {
        let authorities = match &credentials.cacert {
            None => None,
            Some(path) => Some(std::fs::read(path).map_err(|error| {
                Failure::usage(format!(
                    "--cacert: {} cannot be read: {error}",
                    path.display()
                ))
            })?),
        };
        let sharing = settings.iter().filter(|of| of.credentials == *credentials);
        let own_scope = sharing
            .clone()
            .filter(|of| of.proof_scope != ProofScope::Connection);
        let fixed = Fixed {
            authorities,
            scopes: own_scope
                .map(|of| (of.name.clone(), of.proof_scope))
                .collect(),
            dpop_key: match &credentials.dpop_key {
                Some(DpopKeyAt::File(path)) => hash(path),
                Some(DpopKeyAt::Memory(_)) | None => None,
            },
        };
        let origins: Vec<HostPort> = sharing.map(|of| of.name.clone()).collect();
        let identity = identity::read(&credentials.cert, &credentials.key, "--key")?;
        let same = former.and_then(|former| former.0.get(credentials));
        // Other files now: tokens that are bound to the certificate before are still about.
        let before = same.or_else(|| {
            let mut all = former?.0.values();
            all.find(|held| held.origins.iter().any(|name| origins.contains(name)))
        });
        let identities = with_former(identity, before);
        let kept = same.filter(|same| same.fixed == fixed);
        let client = match kept {
            Some(same) => {
                // It tells whether the identity can be used, and is used for nothing else yet.
                same.client
                    .hold_identity(identities[0].clone())
                    .map_err(Failure::usage)?;
                same.client.clone()
            }
            None => build(credentials, &fixed, &identities, counts)?,
        };
        Ok(Self {
            client,
            is_kept: kept.is_some(),
            fixed,
            origins,
            identities,
        })
    }
}

/// The new identity and those of before that still are of use.
fn with_former(identity: Identity, former: Option<&Held>) -> Vec<Arc<Identity>> {
    let former = former.map_or(&[][..], |former| former.identities.as_slice());
    let thumbprint = identity.thumbprint();
    let now = SystemTime::now();
    let others = former
        .iter()
        .filter(|other| other.thumbprint() != thumbprint && other.not_after() > now);
    let mut identities = vec![Arc::new(identity)];
    identities.extend(others.cloned());
    identities
}

fn build(
    credentials: &Credentials,
    fixed: &Fixed,
    identities: &[Arc<Identity>],
    counts: &Arc<Counts>,
) -> Result<Client, Failure> {
    let trust = match (&fixed.authorities, &credentials.cacert) {
        (Some(text), Some(path)) => Trust::from_pem(text)
            .map_err(|error| Failure::usage(format!("--cacert: {}: {error}", path.display())))?,
        _ => Trust::platform(),
    };
    let mut builder = Client::builder()
        .trust(trust)
        .observer(counts.clone() as Arc<dyn Observer>)
        .observer(Arc::new(MetricsObserver) as Arc<dyn Observer>);
    for (at, identity) in identities.iter().enumerate() {
        builder = match at {
            0 => builder.identity(identity.clone()),
            _ => builder.retired_identity(identity.clone()),
        };
    }
    builder = match &credentials.dpop_key {
        None => builder,
        Some(DpopKeyAt::File(path)) => builder.dpop_key(identity::dpop_key("dpop-key", path)?),
        Some(DpopKeyAt::Memory(_)) => {
            builder.dpop_key(DpopKey::generate().map_err(Failure::usage)?)
        }
    };
    for (name, scope) in &fixed.scopes {
        let origin = format!("https://{name}").parse().map_err(Failure::usage)?;
        builder = builder.proof_scope_for(origin, (*scope).into());
    }
    builder.build().map_err(Failure::usage)
}
