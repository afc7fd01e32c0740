//! What tests of `bowline run` and `bowline egress` share: origins, and commands in front of them.

mod attacks;
mod bad_input;
mod named;
mod nightly;
mod other_users;
mod site;
mod stacks;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::any;
use bowline_testkit::peers::{CyclingOptions, CyclingServer, EchoServer};
use bowline_testkit::pki::{KeyKind, Leaf, Pki};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// A directory of this test's own, removed at its end.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("bowline-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).expect("a directory");
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(&dir, private).expect("its mode");
        Self(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What an origin has seen of the proofs: each with the number of requests that carried it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen(Arc<Mutex<HashMap<String, u64>>>);

impl Seen {
    /// Different proofs, and requests that carried one.
    pub(crate) fn proofs(&self) -> (usize, u64) {
        let seen = self.0.lock().expect("the lock");
        (seen.len(), seen.values().sum())
    }
}

/// An origin with mutual TLS, an agent's certificate, and a token that is bound to it.
pub(crate) struct World {
    pub(crate) scratch: Scratch,
    pub(crate) agent: Leaf,
    pub(crate) server: CyclingServer,
    pub(crate) seen: Seen,
}

impl World {
    pub(crate) fn new(name: &str) -> Self {
        Self::with_routes(name, Router::new())
    }

    /// An origin with further routes; without one, it answers with what it got.
    pub(crate) fn with_routes(name: &str, routes: Router) -> Self {
        Self::with(name, routes, CyclingOptions::default())
    }

    pub(crate) fn with(name: &str, routes: Router, options: CyclingOptions) -> Self {
        let scratch = Scratch::new(name);
        let pki = Pki::new();
        let agent = pki.client("agent", KeyKind::P256);
        pki.write_to(&scratch.0, &[&agent]).expect("files");
        let seen = Seen::default();
        let router = routes.merge(Router::new().fallback(any(echo)).with_state(seen.clone()));
        let server = CyclingServer::start(&pki, options, router);
        Self {
            scratch,
            agent,
            server,
            seen,
        }
    }

    pub(crate) fn token(&self) -> String {
        let cnf = serde_json::json!({
            "x5t#S256": self.agent.thumbprint().to_string(),
            "tls_exp": bowline_proof::EXPORTER_LABEL,
        });
        EchoServer::token(&cnf)
    }

    /// `bowline run` with this world's files, before `--` and the command.
    pub(crate) fn run(&self, more: &[&str]) -> Command {
        let mut command = self.bowline("run");
        command
            .args(["--allow", &self.server.origin(), "--stats"])
            .args(more)
            .arg("--");
        command
    }

    pub(crate) fn bowline(&self, subcommand: &str) -> Command {
        let file = |name: &str| self.scratch.0.join(name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
        command
            .arg(subcommand)
            .arg("--cert")
            .arg(file("agent.pem"))
            .arg("--key")
            .arg(file("agent-key.pem"))
            .arg("--cacert")
            .arg(file("ca.pem"))
            .env("XDG_RUNTIME_DIR", &self.scratch.0)
            .env("BOWLINE_LOG_LEVEL", "off")
            .env_remove("https_proxy")
            .env_remove("HTTPS_PROXY")
            .env_remove("NO_PROXY")
            .env_remove("no_proxy")
            .kill_on_drop(true);
        command
    }

    /// The private directories that there are.
    pub(crate) fn private_directories(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.scratch.0).expect("the directory");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        let is_ours = |path: &PathBuf| {
            let name = path.file_name().and_then(OsStr::to_str);
            name.is_some_and(|name| name.starts_with("bowline-run-"))
        };
        paths.filter(is_ours).collect()
    }
}

async fn echo(State(seen): State<Seen>, request: Request) -> Response {
    if let Some(proof) = request.headers().get("session-binding-proof") {
        let proof = proof.to_str().expect("ASCII").to_owned();
        *seen.0.lock().expect("the lock").entry(proof).or_default() += 1;
    }
    let mut response = Response::builder()
        .header("alt-svc", "h3=\":443\"")
        .header("x-path", request.uri().path());
    for (name, value) in request.headers() {
        if !matches!(name.as_str(), "content-length" | "session-binding-proof") {
            response = response.header(format!("x-got-{name}"), value);
        }
    }
    response
        .body(Body::new(request.into_body()))
        .expect("a response")
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A run whose command waits: its proxy is there to be talked to.
pub(crate) struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    /// `HTTPS_PROXY`, as the command has it.
    pub(crate) url: String,
    /// `HOST:PORT` of the proxy.
    pub(crate) proxy: String,
    /// The root of its local authority, PEM.
    pub(crate) root: PathBuf,
}

impl Running {
    /// `command` is given [`World::run`]'s arguments.
    pub(crate) async fn start(command: &mut Command) -> Self {
        Self::start_script(command, "").await
    }

    /// The same with a beginning of its own.
    pub(crate) async fn start_script(command: &mut Command, script: &str) -> Self {
        let script =
            format!("{script}\necho \"$HTTPS_PROXY\"; echo \"$DENO_CERT\"; cat > /dev/null");
        let mut child = command
            .args(["sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command runs");
        let stdin = child.stdin.take();
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut lines = [String::new(), String::new()];
        for line in &mut lines {
            stdout.read_line(line).await.expect("a line");
        }
        let [url, root] = lines.map(|line| line.trim().to_owned());
        let proxy = url.strip_prefix("http://").expect("a URL");
        let proxy = proxy.rsplit('@').next().expect("a host").to_owned();
        Self {
            child,
            stdin,
            stdout,
            url,
            proxy,
            root: root.into(),
        }
    }

    pub(crate) fn id(&self) -> i32 {
        let id = self.child.id().expect("it runs");
        i32::try_from(id).expect("a process id")
    }

    /// Lets the command end; what standard error got.
    pub(crate) async fn end(mut self) -> String {
        drop(self.stdin.take());
        let output = self.child.wait_with_output().await.expect("it ends");
        stderr(&output)
    }

    /// Kills `bowline run` itself; returns when all that held its standard output is gone.
    pub(crate) async fn kill(mut self) {
        self.kill_run().await;
        self.gone().await;
    }

    /// Kills `bowline run` itself; returns when all its threads are gone.
    pub(crate) async fn kill_run(&mut self) {
        self.child.kill().await.expect("it is killed");
    }

    /// Returns when all that held its standard output is gone.
    pub(crate) async fn gone(mut self) {
        let mut rest = Vec::new();
        self.stdout.read_to_end(&mut rest).await.expect("the end");
    }

    /// Says something to the proxy and returns what it answers until it closes.
    pub(crate) async fn say(&self, request: &str) -> String {
        let mut socket = tokio::net::TcpStream::connect(&self.proxy)
            .await
            .expect("the proxy");
        socket.write_all(request.as_bytes()).await.expect("written");
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.expect("an answer");
        String::from_utf8(answer).expect("UTF-8")
    }
}

pub(crate) fn exists(path: impl AsRef<Path>) -> bool {
    path.as_ref().exists()
}
