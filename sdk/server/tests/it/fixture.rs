//! A server with `BindingLayer` on loopback, and a client that controls which connection it uses.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::Extension;
use axum::routing::any;
use axum::{Json, Router};
use bowline_proof::dpop::Nonce;
use bowline_proof::{
    AccessToken, ExporterValue, PROOF_HEADER, Proof, ProofClaims, ProofKey, RequestClaims,
};
use bowline_server::{
    AcceptPolicy, Acceptor, BindingLayer, ClientAuth, Clock, ConnectionLimits, ExpectedClaims,
    Jwks, JwtValidator, Listener, ServeOptions, ServerTls, ServerTlsBuilder, VerifiedBinding,
    serve,
};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, SupportedProtocolVersion};
use rustls_pki_types::{ServerName, UnixTime};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::authority::{AUDIENCE, Authority, ISSUER, jwks};
use crate::pki::{Ca, Identity};

/// No test may depend on how long something takes; this only ends tests that hang.
pub(crate) const HANG: Duration = Duration::from_secs(60);

/// Certificates, an authorization server, and a clock that a test can advance.
pub(crate) struct Fixture {
    pub(crate) ca: Ca,
    pub(crate) agent: Identity,
    pub(crate) authority: Authority,
    pub(crate) clock: ManualClock,
}

/// Seconds by which it is ahead of the system's clock.
#[derive(Clone, Default)]
pub(crate) struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    pub(crate) fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }

    pub(crate) fn clock(&self) -> Clock {
        let ahead = self.0.clone();
        Clock::from_fn(move || {
            UnixTime::since_unix_epoch(Duration::from_secs(
                UnixTime::now().as_secs() + ahead.load(Ordering::SeqCst),
            ))
        })
    }
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let ca = Ca::new("fixture");
        Self {
            agent: ca.client("agent"),
            ca,
            authority: Authority::new("k1"),
            clock: ManualClock::default(),
        }
    }

    pub(crate) fn tls(&self) -> ServerTlsBuilder {
        self.tls_with(ClientAuth::Required(self.ca.roots().into()))
    }

    pub(crate) fn tls_with(&self, client_auth: ClientAuth) -> ServerTlsBuilder {
        let server = self.ca.server();
        let identity = bowline_server::Identity::from_pem(
            server.certificate_pem.as_bytes(),
            server.key.serialize_pem().as_bytes(),
        )
        .unwrap();
        ServerTls::builder(identity, client_auth).clock(self.clock.clock())
    }

    pub(crate) async fn listener(&self, tls: ServerTlsBuilder) -> Listener {
        self.listener_with(tls, ConnectionLimits::default()).await
    }

    pub(crate) async fn listener_with(
        &self,
        tls: ServerTlsBuilder,
        limits: ConnectionLimits,
    ) -> Listener {
        let acceptor = Acceptor::new(tls.build().unwrap()).handshake_timeout(HANG);
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Listener::with_limits(tcp, acceptor, limits).unwrap()
    }

    pub(crate) fn layer(&self) -> BindingLayer<JwtValidator> {
        let keys = Jwks::document(jwks(&[&self.authority])).unwrap();
        let validator =
            JwtValidator::builder(ExpectedClaims::new(AUDIENCE).issuer(ISSUER), keys).build();
        BindingLayer::new(validator)
            .policy(AcceptPolicy::RequireSession)
            .clock(self.clock.clock())
    }

    pub(crate) fn options(&self) -> ServeOptions {
        ServeOptions::default()
    }

    /// Serves with mutual TLS required.
    pub(crate) async fn start(&self) -> TestServer {
        let listener = self.listener(self.tls()).await;
        TestServer::start(
            listener,
            binding_report().layer(self.layer()),
            self.options(),
        )
    }

    /// A client with a session-bound token and a proof is served on a new connection.
    pub(crate) async fn assert_is_served(&self, server: &TestServer) {
        let (token, key) = (self.token(), self.agent.proof_key());
        let mut connection = HttpConnection::connect(server.addr, &self.client("h2")).await;
        let proof = connection.proof(&key, &token);
        connection.assert_passes(&token, &proof).await;
    }

    pub(crate) fn token(&self) -> AccessToken {
        self.authority.session_bound(&self.agent.thumbprint())
    }

    pub(crate) fn client(&self, alpn: &str) -> Arc<ClientConfig> {
        self.client_as(Some(&self.agent), alpn, rustls::ALL_VERSIONS)
    }

    pub(crate) fn client_as(
        &self,
        identity: Option<&Identity>,
        alpn: &str,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(self.ca.roots());
        let mut config = match identity {
            Some(identity) => builder
                .with_client_auth_cert(vec![identity.certificate.clone()], identity.private_key())
                .unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        Arc::new(config)
    }
}

/// Answers with the request's `VerifiedBinding`.
pub(crate) fn binding_report() -> Router {
    let answer = |binding: Option<Extension<VerifiedBinding>>| async move {
        Json(match binding {
            Some(Extension(binding)) => json!({
                "class": binding.class().name(),
                "resumed": binding.is_resumed(),
                "connection": binding.connection().to_string(),
            }),
            None => Value::Null,
        })
    };
    Router::new().route("/", any(answer))
}

/// A server in the background.
pub(crate) struct TestServer {
    pub(crate) addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl TestServer {
    pub(crate) fn start(listener: Listener, router: Router, options: ServeOptions) -> Self {
        let addr = listener.local_addr();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(serve(listener, router, options, async {
            let _ = stopped.await;
        }));
        Self {
            addr,
            stop: Some(stop),
            task,
        }
    }

    /// Asks the server to stop; the future completes when it has.
    pub(crate) fn stop(mut self) -> impl Future<Output = ()> {
        drop(self.stop.take());
        async move { within(self.task).await.unwrap() }
    }
}

/// One client connection.
pub(crate) struct HttpConnection {
    sender: Sender,
    pub(crate) exporter: ExporterValue,
    pub(crate) resumed: bool,
    /// Ends when the connection does.
    pub(crate) ended: JoinHandle<()>,
}

enum Sender {
    H1(http1::SendRequest<Empty<Bytes>>),
    H2(http2::SendRequest<Empty<Bytes>>),
}

pub(crate) async fn tls(
    addr: SocketAddr,
    config: &Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(addr).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from("localhost").unwrap();
    within(TlsConnector::from(config.clone()).connect(name, tcp)).await
}

impl HttpConnection {
    pub(crate) async fn connect(addr: SocketAddr, config: &Arc<ClientConfig>) -> Self {
        Self::over(tls(addr, config).await.unwrap()).await
    }

    pub(crate) async fn over(stream: TlsStream<TcpStream>) -> Self {
        let connection: &ClientConnection = stream.get_ref().1;
        let exporter = ExporterValue::derive(connection).unwrap();
        let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        let h2 = connection.alpn_protocol() == Some(b"h2");
        let io = TokioIo::new(stream);
        let (sender, ended) = if h2 {
            let (sender, driver) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
            (
                Sender::H2(sender),
                tokio::spawn(async { drop(driver.await) }),
            )
        } else {
            let (sender, driver) = http1::handshake(io).await.unwrap();
            (
                Sender::H1(sender),
                tokio::spawn(async { drop(driver.await) }),
            )
        };
        Self {
            sender,
            exporter,
            resumed,
            ended,
        }
    }

    /// A reusable proof for `token` on this connection.
    pub(crate) fn proof(&self, key: &ProofKey, token: &AccessToken) -> Proof {
        self.proof_at(key, token, UnixTime::now())
    }

    pub(crate) fn proof_at(
        &self,
        key: &ProofKey,
        token: &AccessToken,
        issued_at: UnixTime,
    ) -> Proof {
        let claims = ProofClaims {
            token: token.hash(),
            exporter: &self.exporter,
            issued_at,
            request: None,
        };
        key.mint(&claims).unwrap()
    }

    /// For one `GET` of this absolute URI.
    pub(crate) fn proof_for(&self, key: &ProofKey, token: &AccessToken, uri: &str) -> Proof {
        let request = RequestClaims::new(&Method::GET, &uri.parse().unwrap()).unwrap();
        let claims = ProofClaims {
            token: token.hash(),
            exporter: &self.exporter,
            issued_at: UnixTime::now(),
            request: Some(request),
        };
        key.mint(&claims).unwrap()
    }

    pub(crate) async fn get(
        &mut self,
        path: &str,
        token: &AccessToken,
        proof: Option<&Proof>,
    ) -> Answer {
        let mut request = Request::get(path).header("authorization", token.authorization());
        if let Some(proof) = proof {
            request = request.header(PROOF_HEADER, proof.header_value());
        }
        self.send(request.body(Empty::new()).unwrap())
            .await
            .unwrap()
    }

    /// `GET /` with this proof passes, the token session-bound.
    pub(crate) async fn assert_passes(&mut self, token: &AccessToken, proof: &Proof) {
        self.get("/", token, Some(proof))
            .await
            .assert_passed("session");
    }

    /// The layer refuses `GET /` by this check.
    pub(crate) async fn assert_refused(
        &mut self,
        token: &AccessToken,
        proof: Option<&Proof>,
        check: &str,
    ) {
        self.get("/", token, proof).await.assert_refused(check);
    }

    pub(crate) async fn send(
        &mut self,
        mut request: Request<Empty<Bytes>>,
    ) -> hyper::Result<Answer> {
        let response = match &mut self.sender {
            Sender::H1(sender) => {
                request
                    .headers_mut()
                    .insert("host", "localhost".parse().unwrap());
                within(sender.send_request(request)).await?
            }
            Sender::H2(sender) => {
                let uri = format!("https://localhost{}", request.uri());
                *request.uri_mut() = uri.parse().unwrap();
                within(sender.send_request(request)).await?
            }
        };
        Answer::read(response).await
    }
}

/// A response, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) challenge: Option<String>,
    pub(crate) nonce: Option<Nonce>,
    pub(crate) body: Value,
}

impl Answer {
    async fn read(response: Response<Incoming>) -> hyper::Result<Self> {
        let (parts, body) = response.into_parts();
        let body = within(body.collect()).await?.to_bytes();
        Ok(Self {
            status: parts.status,
            challenge: parts
                .headers
                .get("www-authenticate")
                .map(|value| value.to_str().unwrap().to_owned()),
            nonce: Nonce::from_response(&parts.headers),
            body: serde_json::from_slice(&body).unwrap_or_default(),
        })
    }

    pub(crate) fn assert_passed(&self, class: &str) {
        assert_eq!(
            (self.status, self.body["class"].as_str()),
            (StatusCode::OK, Some(class)),
            "{self:?}"
        );
    }

    /// The challenge names the check with this id.
    pub(crate) fn assert_refused(&self, id: &str) {
        let challenge = self.challenge.as_deref().unwrap_or_default();
        assert_eq!(self.status, StatusCode::UNAUTHORIZED, "{self:?}");
        assert!(
            challenge.contains(&format!("error_description=\"{id}: ")),
            "{self:?}"
        );
    }
}

pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(HANG, future).await.expect("hangs")
}

/// A temporary directory of one test, removed when it is dropped.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("bowline-server-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
