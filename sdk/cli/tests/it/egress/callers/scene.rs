//! An egress whose listener ends TLS, and its callers.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bowline_testkit::pki::{KeyKind, Leaf, Pki};
use bowline_testkit::tls::{Alpn, TlsOptions};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::agents::{Service, World, authority};
use crate::egress::intercepted::{careful, read_head};
use crate::support::replace_file;

/// An egress on all addresses of this machine, and the authority of its callers.
pub(super) struct Scene {
    pub(super) world: World,
    pub(super) pki: Pki,
    pub(super) caller: Leaf,
    pub(super) origin: String,
    /// `HOST:PORT` of the origin.
    pub(super) host: String,
}

impl Scene {
    pub(super) fn new(name: &str) -> Self {
        Self::of(World::new(name))
    }

    pub(super) fn of(world: World) -> Self {
        let pki = Pki::foreign();
        let scene = Self {
            caller: pki.client("caller", KeyKind::P256),
            origin: world.server.origin(),
            host: authority(&world.server.origin()),
            world,
            pki,
        };
        scene.write_listener(&scene.pki.localhost());
        replace_file(&scene.world.file("callers.pem"), scene.pki.ca_pem());
        scene
    }

    pub(super) fn write_listener(&self, leaf: &Leaf) {
        replace_file(&self.world.file("listen-key.pem"), leaf.key_pem());
        replace_file(&self.world.file("listen.pem"), leaf.chain_pem());
    }

    /// With the three files.
    pub(super) fn command(&self, options: &[&str]) -> Command {
        let mut command = self.world.egress(options);
        command.env("BOWLINE_LOG_LEVEL", "info");
        for (option, name) in [
            ("--listen-cert", "listen.pem"),
            ("--listen-key", "listen-key.pem"),
            ("--listen-client-ca", "callers.pem"),
        ] {
            command.arg(option).arg(self.world.file(name));
        }
        command
    }

    pub(super) async fn start(&self, options: &[&str]) -> Service {
        self.start_command(&mut self.command(options)).await
    }

    pub(super) async fn start_command(&self, command: &mut Command) -> Service {
        Service::start(command.args(["--listen", "0.0.0.0:0"])).await
    }

    fn client(&self, leaf: Option<&Leaf>, alpn: Alpn) -> Arc<ClientConfig> {
        TlsOptions::alpn(alpn).client(&self.pki, leaf)
    }

    pub(super) async fn connect(
        &self,
        service: &Service,
        leaf: Option<&Leaf>,
        alpn: Alpn,
    ) -> io::Result<TlsStream<TcpStream>> {
        tls(
            TcpStream::connect(&service.address).await?,
            self.client(leaf, alpn),
        )
        .await
    }

    /// The whole answer to a request on a connection of its own.
    pub(super) async fn say(
        &self,
        service: &Service,
        leaf: Option<&Leaf>,
        request: &str,
    ) -> io::Result<String> {
        let mut stream = self.connect(service, leaf, Alpn::Http1).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    /// The head of the answer to a request for the origin, in absolute form.
    pub(super) async fn ask(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        path: &str,
    ) -> String {
        let (host, token) = (&self.host, self.world.token());
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("written");
        read_head(stream).await
    }

    /// `CONNECT`, and TLS inside of TLS.
    pub(super) async fn inside(
        &self,
        service: &Service,
        leaf: &Leaf,
    ) -> TlsStream<TlsStream<TcpStream>> {
        let stream = self.connect(service, Some(leaf), Alpn::Http1).await;
        let mut stream = stream.expect("a handshake");
        connect(&mut stream, &self.host).await;
        let root = careful(&self.world.file("authority/root.pem"));
        tls(stream, Arc::new(root)).await.expect("a handshake")
    }

    pub(super) fn intercept(&self) -> String {
        self.world.file("authority").display().to_string()
    }
}

async fn tls<IO>(io: IO, config: Arc<ClientConfig>) -> io::Result<TlsStream<IO>>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(config).connect(name, io).await
}

/// The head of the answer.
pub(super) async fn say_connect(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    target: &str,
) -> String {
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("written");
    read_head(stream).await
}

pub(super) async fn connect(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), target: &str) {
    let head = say_connect(stream, target).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
}

pub(super) fn status(answer: &str) -> &str {
    answer.get(9..12).unwrap_or(answer)
}

/// Returns when the other end has closed it, in whatever way. What comes before is thrown away.
pub(super) async fn closed(mut io: impl AsyncRead + Unpin) {
    let mut rest = Vec::new();
    // Shorter than any limit that would end it too.
    let guard = Duration::from_secs(40);
    let ended = tokio::time::timeout(guard, io.read_to_end(&mut rest)).await;
    let _ = ended.expect("it stays open");
}
