//! Independent MCP servers in plain HTTP behind a TLS front: the TypeScript SDK's
//! `server-everything`, and a server on the Python SDK. A hundred calls each.
//!
//! Needs Node and Python, so it belongs to the named set (`just parts`) and not to `cargo test`.

#![allow(clippy::print_stdout, reason = "the figures are there to be read")]

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bowline_http_client::{AccessToken, Client, HttpVersions, Limits};
#[cfg(feature = "legacy-sse")]
use bowline_mcp::LegacySse;
use bowline_server::{AcceptPolicy, BindingLayer};
use bowline_testkit::authority::{Authority, AuthorityOptions, TokenRequest};
use bowline_testkit::peers::{CyclingOptions, CyclingServer, forward};
use bowline_testkit::pki::{KeyKind, Leaf, Pki};
use rmcp::model::CallToolRequestParams;
use rmcp::service::RunningService;
use rmcp::{RoleClient, ServiceExt};

use crate::fixture::{client_with, validator};
use crate::scripted::soon;

const CALLS: usize = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node and npm: run `just parts`"]
async fn a_hundred_calls_to_the_typescript_sdk_s_server_over_streamable_http() {
    let fixture = Fixture::behind(Peer::everything("streamableHttp"));
    for http in [HttpVersions::Http2, HttpVersions::Http1] {
        let client = fixture.client(http);
        let agent = fixture.streamable(&client).await;
        fixture
            .hundred_calls(agent, &client, http, "TypeScript, streamable HTTP")
            .await;
    }
}

#[cfg(feature = "legacy-sse")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node and npm: run `just parts`"]
async fn a_hundred_calls_to_the_typescript_sdk_s_server_over_legacy_sse() {
    let fixture = Fixture::behind(Peer::everything("sse"));
    for http in [HttpVersions::Http2, HttpVersions::Http1] {
        let client = fixture.client(http);
        let agent = fixture.legacy(&client).await;
        fixture
            .hundred_calls(agent, &client, http, "TypeScript, legacy HTTP+SSE")
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Python with mcp: run `just parts`"]
async fn a_hundred_calls_to_a_server_on_the_python_sdk_over_streamable_http() {
    let fixture = Fixture::behind(Peer::python("streamable-http"));
    for http in [HttpVersions::Http2, HttpVersions::Http1] {
        let client = fixture.client(http);
        let agent = fixture.streamable(&client).await;
        fixture
            .hundred_calls(agent, &client, http, "Python, streamable HTTP")
            .await;
    }
}

#[cfg(feature = "legacy-sse")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Python with mcp: run `just parts`"]
async fn a_hundred_calls_to_a_server_on_the_python_sdk_over_legacy_sse() {
    let fixture = Fixture::behind(Peer::python("sse"));
    for http in [HttpVersions::Http2, HttpVersions::Http1] {
        let client = fixture.client(http);
        let agent = fixture.legacy(&client).await;
        fixture
            .hundred_calls(agent, &client, http, "Python, legacy HTTP+SSE")
            .await;
    }
}

/// A peer, the front before it, and an agent with a token.
struct Fixture {
    pki: Pki,
    leaf: Leaf,
    token: AccessToken,
    server: CyclingServer,
    _authority: Authority,
    _peer: Peer,
}

impl Fixture {
    fn behind(peer: Peer) -> Self {
        let pki = Pki::new();
        let authority = Authority::start(&pki, AuthorityOptions::default());
        let leaf = pki.client("agent", KeyKind::P256);
        let token = authority.issue(&TokenRequest::session_bound("agent", leaf.thumbprint()));
        let binding = BindingLayer::new(validator(&authority)).policy(AcceptPolicy::RequireSession);
        let front = forward(peer.addr).layer(binding);
        Self {
            server: CyclingServer::start(&pki, CyclingOptions::default(), front),
            token: AccessToken::new(token).unwrap(),
            leaf,
            pki,
            _authority: authority,
            _peer: peer,
        }
    }

    /// On HTTP/1.1 it may have one connection for the stream and one for all else: a call waits until the
    /// response to the one before has ended.
    fn client(&self, http: HttpVersions) -> Client {
        let mut limits = Limits::default();
        limits.per_origin = 2;
        client_with(&self.pki, &self.leaf, http, limits)
    }

    async fn streamable(&self, client: &Client) -> RunningService<RoleClient, ()> {
        let uri = format!("{}/mcp", self.server.origin());
        let transport = bowline_mcp::transport(client.clone(), uri, self.token.clone());
        soon(().serve(transport)).await.unwrap()
    }

    #[cfg(feature = "legacy-sse")]
    async fn legacy(&self, client: &Client) -> RunningService<RoleClient, ()> {
        let uri = format!("{}/sse", self.server.origin());
        let transport = LegacySse::new(client.clone()).token(self.token.clone());
        soon(().serve(transport.transport(uri).unwrap()))
            .await
            .unwrap()
    }

    async fn hundred_calls(
        &self,
        agent: RunningService<RoleClient, ()>,
        client: &Client,
        http: HttpVersions,
        what: &str,
    ) {
        let before = self.server.counts().opened - client.stats().connections_opened;
        for number in 0..CALLS {
            let text = format!("ahoy {number}");
            let arguments = serde_json::json!({ "message": text });
            let call = CallToolRequestParams::new("echo")
                .with_arguments(arguments.as_object().unwrap().clone());
            let answer = soon(agent.call_tool(call)).await.unwrap();
            assert!(
                answer.content[0].as_text().unwrap().text.contains(&text),
                "{answer:?}"
            );
        }
        soon(agent.cancel()).await.unwrap();
        let stats = client.stats();
        let (opened, totals) = (stats.connections_opened, stats.totals);
        println!(
            "{what}, {http:?}: {CALLS} calls, {} requests, {opened} connection(s), {} signature(s) {:?}",
            totals.requests,
            totals.signatures(),
            totals.causes,
        );
        assert_eq!(self.server.counts().opened - before, opened);
        assert_eq!(
            totals.signatures(),
            opened,
            "one token: one signature for each connection (CL-3)"
        );
        match http {
            HttpVersions::Http2 => assert_eq!(opened, 1),
            // One more each time that the peer ended its response to a POST so late that the rest was not
            // waited for.
            _ => assert!((1..=4).contains(&opened), "{opened}"),
        }
        assert_eq!(totals.with_proof, totals.requests);
        assert_eq!(totals.refused, 0);
    }
}

/// A process that serves MCP in plain HTTP on loopback.
struct Peer {
    child: Child,
    addr: SocketAddr,
}

impl Peer {
    fn everything(transport: &str) -> Self {
        let folder = folder();
        Self::start(
            Command::new(node(&folder))
                .arg(folder.join("everything.js"))
                .arg(transport),
        )
    }

    fn python(transport: &str) -> Self {
        Self::start(
            Command::new("python3")
                .arg(folder().join("server.py"))
                .arg(transport),
        )
    }

    fn start(command: &mut Command) -> Self {
        // The program ends at end of file, so also if this process is killed.
        let command = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command
            .spawn()
            .expect("the program is missing: run `just parts`, which installs it");
        let mut line = String::new();
        let mut lines = BufReader::new(child.stdout.take().expect("piped"));
        lines.read_line(&mut line).expect("text");
        let port = line
            .trim()
            .parse()
            .expect("the program ended early: are its packages installed? see `just parts`");
        Self {
            child,
            addr: (Ipv4Addr::LOCALHOST, port).into(),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/mcp-peers")
}

/// Node as the lock file has it, or the system's if npm has none for this machine.
fn node(folder: &Path) -> PathBuf {
    let arch = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "x64"
    };
    let locked = folder.join(format!("node_modules/node-linux-{arch}/bin/node"));
    if locked.exists() {
        locked
    } else {
        PathBuf::from("node")
    }
}
