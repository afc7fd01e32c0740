//! What a client asks of the kernel for each of its sockets, so that a peer that has vanished is
//! noticed: a response has no limit of its own unless the caller sets one.
//!
//! - TCP keep-alive, for a connection on which nothing is being sent (RFC 9293 §3.8.4). It is the
//!   kernel's business: an HTTP/2 PING would be the server's, and some take it for abuse.
//! - `TCP_USER_TIMEOUT` (RFC 5482, Linux), for one on which something is: not acknowledged, or the
//!   peer's receive window stays closed.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// The first probe goes out when half the limit has passed in silence, the last when it has all
/// passed.
const PROBES: u32 = 4;

/// The kernel counts in whole seconds here.
const SECOND: Duration = Duration::from_secs(1);

/// Sets the socket up. If a part of that fails the socket still works.
pub(super) fn set_up(stream: &TcpStream, dead_peer: Duration) {
    for outcome in [
        keepalive(stream, dead_peer),
        user_timeout(stream, dead_peer),
    ] {
        if let Err(error) = outcome {
            tracing::debug!(%error, "an option of a socket could not be set");
        }
    }
}

fn keepalive(stream: &TcpStream, dead_peer: Duration) -> io::Result<()> {
    let dead_peer = dead_peer.min(MAX);
    let keepalive = TcpKeepalive::new()
        .with_time((dead_peer / 2).max(SECOND))
        .with_interval((dead_peer / (2 * PROBES)).max(SECOND))
        .with_retries(PROBES);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// More than Linux accepts as the time before the first probe (32767 s) is as good as this.
const MAX: Duration = Duration::from_secs(32767);

#[cfg(target_os = "linux")]
fn user_timeout(stream: &TcpStream, dead_peer: Duration) -> io::Result<()> {
    SockRef::from(stream).set_tcp_user_timeout(Some(dead_peer.min(MAX)))
}

#[cfg(not(target_os = "linux"))]
fn user_timeout(_: &TcpStream, _: Duration) -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
