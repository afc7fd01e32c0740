//! A service behind `bowline ingress`, and agents that reach it as `https://tools.example` through
//! `bowline run` and an outer proxy, which alone knows where that is.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bowline_testkit::net::{OwnedTask, accept_loop, loopback};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::ingress::fixture::{Ingress, Scene};

pub(super) const HOST: &str = "tools.example";
/// Only ends tests that hang.
const PATIENCE: Duration = Duration::from_secs(120);

/// The folder with agents that know nothing of bowline.
pub(super) fn conformance() -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../conformance/agents"
    ))
}

/// The service, the ingress that demands a proof for each request, and the way there.
pub(super) struct Site {
    pub(super) scene: Scene,
    ingress: Ingress,
    outer: OuterProxy,
}

impl Site {
    /// Before a service on this URL.
    pub(super) async fn before(upstream: &str, options: &[&str]) -> Self {
        Self::with(Scene::new(), upstream, options).await
    }

    pub(super) async fn with(scene: Scene, upstream: &str, options: &[&str]) -> Self {
        let server = scene.pki.server(&[HOST]);
        scene.write("server.pem", server.chain_pem());
        scene.write_private("server.key", server.key_pem());
        scene
            .agent
            .write_to(&scene.path(""))
            .expect("the agent's files");
        let mut all = scene.jwt_options();
        let more = ["--policy", "require-session"].iter().chain(options);
        all.extend(more.map(|&option| option.to_owned()));
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let ingress = scene.start_with(upstream, &all).await;
        let outer = OuterProxy::to(ingress.addr);
        Self {
            scene,
            ingress,
            outer,
        }
    }

    /// `bowline run` with this agent, which prints a line about itself.
    pub(super) async fn row(&self, options: &[&str], agent: &Agent) -> Row {
        let before = self.outer.opened();
        let output = self.run(options, agent).await;
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{told}\n{}", self.ingress.log());
        let stdout = String::from_utf8_lossy(&output.stdout);
        let stack = stdout.lines().last().unwrap_or_default().trim().to_owned();
        let report = told
            .lines()
            .find(|line| line.contains(" agent connections in, "));
        let report = report.unwrap_or_else(|| panic!("no report: {told}"));
        let mut numbers = report
            .split(|c: char| !c.is_ascii_digit())
            .filter(|n| !n.is_empty());
        let mut number = || -> u64 { numbers.next().expect("a number").parse().expect("it") };
        let row = Row {
            stack,
            agent_connections: number(),
            requests: number(),
            connections: number(),
            signatures: number(),
            verdict: match options.contains(&"--java") {
                false => "works",
                true => "needs `--java`",
            },
        };
        assert!(report.contains("; 0 tunnels without a proof, "), "{report}");
        // Some show the password when they are asked for it.
        let refused = report.ends_with(" 0 requests refused");
        assert!(refused || options == ["--credential"], "{report}");
        // Those that the way there has seen.
        assert_eq!(self.outer.opened() - before, row.connections, "{report}");
        assert!(row.requests > 0, "{report}");
        row
    }

    /// The same for an agent that may fail.
    pub(super) async fn run(&self, options: &[&str], agent: &Agent) -> std::process::Output {
        let path = |name: &str| self.scene.path(name);
        let token = self.scene.session_bound();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
        for name in ["HTTPS_PROXY", "NO_PROXY", "no_proxy", "JAVA_TOOL_OPTIONS"] {
            command.env_remove(name);
        }
        command
            .args(["run", "--allow", &format!("https://{HOST}"), "--stats"])
            .arg("--cert")
            .arg(path("agent.pem"))
            .arg("--key")
            .arg(path("agent-key.pem"))
            .arg("--cacert")
            .arg(path("ca.pem"))
            .args(options)
            .arg("--")
            .args(&agent.command)
            .envs(agent.variables.iter().map(|(name, value)| (name, value)))
            .env("https_proxy", self.outer.url())
            .env("XDG_RUNTIME_DIR", path(""))
            .env("AGENT_URL", format!("https://{HOST}"))
            .env("AGENT_TOKEN", token.secret())
            .kill_on_drop(true);
        let ended = tokio::time::timeout(PATIENCE, command.output()).await;
        ended.expect("the agent ends").expect("the command runs")
    }
}

/// A command and its variables.
pub(super) struct Agent {
    command: Vec<String>,
    variables: Vec<(String, String)>,
}

impl Agent {
    pub(super) fn new(command: &[&str]) -> Self {
        Self {
            command: command.iter().map(|&word| word.to_owned()).collect(),
            variables: Vec::new(),
        }
    }

    /// A program of [`conformance`].
    pub(super) fn program(interpreter: &str, name: &str, arguments: &[&str]) -> Self {
        let path = conformance().join(name).display().to_string();
        Self::new(&[&[interpreter, &path], arguments].concat())
    }

    pub(super) fn variable(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.variables.push((name.to_owned(), value.to_string()));
        self
    }
}

/// What an agent made, and what it cost.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) stack: String,
    pub(super) agent_connections: u64,
    pub(super) requests: u64,
    pub(super) connections: u64,
    pub(super) signatures: u64,
    pub(super) verdict: &'static str,
}

impl Row {
    /// Fails unless there was one connection to the origin, and one signature.
    #[track_caller]
    pub(super) fn with_one_connection_and_one_signature(self) -> Self {
        assert_eq!((self.connections, self.signatures), (1, 1), "{self:?}");
        self
    }
}

/// A table of them, in Markdown.
pub(super) fn table(rows: &[Row]) -> String {
    let mut table = String::from(
        "| agent | requests | its connections | connections out | signatures | |\n\
         |---|---|---|---|---|---|\n",
    );
    for row in rows {
        let Row {
            stack,
            agent_connections,
            requests,
            connections,
            signatures,
            verdict,
        } = row;
        table += &format!(
            "| {stack} | {requests} | {agent_connections} | {connections} | {signatures} | {verdict} |\n"
        );
    }
    table
}

/// A `CONNECT` proxy that leads to one server, whatever the name's address would be.
pub(super) struct OuterProxy {
    addr: SocketAddr,
    opened: Arc<AtomicU64>,
    _serving: OwnedTask,
}

impl OuterProxy {
    pub(super) fn to(server: SocketAddr) -> Self {
        let listener = loopback();
        let addr = listener.local_addr().expect("an address");
        let opened: Arc<AtomicU64> = Arc::default();
        let count = opened.clone();
        let serving = accept_loop(listener, move |agent| {
            let count = count.clone();
            async move {
                // An end that is not orderly is the ends' concern.
                let _ = tunnel(agent, server, &count).await;
            }
        });
        Self {
            addr,
            opened,
            _serving: serving,
        }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub(super) fn opened(&self) -> u64 {
        self.opened.load(Ordering::SeqCst)
    }
}

async fn tunnel(
    mut agent: TcpStream,
    server: SocketAddr,
    opened: &AtomicU64,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(agent.read_u8().await?);
    }
    let expected = format!("CONNECT {HOST}:443 HTTP/1.1\r\n");
    if !head.starts_with(expected.as_bytes()) {
        return agent.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n").await;
    }
    opened.fetch_add(1, Ordering::SeqCst);
    let mut server = TcpStream::connect(server).await?;
    agent.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    copy_bidirectional(&mut agent, &mut server).await?;
    Ok(())
}

/// A process that serves on loopback ports, and says which in its first line.
pub(super) struct Peer {
    child: Child,
    pub(super) ports: Vec<SocketAddr>,
}

impl Peer {
    pub(super) fn python(name: &str, arguments: &[&str]) -> Self {
        // The program ends at end of file, so also if this process is killed.
        let mut child = std::process::Command::new("python3")
            .arg(conformance().join(name))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is missing: run `just parts`, which installs it");
        let mut line = String::new();
        let mut lines = BufReader::new(child.stdout.take().expect("piped"));
        lines.read_line(&mut line).expect("text");
        let ports: Vec<_> = line
            .split_whitespace()
            .map(|port| (Ipv4Addr::LOCALHOST, port.parse().expect("a port")).into())
            .collect();
        let installed = !ports.is_empty();
        assert!(
            installed,
            "{name} ended early: are its packages installed? see `just parts`"
        );
        Self { child, ports }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
