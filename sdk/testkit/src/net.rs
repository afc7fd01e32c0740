//! Loopback sockets.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

/// Listens on a free port of 127.0.0.1.
///
/// # Panics
/// If there is none, or outside a tokio runtime.
pub(crate) fn loopback() -> TcpListener {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .and_then(TcpListener::from_std)
        .expect("a loopback port")
}

/// The origin by which clients know a server with a certificate for `localhost`.
pub(crate) fn origin(addr: SocketAddr) -> String {
    format!("https://localhost:{}", addr.port())
}

/// The next connection. A process out of file descriptors tries again, and says so.
pub(crate) async fn accept(listener: &TcpListener) -> TcpStream {
    const BACK_OFF: Duration = Duration::from_millis(50);
    loop {
        match listener.accept().await {
            Ok((tcp, _)) => return tcp,
            Err(error) => {
                tracing::warn!(%error, "accepting failed; trying again in {BACK_OFF:?}");
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}
