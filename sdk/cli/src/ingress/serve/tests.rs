//! Reloads and the end, on connections that stay open.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bowline::server::{AccessToken, ExporterValue};
use bowline_proof::{PROOF_HEADER, Proof, ProofClaims, ProofKey};
use bowline_testkit::authority::{Authority, AuthorityOptions, TokenRequest};
use bowline_testkit::net::{accept_loop, loopback};
use bowline_testkit::pki::{KeyKind, Leaf, Pki};
use bowline_testkit::tls::{Alpn, TlsOptions};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::arguments::Command;

const HANG: Duration = Duration::from_secs(40);

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(HANG, future).await.expect("hangs")
}

struct Scene {
    pki: Pki,
    agent: Leaf,
    authority: Authority,
    folder: PathBuf,
    upstream: SocketAddr,
    /// The service answers `/slow` once it is notified.
    release: Arc<Notify>,
    arrived: Arc<AtomicUsize>,
    _serving: Box<dyn std::any::Any>,
}

impl Scene {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("bowline-reload-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let (pki, agent) = Pki::with_agent();
        pki.write_to(&folder, &[]).unwrap();
        let authority = Authority::start(&pki, AuthorityOptions::default());
        let (release, arrived): (Arc<Notify>, Arc<AtomicUsize>) = Default::default();
        let listener = loopback();
        let upstream = listener.local_addr().unwrap();
        let (released, count) = (release.clone(), arrived.clone());
        let serving = accept_loop(listener, move |tcp| {
            let (released, count) = (released.clone(), count.clone());
            async move {
                let service = service_fn(move |request: Request<Incoming>| {
                    let released = released.clone();
                    count.fetch_add(1, Ordering::SeqCst);
                    async move {
                        if request.uri().path() == "/slow" {
                            released.notified().await;
                        }
                        let class = request.headers().get("session-binding-verified");
                        let class = class.map(|field| field.as_bytes().to_vec());
                        let body = Full::new(Bytes::from(class.unwrap_or_default()));
                        Ok::<_, std::convert::Infallible>(Response::new(body))
                    }
                });
                let http1 = hyper::server::conn::http1::Builder::new();
                let _ = http1.serve_connection(TokioIo::new(tcp), service).await;
            }
        });
        let scene = Self {
            pki,
            agent,
            authority,
            folder,
            upstream,
            release,
            arrived,
            _serving: Box::new(serving),
        };
        scene.write_server(&scene.pki.server(&["localhost"]));
        let jwks = scene.authority.jwks().to_string();
        std::fs::write(scene.folder.join("jwks.json"), jwks).unwrap();
        scene
    }

    fn write_server(&self, leaf: &Leaf) {
        let files = leaf.write_to(&self.folder).unwrap();
        std::fs::rename(files.certificate, self.folder.join("server.pem")).unwrap();
        std::fs::rename(files.key, self.folder.join("server.key")).unwrap();
    }

    fn options(&self, more: &[&str]) -> Options {
        let jwks = self.folder.join("jwks.json").display().to_string();
        self.options_with(&jwks, more)
    }

    fn options_with(&self, jwks: &str, more: &[&str]) -> Options {
        let file = |name| self.folder.join(name).display().to_string();
        let upstream = format!("http://{}", self.upstream);
        let (cert, key, ca) = (file("server.pem"), file("server.key"), file("ca.pem"));
        let all = [
            ["--listen", "127.0.0.1:0"],
            ["--cert", &cert],
            ["--key", &key],
            ["--client-ca", &ca],
            ["--upstream", &upstream],
            ["--jwks", jwks],
            ["--issuer", self.authority.issuer()],
            ["--audience", "https://resource.example"],
        ]
        .concat();
        let all = ["bowline", "ingress"].iter().chain(&all).chain(more);
        let arguments = crate::settings::read(all.map(Into::into)).unwrap();
        match arguments.command {
            Command::Ingress(options) => *options,
            other => panic!("{other:?}"),
        }
    }

    fn token(&self) -> AccessToken {
        let bound = TokenRequest::certificate_bound("agent", self.agent.thumbprint());
        AccessToken::new(self.authority.issue(&bound)).unwrap()
    }

    async fn tls(&self, running: &Running, identity: &Leaf) -> std::io::Result<Tls> {
        let ListenAt::Tcp(addr) = &running.listening else {
            panic!("a port");
        };
        self.tls_over(TcpStream::connect(addr).await?, identity)
            .await
    }

    async fn tls_over<S>(&self, stream: S, identity: &Leaf) -> std::io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = TlsOptions::alpn(Alpn::Http2).client(&self.pki, Some(identity));
        let name = ServerName::try_from("localhost").unwrap();
        within(TlsConnector::from(config).connect(name, stream)).await
    }

    async fn connect(&self, running: &Running) -> Client {
        Client::over(self.tls(running, &self.agent).await.unwrap()).await
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

type Tls = TlsStream<TcpStream>;

struct Client {
    sender: SendRequest<Empty<Bytes>>,
    exporter: ExporterValue,
    server: CertificateDer<'static>,
    ended: JoinHandle<()>,
}

impl Client {
    async fn over(stream: Tls) -> Self {
        let tls = stream.get_ref().1;
        let exporter = ExporterValue::derive(tls).unwrap();
        let server = tls.peer_certificates().unwrap()[0].clone().into_owned();
        let io = TokioIo::new(stream);
        let (sender, driver) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
        Self {
            sender,
            exporter,
            server,
            ended: tokio::spawn(async { drop(driver.await) }),
        }
    }

    fn request(&self, token: &AccessToken, proof: &Proof, path: &str) -> Request<Empty<Bytes>> {
        Request::get(format!("https://localhost{path}"))
            .header("authorization", token.authorization())
            .header(PROOF_HEADER, proof.header_value())
            .body(Empty::new())
            .unwrap()
    }

    async fn get(&mut self, token: &AccessToken, proof: &Proof) -> (StatusCode, String) {
        let request = self.request(token, proof, "/");
        let response = within(self.sender.send_request(request)).await.unwrap();
        let status = response.status();
        let challenge = response.headers().get("www-authenticate").cloned();
        let body = within(response.into_body().collect()).await.unwrap();
        let text = match challenge {
            Some(challenge) => challenge.to_str().unwrap().to_owned(),
            None => String::from_utf8(body.to_bytes().to_vec()).unwrap(),
        };
        (status, text)
    }
}

fn proof(leaf: &Leaf, token: &AccessToken, exporter: &ExporterValue) -> Proof {
    let key = ProofKey::new(leaf.certificate(), leaf.signing_key()).unwrap();
    let claims = ProofClaims {
        token: token.hash(),
        exporter,
        issued_at: UnixTime::now(),
        request: None,
    };
    key.mint(&claims).unwrap()
}

#[tokio::test]
async fn a_bad_proof_that_observe_let_pass_is_refused_on_the_same_connection_after_a_reload() {
    let scene = Scene::new();
    let running = Running::start(scene.options(&["--observe"])).await.unwrap();
    let mut client = scene.connect(&running).await;
    let token = scene.token();
    // Of another connection (T1).
    let other = scene.connect(&running).await;
    let stolen = proof(&scene.agent, &token, &other.exporter);
    for _ in 0..2 {
        let (status, verified) = client.get(&token, &stolen).await;
        assert_eq!((status, &*verified), (StatusCode::OK, ""));
    }
    running.reload(scene.options(&[])).await.unwrap();
    let (status, challenge) = client.get(&token, &stolen).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(challenge.contains("RS-6: "), "{challenge}");
    let own = proof(&scene.agent, &token, &client.exporter);
    let (status, verified) = client.get(&token, &own).await;
    assert_eq!(status, StatusCode::OK);
    assert!(verified.starts_with("class=session"), "{verified}");
}

#[tokio::test]
async fn what_cannot_be_used_leaves_all_as_it_was() {
    let scene = Scene::new();
    let running = Running::start(scene.options(&[])).await.unwrap();
    let mut client = scene.connect(&running).await;
    let token = scene.token();
    let own = proof(&scene.agent, &token, &client.exporter);
    let before = std::fs::read(scene.folder.join("server.pem")).unwrap();
    std::fs::write(scene.folder.join("server.pem"), "nonsense").unwrap();
    let failure = running.reload(scene.options(&["--observe"])).await;
    assert!(matches!(failure, Err(Failure::Usage(_))));
    std::fs::write(scene.folder.join("server.pem"), before).unwrap();
    let failure = running.reload(scene.options(&["--dpop-nonces"])).await;
    assert!(matches!(failure, Err(Failure::Usage(_))));
    assert_eq!(client.get(&token, &own).await.0, StatusCode::OK);
    let foreign = proof(
        &scene.agent,
        &token,
        &scene.connect(&running).await.exporter,
    );
    assert_eq!(
        client.get(&token, &foreign).await.0,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_connections_and_open_ones_stay() {
    let scene = Scene::new();
    let running = Running::start(scene.options(&[])).await.unwrap();
    let mut client = scene.connect(&running).await;
    let token = scene.token();
    let own = proof(&scene.agent, &token, &client.exporter);
    let newer = scene.pki.server(&["localhost"]);
    scene.write_server(&newer);
    running.reload(scene.options(&[])).await.unwrap();
    let next = scene.connect(&running).await;
    assert_eq!(next.server, *newer.certificate());
    assert_ne!(client.server, next.server);
    assert_eq!(client.get(&token, &own).await.0, StatusCode::OK);
}

#[tokio::test]
async fn rs_1_connections_of_a_withdrawn_authority_are_drained() {
    let scene = Scene::new();
    let running = Running::start(scene.options(&[])).await.unwrap();
    let mut client = scene.connect(&running).await;
    // Otherwise it would end because no request comes.
    let first = scene.token();
    let own = proof(&scene.agent, &first, &client.exporter);
    assert_eq!(client.get(&first, &own).await.0, StatusCode::OK);
    let other = Pki::new();
    let pem = format!("{}{}", scene.pki.ca_pem(), other.ca_pem());
    std::fs::write(scene.folder.join("ca.pem"), pem).unwrap();
    running.reload(scene.options(&[])).await.unwrap();
    let stranger = other.client("other", KeyKind::P256);
    let mut second = Client::over(scene.tls(&running, &stranger).await.unwrap()).await;
    let token = TokenRequest::certificate_bound("other", stranger.thumbprint());
    let token = AccessToken::new(scene.authority.issue(&token)).unwrap();
    let own = proof(&stranger, &token, &second.exporter);
    assert_eq!(second.get(&token, &own).await.0, StatusCode::OK);
    assert!(!client.ended.is_finished());

    std::fs::write(scene.folder.join("ca.pem"), other.ca_pem()).unwrap();
    running.reload(scene.options(&[])).await.unwrap();
    within(client.ended).await.unwrap();
    assert_eq!(second.get(&token, &own).await.0, StatusCode::OK);
}

#[tokio::test]
async fn keys_are_kept_where_nothing_of_them_has_changed_and_read_at_once_where_it_has() {
    let scene = Scene::new();
    let url = scene.authority.jwks_url();
    let roots = scene.folder.join("ca.pem").display().to_string();
    let options = |more: &[&str]| {
        let more = [&["--authority-ca", &roots], more].concat();
        scene.options_with(&url, &more)
    };
    let running = Running::start(options(&[])).await.unwrap();
    let mut client = scene.connect(&running).await;
    let token = scene.token();
    let own = proof(&scene.agent, &token, &client.exporter);
    assert_eq!(client.get(&token, &own).await.0, StatusCode::OK);
    running.reload(options(&["--observe"])).await.unwrap();
    assert_eq!(client.get(&token, &own).await.0, StatusCode::OK);
    assert_eq!(scene.authority.jwks_fetches(), 1);

    let running = Running::start(scene.options(&[])).await.unwrap();
    let mut client = scene.connect(&running).await;
    let own = proof(&scene.agent, &token, &client.exporter);
    assert_eq!(client.get(&token, &own).await.0, StatusCode::OK);
    scene.authority.rotate_key();
    let newer = scene.token();
    let jwks = scene.authority.jwks().to_string();
    std::fs::write(scene.folder.join("jwks.json"), jwks).unwrap();
    running.reload(scene.options(&[])).await.unwrap();
    let own = proof(&scene.agent, &newer, &client.exporter);
    assert_eq!(client.get(&newer, &own).await.0, StatusCode::OK);
}

#[tokio::test]
async fn it_ends_when_the_requests_in_flight_have_ended() {
    let scene = Scene::new();
    let running = Running::start(scene.options(&[])).await.unwrap();
    let ListenAt::Tcp(addr) = running.listening.clone() else {
        panic!("a port");
    };
    let mut client = scene.connect(&running).await;
    let token = scene.token();
    let own = proof(&scene.agent, &token, &client.exporter);
    let request = client.request(&token, &own, "/slow");
    let slow = tokio::spawn(client.sender.send_request(request));
    while scene.arrived.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    running.stop();
    let ended = tokio::spawn(running.finished());
    // The socket is closed, and the request is still served.
    let refused = async { while TcpStream::connect(addr).await.is_ok() {} };
    within(refused).await;
    assert!(!ended.is_finished());
    scene.release.notify_one();
    let response = within(slow).await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    drop(response);
    within(ended).await.unwrap();
}

#[tokio::test]
async fn what_waits_in_the_queue_of_a_unix_socket_gets_its_handshake_at_the_end() {
    let scene = Scene::new();
    let path = scene.folder.join("listen.sock");
    let mut options = scene.options(&["--external-origin", "https://localhost"]);
    options.listen = ListenAt::Unix(path.clone());
    let running = Running::start(options).await.unwrap();
    // One thread: nothing is accepted before the first `await`.
    let mut peers = Vec::new();
    for _ in 0..3 {
        let peer = std::os::unix::net::UnixStream::connect(&path).unwrap();
        peer.set_nonblocking(true).unwrap();
        peers.push(UnixStream::from_std(peer).unwrap());
    }
    running.stop();
    let ended = tokio::spawn(running.finished());
    for peer in peers {
        scene.tls_over(peer, &scene.agent).await.unwrap();
    }
    within(ended).await.unwrap();
}
