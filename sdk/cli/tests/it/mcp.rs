//! A server on PyPI `mcp`, which knows nothing of proofs, behind `bowline ingress`; and rmcp's client
//! over bowline, with a certificate-bound token as authorization servers issue them today.
//!
//! Needs Python with `mcp`, so it belongs to the named set (`just parts`) and not to `cargo test`.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use bowline::client::{HttpVersions, Limits};
use bowline::{Client, Identity, Trust};
use bowline_mcp::{LegacySse, StreamableHttp};
use rmcp::model::{CallToolRequest, CallToolRequestParams, ClientRequest, ProtocolVersion};
use rmcp::service::{PeerRequestOptions, RunningService};
use rmcp::{ClientLifecycleMode, ClientServiceExt, RoleClient, ServiceExt};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::ingress::fixture::{Ingress, Scene, within};

const CALLS: usize = 50;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Revision {
    /// 2024-11-05: HTTP+SSE.
    LegacySse,
    /// 2025-11-25: sessions, and a GET for the server's own events.
    Sessions,
    /// 2026-07-28: POST alone.
    Stateless,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Python with mcp: run `just parts`"]
async fn fifty_calls_through_the_ingress_take_one_signature_for_each_connection() {
    for revision in [Revision::LegacySse, Revision::Sessions, Revision::Stateless] {
        for http in [HttpVersions::Http2, HttpVersions::Http1] {
            let (fixture, _peer) = Fixture::start(revision, http).await;
            let agent = fixture.agent().await;
            for number in 0..CALLS {
                let text = format!("ahoy {number}");
                let arguments = serde_json::json!({ "message": text });
                let call = CallToolRequestParams::new("echo")
                    .with_arguments(arguments.as_object().unwrap().clone());
                let answer = within(agent.call_tool(call)).await.unwrap();
                assert!(answer.content[0].as_text().unwrap().text.contains(&text));
            }
            within(agent.cancel()).await.unwrap();
            fixture.assert_one_signature_for_each_connection().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Python with mcp: run `just parts`"]
async fn a_closed_stream_cancels_the_call_in_the_python_server() {
    for revision in [Revision::LegacySse, Revision::Stateless] {
        for http in [HttpVersions::Http2, HttpVersions::Http1] {
            let (fixture, mut peer) = Fixture::start(revision, http).await;
            let agent = fixture.agent().await;
            let call = CallToolRequest::new(CallToolRequestParams::new("wait"));
            let call = ClientRequest::CallToolRequest(call);
            let call = agent.send_cancellable_request(call, PeerRequestOptions::no_options());
            let call = within(call).await.unwrap();
            assert_eq!(peer.line().await, "waiting");
            match revision {
                // The response's stream is reset, or its connection closed.
                Revision::Stateless => within(call.cancel(None)).await.unwrap(),
                // The stream is the session's: the agent goes away without a word.
                _ => drop((call, agent)),
            }
            assert_eq!(peer.line().await, "cancelled", "{revision:?} {http:?}");
            fixture.ingress.logs("cut=true").await;
            // It was the end of the stream that said so, and no message. Before the call there were the
            // first request, twice since it had no proof, or both messages that open a session; there the
            // stream takes two requests too. Each line is written when its response has ended, in any order.
            let requests = if revision == Revision::LegacySse {
                5
            } else {
                3
            };
            let lines = fixture.access_lines(requests).await;
            assert_eq!(lines.len(), requests, "{revision:?} {http:?}: {lines:?}");
            let posts = lines.iter().filter(|line| line.field("method") == "POST");
            assert_eq!(posts.count(), 3, "{revision:?} {http:?}: {lines:?}");
        }
    }
}

/// The agent's side, and the ingress.
struct Fixture {
    scene: Scene,
    ingress: Ingress,
    client: Client,
    revision: Revision,
    http: HttpVersions,
}

impl Fixture {
    async fn start(revision: Revision, http: HttpVersions) -> (Self, Peer) {
        let scene = Scene::new();
        let peer = Peer::start(match revision {
            Revision::LegacySse => "sse",
            _ => "streamable-http",
        })
        .await;
        let options = scene.jwt_options();
        let options: Vec<_> = options.iter().map(String::as_str).collect();
        let ingress = scene
            .start_with(&format!("http://{}", peer.addr), &options)
            .await;
        // On HTTP/1.1 one for the stream and one for all else: a call waits until the response to the one
        // before has ended.
        let mut limits = Limits::default();
        limits.per_origin = 2;
        let client = Client::builder()
            .limits(limits)
            .identity(Identity::new(scene.agent.chain(), scene.agent.signing_key()).unwrap())
            .trust(Trust::from_der([scene.pki.ca_der().clone()]).unwrap())
            .http_versions(http)
            .build()
            .unwrap();
        let fixture = Self {
            scene,
            ingress,
            client,
            revision,
            http,
        };
        (fixture, peer)
    }

    async fn agent(&self) -> RunningService<RoleClient, ()> {
        let (client, origin) = (self.client.clone(), self.ingress.origin());
        let token = self.scene.certificate_bound();
        if self.revision == Revision::LegacySse {
            let transport = LegacySse::new(client).token(token);
            let transport = transport.transport(format!("{origin}/sse")).unwrap();
            return within(().serve(transport)).await.unwrap();
        }
        let lifecycle = match self.revision {
            Revision::Stateless => ClientLifecycleMode::Discover {
                preferred_versions: vec![ProtocolVersion::V_2026_07_28],
            },
            _ => ClientLifecycleMode::Initialize,
        };
        let transport = StreamableHttp::new(client).token(token);
        let transport = transport.transport(format!("{origin}/mcp"));
        within(().serve_with_lifecycle(transport, lifecycle))
            .await
            .unwrap()
    }

    /// By the client's own counts, and by the ingress's access log.
    #[allow(clippy::print_stdout, reason = "the figures are there to be read")]
    async fn assert_one_signature_for_each_connection(&self) {
        let (stats, what) = (self.client.stats(), (self.revision, self.http));
        let (opened, totals) = (stats.connections_opened, stats.totals);
        println!(
            "{what:?}: {CALLS} calls, {} requests, {opened} connection(s), {} signature(s) {:?}",
            totals.requests,
            totals.signatures(),
            totals.causes,
        );
        assert_eq!(totals.signatures(), opened, "{what:?}");
        match self.http {
            HttpVersions::Http2 => assert_eq!(opened, 1),
            // One more each time that the response to a POST ended so late that the rest was not waited
            // for.
            _ => assert!((1..=4).contains(&opened), "{what:?}: {opened}"),
        }
        let lines = self.access_lines(totals.requests as usize).await;
        let connections: HashSet<_> = lines.iter().map(|line| line.field("connection")).collect();
        assert_eq!(connections.len() as u64, opened, "{lines:?}");
        // The first one learned that this server wants proofs; all others brought theirs.
        let without = lines.iter().filter(|line| line.field("class") != "session");
        let statuses: Vec<_> = without.map(|line| line.field("status")).collect();
        assert_eq!(statuses, ["401"], "{lines:?}");
    }

    /// Waits for so many; each is written when its response has ended.
    async fn access_lines(&self, number: usize) -> Vec<AccessLine> {
        within(async {
            loop {
                let log = self.ingress.log();
                let lines = log.lines().filter(|line| line.contains(" request method="));
                let lines: Vec<_> = lines.map(|line| AccessLine(line.to_owned())).collect();
                if lines.len() >= number {
                    return lines;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
    }
}

#[derive(Debug)]
struct AccessLine(String);

impl AccessLine {
    fn field(&self, name: &str) -> &str {
        let rest = self.0.split(&format!(" {name}=")).nth(1);
        rest.and_then(|rest| rest.split(' ').next())
            .unwrap_or_default()
    }
}

/// `conformance/mcp-peers/server.py`.
struct Peer {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    addr: SocketAddr,
}

impl Peer {
    async fn start(transport: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/mcp-peers");
        let mut child = Command::new("python3")
            .arg(folder.join("server.py"))
            .arg(transport)
            // Its end of file makes the program end if this process is killed.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("python3 is missing: run `just parts`, which installs its packages");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut peer = Self {
            _child: child,
            lines,
            addr: (Ipv4Addr::LOCALHOST, 0).into(),
        };
        let port = peer.line().await.parse().expect("a port");
        peer.addr.set_port(port);
        peer
    }

    async fn line(&mut self) -> String {
        let line = within(self.lines.next_line()).await.expect("text");
        line.expect("the program ended early: are its packages installed? see `just parts`")
    }
}
