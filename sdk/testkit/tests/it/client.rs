//! A raw client: one TLS connection, one hyper sender.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Connects to `localhost` at `addr` and completes the TLS handshake.
pub(crate) async fn connect(
    config: &Arc<ClientConfig>,
    addr: SocketAddr,
) -> io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(addr).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::clone(config))
        .connect(name, tcp)
        .await
}

/// Waits for something that should happen at once; a test that waits in vain fails instead of
/// hanging.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), what)
        .await
        .expect("it happens within 30 s")
}

/// An HTTP client on one connection, in the protocol that ALPN chose.
pub(crate) struct Http {
    sender: Sender,
    connection: JoinHandle<hyper::Result<()>>,
}

enum Sender {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

impl Http {
    pub(crate) async fn connect(config: &Arc<ClientConfig>, addr: SocketAddr) -> Self {
        Self::over(connect(config, addr).await.unwrap()).await
    }

    pub(crate) async fn over(tls: TlsStream<TcpStream>) -> Self {
        let is_h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        let io = TokioIo::new(tls);
        if is_h2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
            let connection = tokio::spawn(connection);
            Self {
                sender: Sender::Two(sender),
                connection,
            }
        } else {
            let (sender, connection) = http1::handshake(io).await.unwrap();
            let connection = tokio::spawn(connection);
            Self {
                sender: Sender::One(sender),
                connection,
            }
        }
    }

    pub(crate) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<Response<Incoming>> {
        match &mut self.sender {
            Sender::One(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Sender::Two(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }

    /// Sends `GET` and reads the whole answer.
    pub(crate) async fn fetch(&mut self, path: &str) -> hyper::Result<Response<Bytes>> {
        soon(async {
            let (head, body) = self.send(get(path)).await?.into_parts();
            Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
        })
        .await
    }

    /// Waits until the connection is over, and says how it ended.
    pub(crate) async fn ended(self) -> hyper::Result<()> {
        // The sender lives on meanwhile: it is the peer that ends the connection.
        soon(self.connection).await.unwrap()
    }
}

pub(crate) fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(format!("https://localhost{path}"))
        .header("host", "localhost")
        .body(Full::default())
        .unwrap()
}
