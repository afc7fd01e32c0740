//! Where agents connect, and which of them may (GW-5).

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::callers::{self, Callers, Peer, Uid};
use super::names;
use super::proxy::{Entrance, Proxy};
use crate::failure::Failure;
use crate::ops::socket;

/// Connections and tunnels of agents at one time; beyond it they wait.
const MAX_CONNECTIONS: usize = 2000;

/// `--listen`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
    /// A name in the network namespace: no file, and so no permissions.
    Abstract(String),
}

impl Address {
    /// Reads `ADDRESS:PORT` on loopback, `unix:PATH` or `unix:@NAME`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match (path, path.strip_prefix('@')) {
                ("", _) => Err("unix: is followed by a path, or by @ and a name".to_owned()),
                (_, Some("")) => Err("unix:@ is followed by a name".to_owned()),
                (_, Some(name)) => Ok(Self::Abstract(name.to_owned())),
                (path, None) => Ok(Self::Unix(path.into())),
            };
        }
        let address: SocketAddr = text
            .parse()
            .map_err(|_| "it is none of ADDRESS:PORT, unix:PATH and unix:@NAME".to_owned())?;
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

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Abstract(name) => write!(f, "unix:@{name}"),
        }
    }
}

/// A bound listener.
pub(crate) struct Listener {
    socket: Socket,
    /// Where it listens, with the port that was chosen for 0.
    address: Address,
}

enum Socket {
    Tcp(TcpListener, SocketAddr),
    Unix(UnixListener),
}

impl Listener {
    /// # Errors
    /// The address cannot be bound, or it cannot be told who connects to it.
    pub(crate) async fn bind(address: &Address, callers: &Callers) -> Result<Self, Failure> {
        let failed =
            |error: &dyn fmt::Display| Failure::failed(format!("--listen {address}: {error}"));
        let socket = match address {
            Address::Tcp(at) => {
                if !callers::are_told() {
                    return Err(Failure::usage(
                        "/proc/net/tcp cannot be read, so it cannot be told which user connects: \
                         use --listen unix:PATH",
                    ));
                }
                return Self::bind_tcp(*at).await;
            }
            Address::Unix(path) => {
                let listener = match callers.are_own() {
                    true => socket::bind_private(path).await,
                    // Its mode cannot name them: the kernel says of each connection whose it is.
                    false => socket::bind(path, 0o666).await,
                };
                Socket::Unix(listener.map_err(|e| failed(&e))?)
            }
            Address::Abstract(name) => {
                let listener = bind_abstract(name).map_err(|e| failed(&e))?;
                Socket::Unix(listener)
            }
        };
        let address = address.clone();
        Ok(Self { socket, address })
    }

    /// For callers that are not known by their user alone.
    pub(crate) async fn bind_tcp(at: SocketAddr) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::failed(format!("--listen {at}: {error}"));
        let listener = TcpListener::bind(at).await.map_err(failed)?;
        let local = listener.local_addr().map_err(failed)?;
        Ok(Self {
            socket: Socket::Tcp(listener, local),
            address: Address::Tcp(local),
        })
    }

    /// Holds the address: nobody else can take it while this is there, even when nobody accepts.
    pub(crate) fn held(&self) -> io::Result<OwnedFd> {
        match &self.socket {
            Socket::Tcp(listener, _) => listener.as_fd().try_clone_to_owned(),
            Socket::Unix(listener) => listener.as_fd().try_clone_to_owned(),
        }
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) fn tcp_address(&self) -> Option<SocketAddr> {
        match &self.socket {
            Socket::Tcp(_, local) => Some(*local),
            Socket::Unix(_) => None,
        }
    }

    /// Accepts for as long as it is polled.
    pub(crate) async fn serve(&self, proxy: Arc<Proxy>, callers: Callers) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else {
                return;
            };
            let accepted = match &self.socket {
                Socket::Tcp(listener, local) => listener.accept().await.map(|(socket, peer)| {
                    let callers = callers.clone();
                    let connection = tcp(proxy.clone(), callers, socket, peer, *local, place);
                    proxy.spawn(connection);
                }),
                Socket::Unix(listener) => listener.accept().await.map(|(socket, _)| {
                    proxy.spawn(unix(proxy.clone(), callers.clone(), socket, place));
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

/// The file of a Unix socket goes with it.
impl Drop for Listener {
    fn drop(&mut self) {
        if let Address::Unix(path) = &self.address {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn bind_abstract(name: &str) -> io::Result<UnixListener> {
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
    let listener = std::os::unix::net::UnixListener::bind_addr(&address)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

async fn tcp(
    proxy: Arc<Proxy>,
    callers: Callers,
    socket: TcpStream,
    peer: SocketAddr,
    local: SocketAddr,
    place: OwnedSemaphorePermit,
) {
    let owner = tokio::task::spawn_blocking(move || callers::tcp_owner(peer, local)).await;
    let owner = owner.unwrap_or_else(|error| Err(io::Error::other(error)));
    if let Some(peer) = admitted(&proxy, &callers, owner) {
        let _ = socket.set_nodelay(true);
        let entrance = Entrance {
            place: Arc::new(place),
            peer,
            own_names: Some(names::own_names(local.port()).into()),
        };
        proxy.connection(socket, entrance).await;
    }
}

async fn unix(
    proxy: Arc<Proxy>,
    callers: Callers,
    socket: UnixStream,
    place: OwnedSemaphorePermit,
) {
    let owner = socket.peer_cred().map(|owner| Some(owner.uid()));
    if let Some(peer) = admitted(&proxy, &callers, owner) {
        let entrance = Entrance {
            place: Arc::new(place),
            peer,
            own_names: None,
        };
        proxy.connection(socket, entrance).await;
    }
}

/// Whose the connection is, if it may be used.
fn admitted(proxy: &Proxy, callers: &Callers, owner: io::Result<Option<Uid>>) -> Option<Peer> {
    proxy.counts.connections.add();
    match owner {
        Ok(Some(uid)) if callers.admits(uid) => Some(Peer::User(uid)),
        Ok(_) => {
            proxy.counts.strangers.add();
            tracing::warn!("a connection of another user was closed");
            None
        }
        // The credential says it.
        Err(_) if proxy.asks_for_credential() => Some(Peer::Unknown),
        Err(error) => {
            tracing::warn!(%error, "it cannot be told which user connected: closed");
            None
        }
    }
}
