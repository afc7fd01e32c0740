//! A server under abusive peers, with an honest client that must be served meanwhile.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bowline_proof::dpop::{self, DPOP_HEADER, DpopKey};
use bowline_proof::{
    AccessToken, EXPORTER_LABEL, PROOF_HEADER, ProofClaims, ProofKey, RequestClaims, Scheme,
    Windows,
};
use bowline_server::{
    AcceptPolicy, Acceptor, BindingLayer, Dpop, ExpectedClaims, Jwks, JwtValidator, Listener,
    MemoryReplayStore, ServerEvent,
};
use futures_util::future::join_all;
use http::{Method, Request, StatusCode};
use http_body_util::Empty;
use rustls::ClientConfig;
use rustls_pki_types::{ServerName, UnixTime};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::authority::{AUDIENCE, Authority, ISSUER, jwks};
use crate::fixture::{Fixture, HttpConnection, TestServer, binding_report, tls};

const ORIGIN: &str = "https://api.example.com";

/// The server's events, counted.
#[derive(Default)]
pub(crate) struct EventCounts {
    opened: AtomicU64,
    closed: AtomicU64,
    failed: AtomicU64,
}

impl EventCounts {
    fn note(&self, event: &ServerEvent) {
        let counter = match event {
            ServerEvent::ConnectionOpened { .. } => &self.opened,
            ServerEvent::ConnectionClosed { .. } => &self.closed,
            ServerEvent::HandshakeFailed { .. } => &self.failed,
            _ => return,
        };
        counter.fetch_add(1, Ordering::SeqCst);
    }

    /// Connection attempts that have ended.
    fn over(&self) -> u64 {
        self.closed.load(Ordering::SeqCst) + self.failed.load(Ordering::SeqCst)
    }
}

/// A server that accepts session-bound and DPoP-bound tokens, with room for this many used DPoP
/// proofs.
pub(crate) async fn start(fixture: &Fixture, dpop_bound: usize) -> (TestServer, Arc<EventCounts>) {
    let keys = Jwks::document(jwks(&[&fixture.authority])).unwrap();
    // Used DPoP proofs are stored for as long as they would be accepted: longer than this runs.
    let mut windows = Windows::default();
    windows.past = Duration::from_secs(24 * 60 * 60);
    let layer = BindingLayer::new(
        JwtValidator::builder(ExpectedClaims::new(AUDIENCE).issuer(ISSUER), keys).build(),
    )
    .origins([ORIGIN.parse().unwrap()])
    .dpop(Dpop::new(MemoryReplayStore::new(dpop_bound)))
    .windows(windows)
    .policy(AcceptPolicy::Follow);
    let seen = Arc::new(EventCounts::default());
    let log = seen.clone();
    let acceptor = Acceptor::new(fixture.tls().build().unwrap())
        .observer(move |event: &ServerEvent| log.note(event));
    let listener = Listener::bind("127.0.0.1:0", acceptor).await.unwrap();
    (
        TestServer::start(listener, binding_report().layer(layer), fixture.options()),
        seen,
    )
}

/// The pause between two rounds. Without it the honest client alone would keep a processor busy
/// with handshakes.
const REST: Duration = Duration::from_millis(50);

/// A client that opens a connection, sends three requests, closes it, and starts again.
pub(crate) struct HonestClient {
    served: Arc<AtomicU64>,
    slowest: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl HonestClient {
    pub(crate) fn start(fixture: &Fixture, addr: SocketAddr) -> Self {
        let (served, slowest, stop) = (
            Arc::<AtomicU64>::default(),
            Arc::<AtomicU64>::default(),
            Arc::<AtomicBool>::default(),
        );
        let (config, token, key) = (
            fixture.client("h2"),
            fixture.token(),
            fixture.agent.proof_key(),
        );
        let (count, longest, stopped) = (served.clone(), slowest.clone(), stop.clone());
        let task = tokio::spawn(async move {
            while !stopped.load(Ordering::SeqCst) {
                let begun = Instant::now();
                let mut connection = HttpConnection::connect(addr, &config).await;
                let proof = connection.proof(&key, &token);
                for _ in 0..3 {
                    connection.assert_passes(&token, &proof).await;
                }
                count.fetch_add(1, Ordering::SeqCst);
                longest.fetch_max(begun.elapsed().as_millis() as u64, Ordering::SeqCst);
                tokio::time::sleep(REST).await;
            }
        });
        Self {
            served,
            slowest,
            stop,
            task,
        }
    }

    /// Completes when the client has been served this many more times.
    pub(crate) async fn is_served(&self, times: u64) {
        let enough = self.served.load(Ordering::SeqCst) + times;
        while self.served.load(Ordering::SeqCst) < enough {
            assert!(!self.task.is_finished(), "the honest client was refused");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The slowest round, in milliseconds, since the last call.
    pub(crate) fn slowest(&self) -> u64 {
        self.slowest.swap(0, Ordering::SeqCst)
    }

    /// Panics if the client was ever refused.
    pub(crate) async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.unwrap();
        self.served.load(Ordering::SeqCst)
    }
}

/// Peers that occupy connections and send no request. Dropping this closes them.
pub(crate) struct AbusivePeers {
    pub(crate) streams: Vec<TcpStream>,
    pub(crate) connections: Vec<TlsStream<TcpStream>>,
    drips: JoinSet<()>,
}

/// How they do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Abuse {
    /// Connect and send nothing.
    Silent,
    /// Send a `ClientHello`, one byte a second.
    Slow,
    /// Complete the handshake and send no request.
    Idle,
    /// The same from another address, and take it if they are turned away. The crowd.
    Stranger,
    /// The same, and open an event stream each.
    Stream,
}

impl Abuse {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Slow => "slow",
            Self::Idle => "idle",
            Self::Stranger => "stranger",
            Self::Stream => "stream",
        }
    }

    pub(crate) async fn begin(
        self,
        number: usize,
        addr: SocketAddr,
        client: &Arc<ClientConfig>,
    ) -> AbusivePeers {
        let mut peers = AbusivePeers {
            streams: Vec::new(),
            connections: Vec::new(),
            drips: JoinSet::new(),
        };
        for _ in 0..number {
            match self {
                Self::Silent => peers.streams.push(TcpStream::connect(addr).await.unwrap()),
                Self::Slow => {
                    let stream = TcpStream::connect(addr).await.unwrap();
                    peers.drips.spawn(drip(stream));
                }
                Self::Idle => peers.connections.push(tls(addr, client).await.unwrap()),
                Self::Stranger => peers
                    .connections
                    .extend(from_elsewhere(addr, client).await.ok()),
                Self::Stream => {
                    if let Ok(mut stream) = from_elsewhere(addr, client).await
                        && open_stream(&mut stream).await.is_ok()
                    {
                        peers.connections.push(stream);
                    }
                }
            }
        }
        peers
    }
}

/// A connection from another loopback address than everybody else's.
async fn from_elsewhere(
    addr: SocketAddr,
    client: &Arc<ClientConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::new(127, 0, 0, 2), 0).into())?;
    let tcp = socket.connect(addr).await?;
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(client.clone()).connect(name, tcp).await
}

async fn open_stream(stream: &mut TlsStream<TcpStream>) -> io::Result<()> {
    stream
        .write_all(b"GET /stream HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await?;
    let mut status = [0; 15];
    stream.read_exact(&mut status).await?;
    assert_eq!(&status, b"HTTP/1.1 200 OK");
    Ok(())
}

/// Sends the first bytes of a `ClientHello` of 512 bytes, and then zeros one by one, for as long as
/// the server reads.
async fn drip(mut stream: TcpStream) {
    let mut next: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    while stream.write_all(next).await.is_ok() {
        tokio::time::sleep(Duration::from_secs(1)).await;
        next = b"\0";
    }
}

/// Completes when the server has counted `number` more ended attempts than `before`.
pub(crate) async fn all_over(seen: &EventCounts, before: u64, number: usize) {
    while seen.over() < before + number as u64 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn over(seen: &EventCounts) -> u64 {
    seen.over()
}

/// Requests at a time, each on a connection of its own.
const CONNECTIONS: usize = 16;

/// Sends `number` distinct tokens, each with its proof. The connections stay open until
/// `while_open` has been called.
pub(crate) async fn distinct_tokens(
    fixture: &Fixture,
    addr: SocketAddr,
    number: usize,
    while_open: impl FnOnce(),
) {
    let key = &fixture.agent.proof_key();
    let send = async |index: usize| {
        let mut connection = HttpConnection::connect(addr, &fixture.client("h2")).await;
        for index in (index..number).step_by(CONNECTIONS) {
            let mut claims = Authority::claims();
            claims["cnf"] =
                json!({ "x5t#S256": fixture.agent.thumbprint(), "tls_exp": EXPORTER_LABEL });
            claims["jti"] = index.to_string().into();
            let token = fixture.authority.sign(&fixture.authority.header(), &claims);
            let proof = connection.proof(key, &token);
            connection.assert_passes(&token, &proof).await;
        }
        connection
    };
    let connections = join_all((0..CONNECTIONS).map(send)).await;
    while_open();
    drop(connections);
}

/// Sends `number` request-bound proofs, on as many connections as are needed to stay below each
/// one's quota.
pub(crate) async fn distinct_jti(
    fixture: &Fixture,
    addr: SocketAddr,
    number: usize,
    while_open: impl Fn(),
) {
    const PER_CONNECTION: usize = 8_000;
    let (token, key) = (&fixture.token(), &fixture.agent.proof_key());
    let send = async |index: usize| {
        let mut left = (index..number).step_by(CONNECTIONS).len();
        while left > 0 {
            let mut connection = HttpConnection::connect(addr, &fixture.client("h2")).await;
            for _ in 0..left.min(PER_CONNECTION) {
                let proof = per_request(&connection, key, token);
                let request = Request::get("/")
                    .header("authorization", token.authorization())
                    .header(PROOF_HEADER, proof.header_value());
                let answer = connection
                    .send(request.body(Empty::new()).unwrap())
                    .await
                    .unwrap();
                answer.assert_passed("session");
            }
            left -= left.min(PER_CONNECTION);
            while_open();
        }
    };
    join_all((0..CONNECTIONS).map(send)).await;
}

fn per_request(
    connection: &HttpConnection,
    key: &ProofKey,
    token: &AccessToken,
) -> bowline_proof::Proof {
    let claims = ProofClaims {
        token: token.hash(),
        exporter: &connection.exporter,
        issued_at: UnixTime::now(),
        request: Some(
            RequestClaims::new(&Method::GET, &format!("{ORIGIN}/").parse().unwrap()).unwrap(),
        ),
    };
    key.mint(&claims).unwrap()
}

/// Sends more DPoP proofs of one owner than the server's store holds: four fifths of what it holds
/// pass, the others are answered 503, and no other request fails.
pub(crate) async fn distinct_dpop_jti(fixture: &Fixture, addr: SocketAddr, bound: usize) {
    let key = &DpopKey::generate().unwrap();
    let mut claims = Authority::claims();
    claims["cnf"] = json!({ "jkt": key.thumbprint().to_string() });
    let token = &fixture
        .authority
        .sign(&fixture.authority.header(), &claims)
        .with_scheme(Scheme::Dpop);
    let send = async |number: usize| {
        let mut connection = HttpConnection::connect(addr, &fixture.client("h2")).await;
        let mut passed = 0;
        for _ in 0..number {
            let request =
                RequestClaims::new(&Method::GET, &format!("{ORIGIN}/").parse().unwrap()).unwrap();
            let claims = dpop::Claims {
                request: &request,
                issued_at: UnixTime::now(),
                token: Some(token.hash()),
                nonce: None,
            };
            let proof = key.mint(&claims).unwrap();
            let request = Request::get("/")
                .header("authorization", token.authorization())
                .header(DPOP_HEADER, proof.header_value());
            let answer = connection
                .send(request.body(Empty::new()).unwrap())
                .await
                .unwrap();
            match answer.status {
                StatusCode::SERVICE_UNAVAILABLE => {}
                _ => {
                    answer.assert_passed("dpop");
                    passed += 1;
                }
            }
        }
        passed
    };
    let each = bound.div_ceil(CONNECTIONS) + 10;
    let passed = join_all((0..CONNECTIONS).map(|_| send(each))).await;
    assert_eq!(
        passed.into_iter().sum::<usize>(),
        bound - bound / 5,
        "of {} proofs",
        each * CONNECTIONS
    );
}

/// Raises this process's limit of open files to `number`.
pub(crate) fn need_files(number: u64) {
    let allowed = rlimit::increase_nofile_limit(number).unwrap_or_default();
    assert!(
        allowed >= number,
        "this needs {number} file descriptors, and {allowed} are allowed: see `ulimit -Hn`"
    );
}

/// Resident memory of this process in KiB, if the system reports it (Linux).
pub(crate) fn resident_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}
