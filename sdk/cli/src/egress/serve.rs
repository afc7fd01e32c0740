//! Where agents connect, and which of them may (GW-5).

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use super::callers::{self, Callers};
use super::names;
use super::proxy::{Entrance, Proxy};
use crate::failure::Failure;

/// Connections of agents at one time; beyond it they wait.
const MAX_CONNECTIONS: usize = 2000;

/// `--listen`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Address {
    /// Reads `ADDRESS:PORT` on loopback, or `unix:PATH`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err("unix: is followed by a path".to_owned()),
                path if path.starts_with('@') => Err(
                    "abstract sockets have no permissions, and are not supported: name a path"
                        .to_owned(),
                ),
                path => Ok(Self::Unix(path.into())),
            };
        }
        let address: SocketAddr = text
            .parse()
            .map_err(|_| "neither ADDRESS:PORT nor unix:PATH".to_owned())?;
        match address.ip().is_loopback() {
            true => Ok(Self::Tcp(address)),
            false => Err(
                "beyond loopback every machine could use the key: listen on 127.0.0.1, \
                 [::1] or unix:PATH"
                    .to_owned(),
            ),
        }
    }
}

/// A bound listener.
pub(crate) enum Listener {
    Tcp(TcpListener, SocketAddr),
    Unix(
        UnixListener,
        #[expect(dead_code, reason = "dropped with it")] SocketFile,
    ),
}

/// The file of a Unix socket, removed when it is dropped.
pub(crate) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    /// # Errors
    /// The address cannot be bound, or it cannot be told who connects to it.
    pub(crate) async fn bind(address: &Address) -> Result<Self, Failure> {
        match address {
            Address::Tcp(address) => {
                if !callers::are_told() {
                    return Err(Failure::usage(
                        "/proc/net/tcp cannot be read, so it cannot be told which user connects: \
                         use --listen unix:PATH",
                    ));
                }
                Self::bind_tcp(*address).await
            }
            Address::Unix(path) => {
                let listener = UnixListener::bind(path).map_err(|error| {
                    Failure::failed(format!("cannot listen on {}: {error}", path.display()))
                })?;
                Ok(Self::Unix(listener, SocketFile(path.clone())))
            }
        }
    }

    /// For callers that are not known by their user alone.
    pub(crate) async fn bind_tcp(address: SocketAddr) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::failed(format!("cannot listen: {error}"));
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self::Tcp(listener, address))
    }

    /// Holds the address: nobody else can take it while this is there, even when nobody accepts.
    pub(crate) fn held(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Tcp(listener, _) => listener.as_fd().try_clone_to_owned(),
            Self::Unix(listener, _) => listener.as_fd().try_clone_to_owned(),
        }
    }

    pub(crate) fn tcp_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(_, address) => Some(*address),
            Self::Unix(..) => None,
        }
    }

    /// Accepts for as long as it is polled.
    pub(crate) async fn serve(&self, proxy: Arc<Proxy>) {
        let callers = Callers::own();
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else {
                return;
            };
            let accepted = match self {
                Self::Tcp(listener, local) => listener.accept().await.map(|(socket, peer)| {
                    let (proxy, local) = (proxy.clone(), *local);
                    tokio::spawn(async move {
                        let _place = place;
                        let known = move || callers.admits_tcp(peer, local);
                        let known = tokio::task::spawn_blocking(known).await;
                        if !is_admitted(
                            &proxy,
                            known.unwrap_or_else(|error| Err(io::Error::other(error))),
                        ) {
                            return;
                        }
                        let _ = socket.set_nodelay(true);
                        let own = names::own_names(local.port());
                        let entrance = Entrance {
                            own_names: Some(own.into()),
                        };
                        proxy.connection(socket, entrance).await;
                    });
                }),
                Self::Unix(listener, _) => listener.accept().await.map(|(socket, _)| {
                    let proxy = proxy.clone();
                    tokio::spawn(async move {
                        let _place = place;
                        let peer = socket.peer_cred();
                        let known = peer.map(|peer| callers.admits(peer.uid()));
                        if is_admitted(&proxy, known) {
                            let entrance = Entrance { own_names: None };
                            proxy.connection(socket, entrance).await;
                        }
                    });
                }),
            };
            if let Err(error) = accepted {
                // Too many files are open, as a rule: connections that end make room.
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn is_admitted(proxy: &Proxy, known: io::Result<bool>) -> bool {
    proxy.counts.connections.add();
    match known {
        Ok(true) => true,
        Ok(false) => {
            proxy.counts.strangers.add();
            tracing::warn!("a connection of another user was closed");
            false
        }
        // The credential says it.
        Err(_) if proxy.credential.is_some() => true,
        Err(error) => {
            tracing::warn!(%error, "it cannot be told which user connected: closed");
            false
        }
    }
}
