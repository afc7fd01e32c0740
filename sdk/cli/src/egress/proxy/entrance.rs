//! How an agent's connection came in.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use crate::egress::names::HostPort;
use crate::egress::refused::Refused;
use crate::egress::tls::{Caller, Certified};

/// Of a connection, and of what becomes of it: a tunnel outlives its `CONNECT`.
#[derive(Clone)]
pub(crate) struct Entrance {
    own_names: Option<Arc<[HostPort]>>,
    caller: Option<Caller>,
    /// Taken until all of it has ended.
    _place: Arc<OwnedSemaphorePermit>,
}

impl Entrance {
    /// By a listener with these names. `None`: any name will do, since no browser reaches it.
    pub(crate) fn new(own_names: Option<Vec<HostPort>>, place: OwnedSemaphorePermit) -> Self {
        Self {
            own_names: own_names.map(Into::into),
            caller: None,
            _place: Arc::new(place),
        }
    }

    /// By a listener that ends TLS. Its names are [`Certified`]'s.
    pub(crate) fn of(caller: Caller, place: OwnedSemaphorePermit) -> Self {
        Self {
            caller: Some(caller),
            ..Self::new(None, place)
        }
    }

    /// Who has shown a certificate.
    pub(super) fn caller(&self) -> Option<&Caller> {
        self.caller.as_ref()
    }

    /// The names of the listener, if it ends no TLS.
    pub(super) fn own_names(&self) -> Option<&[HostPort]> {
        self.own_names.as_deref()
    }

    /// # Errors
    /// 403: another certificate is needed.
    pub(super) fn check(&self, certified: &Certified) -> Result<(), Refused> {
        match &self.caller {
            Some(caller) => certified.check(caller),
            None => Ok(()),
        }
    }

    /// Completes when what came in here may not go on.
    pub(super) async fn end_wanted(&self) {
        match &self.caller {
            Some(caller) => caller.end_wanted().await,
            None => std::future::pending().await,
        }
    }
}
