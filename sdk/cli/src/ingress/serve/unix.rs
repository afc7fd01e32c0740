//! TLS over a Unix socket, for a peer on this machine that passes TCP connections on.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bowline::server::{
    Acceptor, Connection, ConnectionLimits, HttpService, ServeOptions, serve_connection,
};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::until_stopped;

/// How long to wait when the process is out of file descriptors.
const BACK_OFF: Duration = Duration::from_millis(200);

/// A socket that an earlier process has left is removed.
pub(super) async fn bind(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            match UnixStream::connect(path).await {
                Err(refused) if refused.kind() == io::ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(path)?;
                    UnixListener::bind(path)
                }
                _ => Err(error),
            }
        }
        bound => bound,
    }
}

/// The number of connections is bounded; shares of clients are not, because there is no address to
/// tell them apart before the handshake.
pub(super) async fn serve<S: HttpService + Sync>(
    unix: UnixListener,
    acceptor: Acceptor,
    limits: ConnectionLimits,
    service: S,
    options: ServeOptions,
    stopped: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(limits.max_connections));
    // The semaphore is never closed.
    let place = async || places.clone().acquire_owned().await.ok();
    let mut connections = JoinSet::new();
    let one = |stream: UnixStream, place: Option<OwnedSemaphorePermit>| {
        let (acceptor, limits) = (acceptor.clone(), limits.clone());
        let (service, options, stopped) = (service.clone(), options.clone(), stopped.clone());
        async move {
            let _place = place;
            match acceptor.accept(stream).await {
                Ok((stream, facts)) => {
                    let connection = Connection::new(stream, facts, &limits);
                    let stop = until_stopped(stopped);
                    serve_connection(connection, service, &options, stop).await;
                }
                Err(error) => tracing::debug!(%error, "connection refused"),
            }
        }
    };
    loop {
        let accepted = async {
            let place = place().await;
            (unix.accept().await, place)
        };
        tokio::select! {
            biased;
            () = until_stopped(stopped.clone()) => break,
            (accepted, place) = accepted => match accepted {
                Ok((stream, _)) => drop(connections.spawn(one(stream, place))),
                Err(error) => back_off(&error).await,
            },
        }
        while connections.try_join_next().is_some() {}
    }
    // Those that wait in the kernel's queue: closing the socket would reset them. They get their
    // handshakes, and are drained.
    for stream in waiting(unix).await {
        let place = place().await;
        connections.spawn(one(stream, place));
    }
    while connections.join_next().await.is_some() {}
}

/// Closes the socket, and has what was waiting in its queue.
async fn waiting(unix: UnixListener) -> Vec<UnixStream> {
    let mut streams = Vec::new();
    // The kernel is asked itself: tokio may not have heard of the last ones yet.
    let Ok(unix) = unix.into_std() else {
        return streams;
    };
    loop {
        let accepted = unix.accept().and_then(|(stream, _)| {
            stream.set_nonblocking(true)?;
            UnixStream::from_std(stream)
        });
        match accepted {
            Ok(stream) => streams.push(stream),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return streams,
            Err(error) => back_off(&error).await,
        }
    }
}

async fn back_off(error: &io::Error) {
    tracing::warn!(%error, "accepting failed; waiting {BACK_OFF:?}");
    tokio::time::sleep(BACK_OFF).await;
}
