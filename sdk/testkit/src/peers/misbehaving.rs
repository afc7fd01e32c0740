//! Peers that break the rules: each has one [`Misbehaviour`].

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::h2_wire::H2Wire;
use crate::net::{OwnedTask, accept_loop, origin};
use crate::pki::Pki;
use crate::task::until;
use crate::tls::{Alpn, ClientAuth, TlsOptions};

/// What a [`MisbehavingPeer`] does wrong, on every connection alike.
///
/// Unless stated otherwise, the peer then keeps the connection open, reads and discards what the
/// client sends, and sends nothing until the client closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misbehaviour {
    /// Accepts the TCP connection and never starts the handshake.
    SilentTcp,
    /// Sends the first half of its ServerHello, then ends the TCP stream.
    TruncatedHandshake,
    /// Completes the handshake and never answers.
    SilentAfterHandshake,
    /// Completes the handshake and reads nothing from then on, so that a large request backs up.
    /// Its connections are never counted as closed, because it does not read their end.
    NeverReads,
    /// Waits for the first bytes of a request, then answers with bytes that are neither HTTP/1.1
    /// nor an HTTP/2 frame.
    Garbage,
    /// Answers a request with the head of a `200` response that announces a body, which never
    /// comes.
    SilentAfterHeaders,
    /// Answers a request with `200` and announces a body of 1,000 bytes, sends
    /// [`CUT_AFTER`](Self::CUT_AFTER) of them, then ends the TCP stream without `close_notify`.
    CutMidBody,
    /// HTTP/2: answers `after` requests with an empty `200`, then sends GOAWAY with the last of
    /// their stream ids (0 when `after` is 0, at once) and answers no other request.
    Goaway {
        /// How many requests are answered first.
        after: u32,
    },
}

impl Misbehaviour {
    /// How much of the body [`CutMidBody`](Self::CutMidBody) sends, in bytes.
    pub const CUT_AFTER: usize = 100;

    /// The protocol that this misbehaviour is about.
    fn usual_alpn(self) -> Alpn {
        match self {
            Self::Goaway { .. } => Alpn::Http2,
            Self::SilentAfterHeaders | Self::CutMidBody => Alpn::Http1,
            _ => Alpn::Both,
        }
    }
}

/// A TLS server on a loopback port of its own that misbehaves. Dropping it cuts its connections.
///
/// Its certificate is for `localhost` and the loopback addresses; it asks for a client
/// certificate and goes on without.
#[derive(Debug)]
pub struct MisbehavingPeer {
    addr: SocketAddr,
    counts: Arc<watch::Sender<PeerCounts>>,
    _accepting: OwnedTask,
}

impl MisbehavingPeer {
    /// Starts a peer that speaks the protocol that `misbehaviour` is about:
    /// HTTP/1.1 for [`SilentAfterHeaders`](Misbehaviour::SilentAfterHeaders) and
    /// [`CutMidBody`](Misbehaviour::CutMidBody), HTTP/2 for [`Goaway`](Misbehaviour::Goaway), the
    /// client's choice for the others.
    ///
    /// # Panics
    /// If no loopback port can be bound, or outside a tokio runtime.
    #[must_use]
    pub fn start(pki: &Pki, misbehaviour: Misbehaviour) -> Self {
        Self::start_alpn(pki, misbehaviour, misbehaviour.usual_alpn())
    }

    /// Starts a peer with another ALPN offer: every misbehaviour but
    /// [`Goaway`](Misbehaviour::Goaway) works in both protocols.
    ///
    /// # Panics
    /// As [`MisbehavingPeer::start`], and for `Goaway` without HTTP/2.
    #[must_use]
    pub fn start_alpn(pki: &Pki, misbehaviour: Misbehaviour, alpn: Alpn) -> Self {
        let needs_h2 = matches!(misbehaviour, Misbehaviour::Goaway { .. });
        assert!(!needs_h2 || alpn == Alpn::Http2, "GOAWAY is HTTP/2 only");
        let tls = TlsOptions::alpn(alpn).server(pki, &pki.localhost(), ClientAuth::Optional);
        let script = Script { misbehaviour, tls };
        let socket = TcpSocket::new_v4().expect("a TCP socket");
        if misbehaviour == Misbehaviour::NeverReads {
            // Accepted sockets inherit it: the kernel buffers little before the writer has to wait.
            socket
                .set_recv_buffer_size(4096)
                .expect("a smaller receive buffer");
        }
        socket
            .bind((Ipv4Addr::LOCALHOST, 0).into())
            .expect("a loopback port");
        let listener = socket.listen(1024).expect("a listening socket");
        let addr = listener.local_addr().expect("a bound socket's address");

        let counts = Arc::new(watch::Sender::new(PeerCounts::default()));
        let counted = Arc::clone(&counts);
        let accepting = accept_loop(listener, move |tcp| {
            counted.send_modify(|counts| counts.accepted += 1);
            let (script, counted) = (script.clone(), Arc::clone(&counted));
            async move {
                if let Err(error) = script.play(tcp).await {
                    tracing::debug!(%error, "a misbehaving peer's connection failed");
                }
                counted.send_modify(|counts| counts.closed += 1);
            }
        });
        Self {
            addr,
            counts,
            _accepting: accepting,
        }
    }

    address_methods!("https://localhost:<port>", origin);

    /// The counts so far.
    #[must_use]
    pub fn counts(&self) -> PeerCounts {
        *self.counts.borrow()
    }

    /// Waits until at least `n` connections have been accepted.
    ///
    /// # Panics
    /// After 30 s.
    pub async fn accepted(&self, n: u64) {
        until(&self.counts, "accepted connections", |c| c.accepted >= n).await;
    }

    /// Waits until at least `n` connections are over.
    ///
    /// # Panics
    /// After 30 s.
    pub async fn closed(&self, n: u64) {
        until(&self.counts, "closed connections", |c| c.closed >= n).await;
    }
}

/// The connections of a [`MisbehavingPeer`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerCounts {
    /// TCP connections accepted.
    pub accepted: u64,
    /// Connections that are over: the client closed them, or the handshake failed.
    pub closed: u64,
}

#[derive(Clone)]
struct Script {
    misbehaviour: Misbehaviour,
    tls: Arc<ServerConfig>,
}

impl Script {
    async fn play(self, tcp: TcpStream) -> io::Result<()> {
        match self.misbehaviour {
            Misbehaviour::SilentTcp => drain(tcp).await,
            Misbehaviour::TruncatedHandshake => truncated_handshake(tcp, self.tls).await,
            Misbehaviour::SilentAfterHandshake => drain(self.handshake(tcp).await?).await,
            Misbehaviour::NeverReads => {
                let _open = self.handshake(tcp).await?;
                std::future::pending().await
            }
            Misbehaviour::Garbage => garbage(self.handshake(tcp).await?).await,
            Misbehaviour::SilentAfterHeaders => {
                drain(partial_response(self.handshake(tcp).await?, 0).await?).await
            }
            Misbehaviour::CutMidBody => {
                let tls =
                    partial_response(self.handshake(tcp).await?, Misbehaviour::CUT_AFTER).await?;
                let (tcp, _) = tls.into_inner();
                end_and_drain(tcp).await
            }
            Misbehaviour::Goaway { after } => goaway(self.handshake(tcp).await?, after).await,
        }
    }

    async fn handshake(self, tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        TlsAcceptor::from(self.tls).accept(tcp).await
    }
}

async fn truncated_handshake(mut tcp: TcpStream, config: Arc<ServerConfig>) -> io::Result<()> {
    let mut tls = rustls::ServerConnection::new(config).map_err(io::Error::other)?;
    let mut bytes = [0; 4096];
    while !tls.wants_write() {
        let read = tcp.read(&mut bytes).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut rest = &bytes[..read];
        while !rest.is_empty() {
            tls.read_tls(&mut rest)?;
            tls.process_new_packets().map_err(io::Error::other)?;
        }
    }
    let mut flight = Vec::new();
    tls.write_tls(&mut flight)?;
    // The first record holds the ServerHello: a record header of 5 bytes ends with its length.
    let length = usize::from(u16::from_be_bytes([flight[3], flight[4]]));
    tcp.write_all(&flight[..5 + length / 2]).await?;
    end_and_drain(tcp).await
}

async fn garbage(mut tls: TlsStream<TcpStream>) -> io::Result<()> {
    tls.read_u8().await?;
    // As an HTTP/2 frame this is longer than the client allows; and it is not an HTTP/1.1 status
    // line.
    tls.write_all(&[0xff; 64]).await?;
    tls.flush().await?;
    drain(tls).await
}

/// Answers the first request with a head that announces 1,000 bytes, and `bytes` of them.
async fn partial_response(
    mut tls: TlsStream<TcpStream>,
    bytes: usize,
) -> io::Result<TlsStream<TcpStream>> {
    let body = vec![b'x'; bytes];
    if is_h2(&tls) {
        let mut wire = H2Wire::accept(tls).await?;
        let stream = wire.request().await?;
        wire.answer(stream, true).await?;
        if !body.is_empty() {
            wire.part_of_body(stream, &body).await?;
        }
        return Ok(wire.into_inner());
    }
    read_head(&mut tls).await?;
    tls.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        .await?;
    tls.write_all(&body).await?;
    tls.flush().await?;
    Ok(tls)
}

async fn goaway(tls: TlsStream<TcpStream>, after: u32) -> io::Result<()> {
    let mut wire = H2Wire::accept(tls).await?;
    let mut last_stream = 0;
    for _ in 0..after {
        last_stream = wire.request().await?;
        wire.answer(last_stream, false).await?;
    }
    wire.goaway(last_stream).await?;
    drain(wire.into_inner()).await
}

fn is_h2(tls: &TlsStream<TcpStream>) -> bool {
    tls.get_ref().1.alpn_protocol() == Some(b"h2")
}

/// Reads to the end of an HTTP/1.1 request's head, and perhaps some of its body.
async fn read_head(tls: &mut TlsStream<TcpStream>) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        if tls.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// Ends the sending direction of TCP, and reads what the client still sends: closing a socket with
/// unread bytes would send RST, and the client could lose what it has not read yet.
async fn end_and_drain(mut tcp: TcpStream) -> io::Result<()> {
    tcp.shutdown().await?;
    drain(tcp).await
}

async fn drain(mut io: impl AsyncRead + Unpin) -> io::Result<()> {
    tokio::io::copy(&mut io, &mut tokio::io::sink())
        .await
        .map(drop)
}
