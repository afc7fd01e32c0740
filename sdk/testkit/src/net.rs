//! Loopback sockets, the loop that accepts connections on one, and the text of a response.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http_body_util::BodyExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

pub use crate::task::OwnedTask;

/// Listens on a free port of 127.0.0.1.
///
/// # Panics
/// If there is none, or outside a tokio runtime.
#[must_use]
pub fn loopback() -> TcpListener {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .and_then(TcpListener::from_std)
        .expect("a loopback port")
}

/// A port of 127.0.0.1 that was free a moment ago, for a process that cannot be given a socket.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port");
    listener.local_addr().expect("a bound socket").port()
}

/// The same on an address of loopback that is for this call alone, so that no other socket of this
/// machine takes the port before that process has it, or between two of its lives.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let own = (std::process::id() << 4) | (NEXT.fetch_add(1, Ordering::Relaxed) % 16);
    let [_, b, c, d] = own.to_be_bytes();
    let ip = match cfg!(target_os = "linux") {
        true => Ipv4Addr::new(127, b | 0x80, c, d),
        // There the others of 127.0.0.0/8 have to be set up first.
        false => Ipv4Addr::LOCALHOST,
    };
    let listener = std::net::TcpListener::bind((ip, 0)).expect("a loopback port");
    listener.local_addr().expect("a bound socket")
}

/// A port of 127.0.0.1 that refuses connections for as long as this is there. One that was closed
/// may be another process's a moment later.
#[derive(Debug)]
pub struct ClosedPort(TcpSocket);

impl ClosedPort {
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn new() -> Self {
        // Bound, and never listening.
        let socket = TcpSocket::new_v4().expect("a socket");
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        socket.bind(any).expect("a loopback port");
        Self(socket)
    }

    /// # Panics
    /// Never: it is bound.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.0.local_addr().expect("a bound socket")
    }
}

impl Default for ClosedPort {
    fn default() -> Self {
        Self::new()
    }
}

/// The origin by which clients know a server with a certificate for `localhost`.
pub(crate) fn origin(addr: SocketAddr) -> String {
    format!("https://localhost:{}", addr.port())
}

/// The whole body of a response, which is text.
///
/// # Panics
/// If the body cannot be read to its end or is not UTF-8.
pub async fn text<B>(response: http::Response<B>) -> String
where
    B: http_body::Body<Error: std::fmt::Debug>,
{
    let body = response.into_body().collect().await.expect("a whole body");
    String::from_utf8(body.to_bytes().to_vec()).expect("text")
}

/// Runs `serve` for every connection, each in a task of its own. Dropping the returned task stops
/// accepting and ends the connections.
///
/// # Panics
/// Outside a tokio runtime.
pub fn accept_loop<F>(
    listener: TcpListener,
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> OwnedTask
where
    F: Future<Output = ()> + Send + 'static,
{
    OwnedTask::spawn(async move {
        // Dropped with the loop; its tasks end with it.
        let mut connections = JoinSet::new();
        loop {
            let tcp = accept(&listener).await;
            while connections.try_join_next().is_some() {}
            connections.spawn(serve(tcp));
        }
    })
}

/// The next connection. A process out of file descriptors tries again, and logs that it does.
async fn accept(listener: &TcpListener) -> TcpStream {
    const BACKOFF: Duration = Duration::from_millis(50);
    loop {
        match listener.accept().await {
            Ok((tcp, _)) => return tcp,
            Err(error) => {
                tracing::warn!(%error, "accepting failed; trying again in {BACKOFF:?}");
                tokio::time::sleep(BACKOFF).await;
            }
        }
    }
}
