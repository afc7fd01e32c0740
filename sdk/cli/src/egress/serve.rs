//! Where agents connect, and which of them may (GW-5).

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::sync::Arc;
use std::time::Duration;

use bowline::server::{Acceptor, Connection, ConnectionLimits, Listener as TlsListener};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::address::Address;
use super::callers::{self, Callers, Peer, Uid};
use super::names;
use super::proxy::{Entrance, Proxy};
use super::tls::CertificateHolder;
use crate::failure::Failure;
use crate::ops::socket;

/// Connections and tunnels of agents at one time; beyond it they wait.
const MAX_CONNECTIONS: usize = 2000;

/// A bound listener.
pub(crate) struct Listener {
    socket: Socket,
    /// Where it listens, with the port that was chosen for 0.
    address: Address,
}

enum Socket {
    Tcp(TcpListener, SocketAddr),
    Unix(UnixListener),
    /// With its address.
    Tls(TlsListener, SocketAddr),
}

/// For callers that show a certificate.
pub(crate) struct Tls {
    pub(crate) acceptor: Acceptor,
    /// For which a connection may have no request.
    pub(crate) idle_timeout: Duration,
}

impl Listener {
    /// # Errors
    /// The address cannot be bound.
    pub(crate) async fn bind(
        address: &Address,
        callers: &Callers,
        tls: Option<Tls>,
    ) -> Result<Self, Failure> {
        let failed =
            |error: &dyn fmt::Display| Failure::failed(format!("--listen {address}: {error}"));
        let socket = match address {
            Address::Tcp(at) => {
                let Some(tls) = tls else {
                    return Self::bind_tcp(*at).await;
                };
                let (listener, local) = bind_tcp(*at).await?;
                let listener = tls.listener(listener).map_err(|e| failed(&e))?;
                return Ok(Self::on(Socket::Tls(listener, local), local));
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
                let listener = bind_abstract(name)
                    .map_err(|e| Failure::cannot_listen(format_args!("--listen {address}"), &e))?;
                Socket::Unix(listener)
            }
        };
        let address = address.clone();
        Ok(Self { socket, address })
    }

    /// For callers that are not known by a certificate.
    pub(crate) async fn bind_tcp(at: SocketAddr) -> Result<Self, Failure> {
        let (listener, local) = bind_tcp(at).await?;
        Ok(Self::on(Socket::Tcp(listener, local), local))
    }

    fn on(socket: Socket, address: SocketAddr) -> Self {
        Self {
            socket,
            address: Address::Tcp(address),
        }
    }

    /// Holds the address: nobody else can take it while this is there, even when nobody accepts.
    pub(crate) fn held(&self) -> io::Result<OwnedFd> {
        match &self.socket {
            Socket::Tcp(listener, _) => listener.as_fd().try_clone_to_owned(),
            Socket::Unix(listener) => listener.as_fd().try_clone_to_owned(),
            Socket::Tls(..) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) fn tcp_address(&self) -> Option<SocketAddr> {
        match &self.socket {
            Socket::Tcp(_, local) | Socket::Tls(_, local) => Some(*local),
            Socket::Unix(_) => None,
        }
    }

    /// Accepts for as long as it is polled.
    pub(crate) async fn serve(&mut self, proxy: Arc<Proxy>, callers: Callers) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else {
                return;
            };
            let accepted = match &mut self.socket {
                Socket::Tcp(listener, local) => listener.accept().await.map(|(socket, peer)| {
                    let callers = callers.clone();
                    let connection = tcp(proxy.clone(), callers, socket, peer, *local, place);
                    proxy.spawn(connection);
                }),
                Socket::Unix(listener) => listener.accept().await.map(|(socket, _)| {
                    proxy.spawn(unix(proxy.clone(), callers.clone(), socket, place));
                }),
                Socket::Tls(listener, local) => {
                    let connection = listener.accept().await;
                    let callers = callers.clone();
                    proxy.spawn(tls(proxy.clone(), callers, connection, *local, place));
                    Ok(())
                }
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

impl Tls {
    fn listener(self, tcp: TcpListener) -> io::Result<TlsListener> {
        let mut limits = ConnectionLimits::default();
        limits.max_connections = MAX_CONNECTIONS;
        limits.max_handshakes = MAX_CONNECTIONS;
        limits.idle_timeout = self.idle_timeout;
        TlsListener::with_limits(tcp, self.acceptor, limits)
    }
}

async fn bind_tcp(at: SocketAddr) -> Result<(TcpListener, SocketAddr), Failure> {
    let failed = |error: io::Error| Failure::cannot_listen(format_args!("--listen {at}"), &error);
    let listener = TcpListener::bind(at).await.map_err(failed)?;
    let local = listener.local_addr().map_err(failed)?;
    Ok((listener, local))
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
    if let Some(peer) = admitted(&proxy, &callers, owner(peer, local).await) {
        let _ = socket.set_nodelay(true);
        let own_names = names::own_names(local.port());
        let entrance = Entrance::new(peer, Some(own_names), place);
        proxy.connection(socket, entrance).await;
    }
}

/// The handshake has shown the certificate. On loopback the user counts as well (GW-5); beyond it no
/// user is known.
async fn tls(
    proxy: Arc<Proxy>,
    callers: Callers,
    connection: Connection,
    local: SocketAddr,
    place: OwnedSemaphorePermit,
) {
    let known = match connection.facts().peer() {
        _ if !local.ip().is_loopback() => {
            proxy.counts.connections.add();
            Some(Peer::Unknown)
        }
        Some(peer) => admitted(&proxy, &callers, owner(peer, local).await),
        None => admitted(
            &proxy,
            &callers,
            Err(io::ErrorKind::AddrNotAvailable.into()),
        ),
    };
    if let Some(peer) = known {
        let entrance = Entrance::of(CertificateHolder::of(&connection), peer, place);
        proxy.connection(connection, entrance).await;
    }
}

/// Whose the other end is.
async fn owner(peer: SocketAddr, local: SocketAddr) -> io::Result<Option<Uid>> {
    let owner = tokio::task::spawn_blocking(move || callers::tcp_owner(peer, local)).await;
    owner.unwrap_or_else(|error| Err(io::Error::other(error)))
}

async fn unix(
    proxy: Arc<Proxy>,
    callers: Callers,
    socket: UnixStream,
    place: OwnedSemaphorePermit,
) {
    let owner = socket.peer_cred().map(|owner| Some(owner.uid()));
    if let Some(peer) = admitted(&proxy, &callers, owner) {
        let entrance = Entrance::new(peer, None, place);
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
