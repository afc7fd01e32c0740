//! CONNECT (RFC 9110 §9.3.6): one request to the proxy, and the end of its response's head.
//!
//! hyper-util's `Tunnel` accepts the status 200 only and keeps no status in its error. Any 2xx
//! opens a tunnel; interim responses (1xx, RFC 9110 §15.2) may come before it. Nothing is sent
//! before the head of the 2xx response has ended, and nothing may come behind it: in TLS the client
//! speaks first.
//!
//! Upstream: no issue for the status; report 8 in `docs/src/upstream.md`. What it loses behind the
//! answer, TLS never sends: <https://github.com/hyperium/hyper/issues/4095>.

use std::io;

use http::{HeaderValue, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longer heads are refused.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// More interim responses than this are refused.
const MAX_INTERIM: usize = 16;

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
pub(super) enum TunnelError {
    #[error("it answered CONNECT with {status}{}", hint(*status))]
    Refused { status: StatusCode },
    #[error("it did not answer CONNECT in HTTP")]
    NotHttp,
    #[error("its answer to CONNECT has more than {MAX_HEAD_BYTES} bytes before it ends")]
    TooLong,
    #[error("it answered CONNECT with more than {MAX_INTERIM} interim responses")]
    TooManyInterim,
    #[error("it sent data before the TLS handshake")]
    EarlyData,
    #[error("it closed the connection before it answered CONNECT")]
    Closed,
    #[error("the connection to it broke")]
    Io(#[from] io::Error),
}

fn hint(status: StatusCode) -> &'static str {
    if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
        ": it wants a user and a password in its URL, or others"
    } else {
        ""
    }
}

/// Asks the proxy at the other end of `socket` to connect to `target`, `host:port`. Afterwards the
/// socket is the tunnel.
pub(super) async fn connect(
    socket: &mut (impl AsyncRead + AsyncWrite + Unpin),
    target: &str,
    authorization: Option<&HeaderValue>,
) -> Result<(), TunnelError> {
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
    if let Some(value) = authorization {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(value.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    socket.write_all(&request).await?;
    let mut received = Vec::new();
    for _ in 0..=MAX_INTERIM {
        let head = read_head(socket, &mut received).await?;
        let status = status(&received[..head])?;
        received.drain(..head);
        if status.is_success() {
            return if received.is_empty() {
                Ok(())
            } else {
                Err(TunnelError::EarlyData)
            };
        }
        // 101 changes the protocol, which was not asked for.
        if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(TunnelError::Refused { status });
        }
    }
    Err(TunnelError::TooManyInterim)
}

/// Reads on until `received` holds a whole head; its length.
async fn read_head(
    socket: &mut (impl AsyncRead + Unpin),
    received: &mut Vec<u8>,
) -> Result<usize, TunnelError> {
    loop {
        let length = head_length(received);
        if length.unwrap_or(received.len()) > MAX_HEAD_BYTES {
            return Err(TunnelError::TooLong);
        }
        if let Some(length) = length {
            return Ok(length);
        }
        if socket.read_buf(received).await? == 0 {
            return Err(if received.is_empty() {
                TunnelError::Closed
            } else {
                TunnelError::NotHttp
            });
        }
    }
}

/// The length of a head with its empty line. A recipient may take a single LF for a line end
/// (RFC 9112 §2.2).
fn head_length(received: &[u8]) -> Option<usize> {
    let mut ends = received
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'\n');
    ends.find_map(|(at, _)| match &received[at + 1..] {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

/// `HTTP/1.x SP 3DIGIT`, and what follows it on the line (RFC 9112 §4).
fn status(head: &[u8]) -> Result<StatusCode, TunnelError> {
    let read = || {
        let rest = head.strip_prefix(b"HTTP/1.")?;
        let [minor, b' ', a, b, c, after, ..] = rest else {
            return None;
        };
        let is_whole = minor.is_ascii_digit() && matches!(after, b' ' | b'\r' | b'\n');
        StatusCode::from_bytes(&[*a, *b, *c])
            .ok()
            .filter(|_| is_whole)
    };
    read().ok_or(TunnelError::NotHttp)
}

#[cfg(test)]
mod tests;
