//! An agent that is not ours, on the Python SDK, in plain HTTP behind a TLS front of ours: the script again.
//!
//! Needs Python, so it belongs to the named set (`just parts`) and not to `cargo test`.

#![allow(clippy::print_stdout, reason = "the table is there to be read")]

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use a2a::{AgentCard, AgentInterface, TRANSPORT_PROTOCOL_GRPC};
use bowline_testkit::a2a::card;
use bowline_testkit::peers::forward_with_grpc;

use crate::script::compare::{assert_as_good, assert_expected, table};
use crate::script::expected::Exception;
use crate::script::site::{Site, all_rows, ours, stock};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Python with a2a-sdk: run `just parts`"]
async fn ours_get_from_a_python_agent_over_tls_what_the_stock_transports_get_over_plain_http() {
    let agent = Agent::start();
    let (http, grpc) = (agent.http.to_string(), agent.grpc.to_string());
    let theirs = all_rows(&stock(), &agent.card(), &[&http, &grpc]).await;
    for (binding, rows) in ["J", "H", "G"].iter().zip(&theirs) {
        for row in rows {
            println!("{binding} {}: {}\n   {}", row.call(), row.outcome, row.answer);
        }
    }
    assert_expected(&theirs, EXPECTED, EXCEPTIONS);

    let site = Site::open(|_| forward_with_grpc(agent.http, agent.grpc));
    let client = site.client();
    let here = site.here();
    let own = all_rows(
        &ours(&site, &client),
        &card(&site.server.origin()),
        &[&here, &http, &grpc],
    )
    .await;

    println!("{}", table(&theirs, &own, &[EXCEPTIONS, BETTER]));
    assert_as_good(&theirs, &own, BETTER);

    let stats = client.stats();
    println!(
        "{} requests of ours, {} connection(s), {} signature(s)",
        stats.totals.requests,
        stats.connections_opened,
        stats.totals.signatures()
    );
    assert_eq!((stats.connections_opened, stats.totals.signatures()), (1, 1));
    assert_eq!(stats.totals.with_proof, stats.totals.requests);
    assert_eq!(stats.totals.refused, 0);
}

const EXPECTED: &[(&str, &str)] = &[];
const EXCEPTIONS: &[Exception] = &[];
const BETTER: &[Exception] = &[];

/// The process.
struct Agent {
    child: Child,
    http: SocketAddr,
    grpc: SocketAddr,
}

impl Agent {
    fn start() -> Self {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/a2a-peers/agent.py");
        // Its end of file tells the program to end, should this process be killed.
        let mut child = Command::new("python3")
            .arg(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Python is missing: run `just parts`, which installs it");
        let mut line = String::new();
        let mut lines = BufReader::new(child.stdout.take().expect("piped"));
        lines.read_line(&mut line).expect("text");
        let mut ports = line.split_whitespace().map(|port| {
            let port = port.parse().expect("a port");
            SocketAddr::from((Ipv4Addr::LOCALHOST, port))
        });
        let (Some(http), Some(grpc)) = (ports.next(), ports.next()) else {
            panic!("the program ended early: are its packages installed? see `just parts`");
        };
        Self { child, http, grpc }
    }

    /// As it says itself.
    fn card(&self) -> AgentCard {
        let mut card = card(&format!("http://{}", self.http));
        for interface in &mut card.supported_interfaces {
            if interface.protocol_binding == TRANSPORT_PROTOCOL_GRPC {
                *interface = AgentInterface::new(self.grpc.to_string(), TRANSPORT_PROTOCOL_GRPC);
            }
        }
        card
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
