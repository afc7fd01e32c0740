//! An agent that is not ours, on the Python SDK, in plain HTTP behind a TLS front of ours: the
//! script again.
//!
//! The table of both agents: `cargo test -p bowline-a2a --test it python -- --ignored --nocapture`.
//!
//! Needs Python, so it belongs to the named set (`just parts`) and not to `cargo test`.

#![allow(clippy::print_stdout, reason = "the table is there to be read")]

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use a2a::{AgentCard, AgentInterface, TRANSPORT_PROTOCOL_GRPC};
use bowline_http_client::HttpVersions;
use bowline_testkit::a2a::card;
use bowline_testkit::peers::{PlainServer, forward_with_grpc};

use crate::script;
use crate::script::compare::{BINDINGS, ScriptRun, assert_as_good, assert_expected, table};
use crate::script::expected::{BETTER, EXPECTED, Exception};
use crate::script::fixture::{Fixture, all_rows, ours, stock};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Python with a2a-sdk: run `just parts`"]
async fn ours_get_from_a_python_agent_over_tls_what_the_stock_transports_get_over_plain_http() {
    let agent = Agent::start();
    let (http, grpc) = (agent.http.to_string(), agent.grpc.to_string());
    let theirs = all_rows(&stock(), &agent.card(), &[&http, &grpc]).await;
    assert_expected(&theirs, &expected(), EXCEPTIONS);

    // The front itself changes nothing.
    let front = PlainServer::start(forward_with_grpc(agent.http, agent.grpc));
    let here = front.addr().to_string();
    let through = all_rows(&stock(), &card(&front.origin()), &[&here, &http, &grpc]).await;
    for (binding, (theirs, through)) in BINDINGS.iter().zip(theirs.iter().zip(&through)) {
        assert_as_good(binding, theirs, through, &[]);
    }

    let fixture = Fixture::open(|_| forward_with_grpc(agent.http, agent.grpc));
    let client = fixture.client(HttpVersions::Auto);
    let here = [&*fixture.here(), &http, &grpc];
    let python = ScriptRun {
        agent: "Python agent",
        stock: theirs,
        ours: all_rows(
            &ours(&fixture, &client),
            &card(&fixture.server.origin()),
            &here,
        )
        .await,
        stats: client.stats(),
    };
    let exceptions: Vec<_> = script::expected::EXCEPTIONS
        .iter()
        .chain(EXCEPTIONS)
        .chain(BETTER)
        .collect();
    let official = script::official().await;
    println!("{}", table(&[&official, &python], &exceptions));
    official.check(BETTER);
    python.check(BETTER);
}

/// What this agent answers in a few words: as the official Rust agent, except where it says so
/// here.
fn expected() -> Vec<(&'static str, &'static str)> {
    let other = |call: &str| OTHERWISE.iter().find(|(otherwise, _)| *otherwise == call);
    let expected: Vec<_> = EXPECTED
        .iter()
        .map(|row| *other(row.0).unwrap_or(row))
        .collect();
    let used = expected
        .iter()
        .filter(|row| OTHERWISE.contains(row))
        .count();
    assert_eq!(used, OTHERWISE.len(), "each is a call of the script");
    expected
}

/// It keeps earlier status messages, lists the latest first, and has words of its own. A cancelled
/// task cannot be cancelled.
const OTHERWISE: &[(&str, &str)] = &[
    ("`cancel_task`, running", "task CANCELED, history of 2"),
    (
        "`list_tasks`, of the context",
        "6 of 6: CANCELED, COMPLETED, COMPLETED, COMPLETED, COMPLETED, COMPLETED",
    ),
    ("`list_tasks`, two of them", "2 of 6: CANCELED, COMPLETED"),
    ("`get_push_config`, deleted", "-32001 Task not found"),
    ("`get_task`, unknown", "-32001 Task not found"),
    ("`cancel_task`, unknown", "-32001 Task not found"),
    ("`cancel_task`, finished", "-32002 Task cannot be canceled"),
    ("`cancel_task`, cancelled", "-32002 Task cannot be canceled"),
    ("`subscribe_to_task`, unknown", "-32001 Task not found"),
    (
        "`subscribe_to_task`, finished",
        "-32004 Task #2 is in terminal state: TASK_STATE_COMPLETED",
    ),
    (
        "`send_message`, to an unknown task",
        "-32001 Task #13 not found",
    ),
    (
        "`send_streaming_message`, to an unknown task",
        "-32001 Task #13 not found",
    ),
    (
        "`send_message`, to a finished task",
        "-32004 Task #2 is in terminal state: TASK_STATE_COMPLETED",
    ),
    (
        "`send_streaming_message`, to a finished task",
        "-32004 Task #2 is in terminal state: TASK_STATE_COMPLETED",
    ),
    (
        "`list_tasks`, a wrong page token",
        "-32602 Token is not a valid base64-encoded cursor.",
    ),
    (
        "`send_message`, a version that is none",
        "-32009 A2A version '9.9' is not supported by this handler. Expected version '1.0'.",
    ),
];

/// Where the stock transport of one binding gets another answer from it, and why.
const EXCEPTIONS: &[Exception] = &[
    Exception {
        binding: "HTTP+JSON",
        call: "`get_push_config`, second",
        outcome: "-32001 Task not found",
        why: "the stock transport does not escape what it puts into a path (a2a-client-lf 0.2.9)",
    },
    Exception {
        binding: "GRPC",
        call: "`send_message`, a version that is none",
        outcome: "task COMPLETED, artifact \"ahoy\", history of 1",
        why: "the Python SDK looks at `A2A-Version` in HTTP only (a2a-sdk 1.3)",
    },
];

/// The process.
pub(crate) struct Agent {
    child: Child,
    pub(crate) http: SocketAddr,
    pub(crate) grpc: SocketAddr,
}

impl Agent {
    pub(crate) fn start() -> Self {
        let program =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/a2a-peers/agent.py");
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
