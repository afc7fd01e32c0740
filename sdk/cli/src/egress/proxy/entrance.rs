//! How an agent's connection came in.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use crate::egress::callers::Peer;
use crate::egress::names::HostPort;
use crate::egress::pages::Way;
use crate::egress::refused::Refused;
use crate::egress::tls::{CertificateHolder, Certified};

/// Of a connection, and of what becomes of it: a tunnel outlives its `CONNECT`.
#[derive(Clone)]
pub(crate) struct Entrance {
    peer: Peer,
    own_names: Option<Arc<[HostPort]>>,
    certified: Option<CertificateHolder>,
    /// Taken until all of it has ended.
    _place: Arc<OwnedSemaphorePermit>,
}

/// Whom a request comes from, and how.
#[derive(Clone, Copy)]
pub(super) struct Arrival<'a> {
    pub(super) peer: Peer,
    pub(super) way: Way<'a>,
}

impl Entrance {
    /// By a listener with these names. `None`: any name will do, since no browser reaches it.
    pub(crate) fn new(
        peer: Peer,
        own_names: Option<Vec<HostPort>>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            peer,
            own_names: own_names.map(Into::into),
            certified: None,
            _place: Arc::new(place),
        }
    }

    /// By a listener that ends TLS. Its names are [`Certified`]'s.
    pub(crate) fn of(
        certified: CertificateHolder,
        peer: Peer,
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            certified: Some(certified),
            ..Self::new(peer, None, place)
        }
    }

    /// Who has shown a certificate.
    pub(super) fn certified(&self) -> Option<&CertificateHolder> {
        self.certified.as_ref()
    }

    pub(super) fn peer(&self) -> Peer {
        self.peer
    }

    /// The names of the listener; those of one that ends TLS can change.
    pub(super) fn own_names<'a>(&'a self, certified: &'a Certified) -> Option<&'a [HostPort]> {
        match &self.certified {
            Some(_) => Some(certified.names()),
            None => self.own_names.as_deref(),
        }
    }

    /// Of a request to the listener itself.
    pub(super) fn arrival<'a>(&'a self, certified: &'a Certified) -> Arrival<'a> {
        let way = match self.own_names(certified) {
            Some(own) => Way::Port {
                own,
                over_tls: self.certified.is_some(),
            },
            None => Way::Socket,
        };
        Arrival {
            peer: self.peer,
            way,
        }
    }

    /// # Errors
    /// 403: another certificate is needed.
    pub(super) fn check(&self, certified: &Certified) -> Result<(), Refused> {
        match &self.certified {
            Some(holder) => certified.check(holder),
            None => Ok(()),
        }
    }

    /// Completes when what came in here may not go on.
    pub(super) async fn end_wanted(&self) {
        match &self.certified {
            Some(holder) => holder.end_wanted().await,
            None => std::future::pending().await,
        }
    }
}
