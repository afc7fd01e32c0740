//! A TLS server that speaks just enough HTTP/1.1 to be told what to do between two responses.

use std::net::SocketAddr;
use std::sync::Arc;

use bowline_client::AccessToken;
use bowline_proof::{Expected, ExporterValue, ProofVerifier, Targets, Windows};
use rustls_pki_types::UnixTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A listening socket and what TLS offers on it.
pub(crate) struct RawServer {
    tcp: TcpListener,
    tls: TlsAcceptor,
}

impl RawServer {
    pub(crate) async fn bind(config: Arc<rustls::ServerConfig>) -> Self {
        Self {
            tcp: TcpListener::bind("127.0.0.1:0")
                .await
                .expect("a loopback port"),
            tls: TlsAcceptor::from(config),
        }
    }

    pub(crate) fn origin(&self) -> String {
        let addr: SocketAddr = self.tcp.local_addr().expect("a bound socket");
        format!("https://localhost:{}", addr.port())
    }

    pub(crate) async fn accept(&self) -> RawConnection {
        let (tcp, _) = self.tcp.accept().await.expect("a client");
        let stream = self.tls.accept(tcp).await.expect("a handshake");
        RawConnection(stream)
    }
}

pub(crate) struct RawConnection(pub(crate) TlsStream<TcpStream>);

impl RawConnection {
    /// Reads a request without a body and gives its head back.
    pub(crate) async fn read(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.expect("a whole request head"));
        }
        String::from_utf8(head).expect("text")
    }

    pub(crate) async fn answer(&mut self) {
        let response = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok:";
        self.0.write_all(response).await.expect("a reader");
        self.0.flush().await.expect("a reader");
    }

    /// The proof in a request's head, once it was verified against *this* connection.
    pub(crate) fn verified_proof(&self, head: &str, token: &AccessToken) -> String {
        let proof = head
            .lines()
            .find_map(|line| line.strip_prefix("session-binding-proof: "))
            .expect("a proof");
        let (_, session) = self.0.get_ref();
        let certificate = &session.peer_certificates().expect("a client certificate")[0];
        let now = UnixTime::now();
        ProofVerifier::new(certificate)
            .expect("a usable certificate")
            .verify(
                proof.as_bytes(),
                &Expected {
                    exporter: &ExporterValue::derive(session).expect("a completed handshake"),
                    token: token.hash(),
                    now,
                    handshake_at: now,
                    method: &http::Method::GET,
                    path: "/",
                    targets: &Targets::default(),
                    windows: &Windows::default(),
                },
            )
            .expect("a good proof");
        proof.to_owned()
    }
}
