//! What a listener asks of the kernel for each accepted socket.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// An idle peer is probed after this time, and then four times at this interval.
const KEEPALIVE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;

/// How much the kernel keeps that it could not send yet. With its default, megabytes, a slow peer
/// would look for minutes as though it took nothing.
#[cfg(target_os = "linux")]
const UNSENT_BYTES: u32 = 128 * 1024;

/// Sets the socket up. If a part of that fails the socket still works.
pub(super) fn set_up(stream: &TcpStream, stalled_response_timeout: Duration) {
    for outcome in [
        // Otherwise small responses wait for acknowledgements.
        stream.set_nodelay(true),
        // A peer that vanished, for HTTP/1.1 and for `axum::serve`, which sends no PING.
        keepalive(stream),
        // A peer that vanished while something is sent to it, or whose receive window is closed.
        user_timeout(stream, stalled_response_timeout),
    ] {
        if let Err(error) = outcome {
            tracing::debug!(%error, "an option of an accepted socket could not be set");
        }
    }
}

fn keepalive(stream: &TcpStream) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

#[cfg(target_os = "linux")]
fn user_timeout(stream: &TcpStream, limit: Duration) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_notsent_lowat(UNSENT_BYTES)?;
    socket.set_tcp_user_timeout(Some(limit))
}

#[cfg(not(target_os = "linux"))]
fn user_timeout(_: &TcpStream, _: Duration) -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
