//! The TLS configuration that an acceptor uses now.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::ServerTls;

/// The configuration of an acceptor, shared with its clones, its [`TlsReloader`]s, and the
/// certificates that it has accepted.
pub(crate) struct CurrentTls {
    tls: ArcSwap<ServerTls>,
    /// How often it was replaced.
    replacements: AtomicU64,
    replaced: watch::Sender<()>,
}

impl CurrentTls {
    pub(crate) fn new(tls: ServerTls) -> Arc<Self> {
        Arc::new(Self {
            tls: ArcSwap::from_pointee(tls),
            replacements: AtomicU64::new(0),
            replaced: watch::Sender::new(()),
        })
    }

    pub(crate) fn load(&self) -> Arc<ServerTls> {
        self.tls.load_full()
    }

    /// How often it has been replaced. What [`load`](Self::load) returns after this is at least as
    /// new.
    pub(crate) fn replacements(&self) -> u64 {
        self.replacements.load(Ordering::Acquire)
    }

    /// Changes each time that it is replaced, from now on.
    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.replaced.subscribe()
    }

    fn replace(&self, tls: ServerTls) {
        self.tls.store(Arc::new(tls));
        self.replacements.fetch_add(1, Ordering::Release);
        self.replaced.send_replace(());
    }
}

/// Replaces the TLS configuration of an [`Acceptor`](crate::Acceptor) that is in use, at run time:
/// the server's certificate, the roots for client certificates, whether one is demanded. See
/// [`Acceptor::reloader`](crate::Acceptor::reloader).
#[derive(Clone)]
pub struct TlsReloader(pub(crate) Arc<CurrentTls>);

impl TlsReloader {
    /// Handshakes that begin from now on use `tls`. Its session tickets have a key of their own, so
    /// that no session from before is resumed: its client makes a full handshake.
    ///
    /// Open connections stay, if their client certificates still verify. The others are drained, and
    /// no request that comes over them from now on passes a [`BindingLayer`](crate::BindingLayer)
    /// (RS-1).
    pub fn replace(&self, tls: ServerTls) {
        self.0.replace(tls);
    }
}

impl fmt::Debug for TlsReloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsReloader").finish_non_exhaustive()
    }
}
