//! Bounds under load: `cargo bench -p bowline-server --bench load`.
//!
//! 10,000 silent connections, 2,000 handshakes at one byte a second, 2,000 TLS connections without
//! a request, 100,000 distinct tokens, 1,000,000 distinct `jti` in session-binding proofs and as
//! many in DPoP proofs; and meanwhile an honest client that opens a connection, sends three
//! requests and closes it, again and again. It ends with an error if that client is ever refused.
//! Then, each at a server with 10,000 places of its own and beside 50 clients with a connection each,
//! which must lose nothing: 500 clients of one identity that arrive at once, 10,000 idle connections
//! without a certificate, and 10,000 with one and an open event stream each. Last, at a server that
//! introspects tokens: 100,000 made-up ones in requests that are reset, without and with a proof, and
//! how many questions reached the authorization server.
//!
//! Printed for each phase: resident memory of the server's process and the honest client's slowest
//! round. The abusive peers run in a process of their own; the clients that send tokens and proofs
//! run in the server's.
//!
//! It takes minutes, and 12,000 file descriptors in each process: it raises its limit within
//! `ulimit -Hn`. `BOWLINE_LOAD_SHARE=10` runs a tenth, `BOWLINE_LOAD_ONLY=made_up` the made-up tokens alone.

#![allow(clippy::print_stdout, reason = "it is what a bench is for")]

#[allow(dead_code)]
#[path = "../../tests/it/authority.rs"]
mod authority;
#[path = "../../tests/load/crowd.rs"]
mod crowd;
#[allow(dead_code)]
#[path = "../../tests/it/fixture.rs"]
mod fixture;
#[allow(dead_code)]
#[path = "../../tests/load/made_up.rs"]
mod made_up;
#[allow(dead_code)]
#[path = "../../tests/it/pki.rs"]
mod pki;
#[path = "../../tests/load/scenario.rs"]
#[allow(dead_code)]
mod scenario;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bowline_server::{AcceptPolicy, Limit};
use crowd::Regulars;
use fixture::{Fixture, Folder};
use made_up::Asking;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use scenario::{Abuse, HonestClient, all_over, over, resident_kib};

const KINDS: [(Abuse, usize); 3] = [
    (Abuse::Silent, 10_000),
    (Abuse::Slow, 2_000),
    (Abuse::Idle, 2_000),
];

/// Beside regular clients, at a server with this many places.
const CROWDS: [Abuse; 2] = [Abuse::Stranger, Abuse::Stream];
const PLACES: usize = 10_000;
const REGULARS: usize = 50;
const AT_ONCE: usize = 500;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    scenario::need_files(12_000);
    match std::env::var("BOWLINE_LOAD_ROLE") {
        Ok(role) => runtime.block_on(hold_connections(&role)),
        Err(_) => runtime.block_on(run()),
    }
}

async fn run() {
    let share: usize =
        std::env::var("BOWLINE_LOAD_SHARE").map_or(1, |share| share.parse().expect("a number"));
    let fixture = Fixture::new();
    if std::env::var("BOWLINE_LOAD_ONLY").is_ok_and(|only| only == "made_up") {
        let mut report = Report::default();
        made_up_tokens(&fixture, share, &mut report).await;
        return report.write();
    }
    let folder = Folder::new("load");
    folder.write("ca.pem", fixture.ca.pem());
    folder.write("agent.pem", &fixture.agent.certificate_pem);
    folder.write("agent.key", fixture.agent.key.serialize_pem());
    let dpop_bound = 1_000_000 / share;
    let (server, seen) = scenario::start(&fixture, dpop_bound).await;
    let honest = HonestClient::start(&fixture, server.addr);
    honest.is_served(10).await;
    let mut report = Report::default();
    report.phase("start", &honest);
    for (kind, number) in KINDS {
        let number = number / share;
        let before = over(&seen);
        let mut child = PeerProcess::start(kind, number, server.addr, &folder);
        // The time during which they connect is part of the phase.
        while !child.is_ready() {
            honest.is_served(1).await;
        }
        honest.is_served(20).await;
        report.phase(kind.name(), &honest);
        child.end();
        all_over(&seen, before, number).await;
        honest.is_served(1).await;
        report.phase(&format!("after_{}", kind.name()), &honest);
    }
    scenario::distinct_tokens(&fixture, server.addr, 100_000 / share, || {
        report.phase("tokens", &honest)
    })
    .await;
    let jti = Mutex::new(&mut report);
    scenario::distinct_jti(&fixture, server.addr, 1_000_000 / share, || {
        jti.lock().unwrap().keep("jti", &honest);
    })
    .await;
    scenario::distinct_dpop_jti(&fixture, server.addr, dpop_bound).await;
    report.phase("dpop_jti", &honest);
    honest.is_served(10).await;
    report.figure("honest_served", honest.stop().await);
    server.stop().await;
    crowds(&fixture, &folder, share, &mut report).await;
    made_up_tokens(&fixture, share, &mut report).await;
    report.write();
}

async fn crowds(fixture: &Fixture, folder: &Folder, share: usize, report: &mut Report) {
    let thief = fixture.ca.client("thief");
    folder.write("thief.pem", &thief.certificate_pem);
    folder.write("thief.key", thief.key.serialize_pem());
    for kind in CROWDS {
        let (server, reached) = crowd::start(fixture, PLACES / share).await;
        let regulars = Regulars::start(fixture, server.addr, REGULARS / share.min(10)).await;
        crowd::arrive_at_once(fixture, server.addr, AT_ONCE / share).await;
        regulars.are_served(20).await;
        let figure = |name: &str| format!("{}.{name}", kind.name());
        report.figure(&figure("alone_p99_us"), regulars.p99_us());
        let mut child = PeerProcess::start(kind, PLACES / share, server.addr, folder);
        while !child.is_ready() {
            regulars.are_served(1).await;
        }
        // Longer than the ten seconds in which no connection goes for another one.
        regulars.are_served(150).await;
        report.figure(&figure("beside_p99_us"), regulars.p99_us());
        for limit in [Limit::Evicted, Limit::Full, Limit::HandshakeRate] {
            report.figure(&figure(limit.name()), reached.count(limit) as u64);
        }
        let resident = resident_kib().unwrap_or_default();
        report.figure(&figure("resident_kib"), resident);
        report.figure(&figure("regulars_served"), regulars.stop().await);
        child.end();
        server.stop().await;
    }
}

async fn made_up_tokens(fixture: &Fixture, share: usize, report: &mut Report) {
    for (name, policy, with_proof) in [
        ("made_up.require_proof", AcceptPolicy::RequireProof, false),
        (
            "made_up.require_proof.proved",
            AcceptPolicy::RequireProof,
            true,
        ),
        ("made_up.follow", AcceptPolicy::Follow, false),
    ] {
        let asking = Asking::start(fixture, policy).await;
        let addr = asking.server.addr;
        let regulars = Regulars::start(fixture, addr, REGULARS / share.min(10)).await;
        regulars.are_served(20).await;
        let figure = |figure: &str| format!("{name}.{figure}");
        report.figure(&figure("alone_p99_us"), regulars.p99_us());
        let before = asking.questions();
        made_up::send(fixture, addr, 100_000 / share, with_proof).await;
        regulars.are_served(1).await;
        report.figure(&figure("beside_p99_us"), regulars.p99_us());
        report.figure(&figure("questions"), asking.questions() - before);
        report.figure(&figure("regulars_served"), regulars.stop().await);
        asking.stop().await;
    }
}

struct Report {
    figures: BTreeMap<String, u64>,
    begun: Instant,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            figures: BTreeMap::new(),
            begun: Instant::now(),
        }
    }
}

impl Report {
    fn phase(&mut self, phase: &str, honest: &HonestClient) {
        self.figure(
            &format!("{phase}.resident_kib"),
            resident_kib().unwrap_or_default(),
        );
        self.figure(&format!("{phase}.honest_slowest_ms"), honest.slowest());
        self.figure(
            &format!("{phase}.at_seconds"),
            self.begun.elapsed().as_secs(),
        );
    }

    /// The largest figures of each phase.
    fn keep(&mut self, phase: &str, honest: &HonestClient) {
        for (name, value) in [
            (
                format!("load.{phase}.resident_kib"),
                resident_kib().unwrap_or_default(),
            ),
            (format!("load.{phase}.honest_slowest_ms"), honest.slowest()),
            (
                format!("load.{phase}.at_seconds"),
                self.begun.elapsed().as_secs(),
            ),
        ] {
            let kept = self.figures.entry(name).or_default();
            *kept = value.max(*kept);
        }
    }

    fn figure(&mut self, name: &str, value: u64) {
        println!("load.{name} {value}");
        self.figures.insert(format!("load.{name}"), value);
    }

    fn write(self) {
        for (name, value) in self
            .figures
            .iter()
            .filter(|(name, _)| name.starts_with("load.jti."))
        {
            println!("{name} {value}");
        }
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/bench");
        std::fs::create_dir_all(folder).expect("target/ can be written");
        let json = serde_json::to_string_pretty(&self.figures).expect("numbers");
        std::fs::write(format!("{folder}/load.json"), json).expect("target/ can be written");
    }
}

/// This program again, as a child process.
struct PeerProcess {
    process: Child,
    ready: std::sync::mpsc::Receiver<()>,
}

impl PeerProcess {
    fn start(kind: Abuse, number: usize, addr: SocketAddr, folder: &Folder) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .env(
                "BOWLINE_LOAD_ROLE",
                format!("{} {number} {addr}", kind.name()),
            )
            .current_dir(folder.path(""))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap());
        let (tell, ready) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            said.read_line(&mut line).unwrap();
            assert_eq!(line, "ready\n");
            let _ = tell.send(());
        });
        Self { process, ready }
    }

    fn is_ready(&mut self) -> bool {
        self.ready.try_recv().is_ok()
    }

    fn end(&mut self) {
        drop(self.process.stdin.take());
        self.process.wait().unwrap();
    }
}

/// The child process: holds its connections until its standard input ends.
async fn hold_connections(role: &str) {
    let [kind, number, addr] = role.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{role}");
    };
    let kind = KINDS
        .into_iter()
        .map(|(kind, _)| kind)
        .chain(CROWDS)
        .find(|known| known.name() == kind)
        .expect("a kind");
    let client = match kind {
        Abuse::Stranger => client(None, b"http/1.1"),
        Abuse::Stream => client(Some("thief"), b"http/1.1"),
        Abuse::Silent | Abuse::Slow | Abuse::Idle => client(Some("agent"), b"h2"),
    };
    let peers = kind
        .begin(number.parse().unwrap(), addr.parse().unwrap(), &client)
        .await;
    println!("ready");
    std::io::stdout().flush().unwrap();
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()))
        .await
        .unwrap()
        .unwrap();
    drop(peers);
}

fn client(identity: Option<&str>, alpn: &[u8]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file("ca.pem").unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        Some(name) => {
            let chain = vec![CertificateDer::from_pem_file(format!("{name}.pem")).unwrap()];
            let key = PrivateKeyDer::from_pem_file(format!("{name}.key")).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    Arc::new(config)
}
