//! Limits, time-outs and HTTP versions of a client.

use std::time::Duration;

/// Which HTTP versions are offered by ALPN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpVersions {
    /// HTTP/2 preferred, HTTP/1.1 accepted.
    #[default]
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only.
    Http2,
}

/// How many connections there may be and for how long they are kept, and of how many access tokens
/// something is kept.
///
/// Beyond a bound on tokens, a new one replaces another that is chosen at random. The least recently
/// used would be worse where more tokens than the bound take turns: each would be gone whenever it
/// comes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Connections to one origin with one identity. Default 64; a request beyond it waits
    /// ([`Timeouts::pool`](Timeouts::pool)).
    pub per_origin: usize,
    /// Connections in all. Default 512; beyond it an idle one makes room, and requests wait in
    /// order of arrival.
    pub in_all: usize,
    /// How long a connection may be idle. Default 90 s. A shorter `Keep-Alive: timeout` of the
    /// server counts.
    pub idle: Duration,
    /// How old a connection may become before it takes no more requests. Default: none.
    pub age: Option<Duration>,
    /// Access tokens of which a connection keeps the proof. Default 10,000; a token whose proof was
    /// replaced costs a signature when it comes again. About 1 KB each.
    pub proofs_per_connection: usize,
    /// Access tokens, and token sources, of which it is remembered for an origin that the server
    /// asked for a binding (CL-5), and that they were proved. Default 10,000; a token that was
    /// replaced and does not show what it demands costs another 401. About 100 bytes each.
    pub tokens_per_origin: usize,
    /// Access tokens that came in `Authorization` fields and are kept, so that they are not read and
    /// hashed again. Default 10,000, each with two copies of itself. They stay in memory until
    /// others replace them or the client is dropped.
    pub recent_tokens: usize,
    /// Whether a connection that is about to end is replaced before it does: by one that is opened
    /// ahead and, with [`ProofScope::Connection`](crate::ProofScope::Connection), has proofs for
    /// the tokens in use. Default: yes. See `docs/src/pool.md`.
    pub ahead: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            per_origin: 64,
            in_all: 512,
            idle: Duration::from_secs(90),
            age: None,
            proofs_per_connection: 10_000,
            tokens_per_origin: 10_000,
            recent_tokens: 10_000,
            ahead: true,
        }
    }
}

/// How long each step of a request's way may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeouts {
    /// Waiting for a connection, new or returned; and on it, until the request's head is written:
    /// an HTTP/2 server may allow no further streams. Default 30 s.
    pub pool: Duration,
    /// Resolving the name and connecting the socket. Default 10 s.
    pub connect: Duration,
    /// A proxy's answer to CONNECT. Default 10 s.
    pub proxy: Duration,
    /// A peer whose host acknowledges nothing, or takes nothing of what is to be sent: then the
    /// connection ends. Default 60 s, in whole seconds; on HTTP/1.1 and HTTP/2, to a proxy too. The
    /// kernel keeps the time: TCP keep-alive and, on Linux, `TCP_USER_TIMEOUT`; the end may come a
    /// few seconds later.
    pub dead_peer: Duration,
    /// The TLS handshake. Default 10 s.
    pub tls_handshake: Duration,
    /// Signing one proof. Default 30 s: a hand may have to touch a token.
    pub sign: Duration,
    /// While something of a request's body is ready, and the peer takes nothing of it. Default
    /// 60 s. A body whose own next part is not ready has all the time that it wants.
    pub request_body: Duration,
    /// From the written request to the response's head. Default none: a tool call may take its
    /// time.
    pub response: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            pool: Duration::from_secs(30),
            connect: Duration::from_secs(10),
            proxy: Duration::from_secs(10),
            dead_peer: Duration::from_secs(60),
            tls_handshake: Duration::from_secs(10),
            sign: Duration::from_secs(30),
            request_body: Duration::from_secs(60),
            response: None,
        }
    }
}
