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
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::any;
use bowline_testkit::peers::{CyclingOptions, CyclingServer, EchoServer};
use bowline_testkit::pki::{KeyKind, Leaf, Pki};
use bytes::Bytes;
use http::HeaderMap;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};
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

/// What an origin has seen: proofs, each with the number of requests that carried it, and tokens.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    proofs: Arc<Mutex<HashMap<String, u64>>>,
    tokens: Arc<Mutex<Vec<String>>>,
}

impl Seen {
    /// Different proofs, and requests that carried one.
    pub(crate) fn proofs(&self) -> (usize, u64) {
        let seen = self.proofs.lock().expect("the lock");
        (seen.len(), seen.values().sum())
    }

    /// The `Authorization` of each request that had one.
    pub(crate) fn tokens(&self) -> Vec<String> {
        self.tokens.lock().expect("the lock").clone()
    }

    fn note(&self, headers: &HeaderMap) {
        let text = |name| {
            headers
                .get(name)
                .map(|field| field.to_str().expect("ASCII"))
        };
        if let Some(proof) = text("session-binding-proof") {
            let mut proofs = self.proofs.lock().expect("the lock");
            *proofs.entry(proof.to_owned()).or_default() += 1;
        }
        if let Some(token) = text("authorization") {
            self.tokens.lock().expect("the lock").push(token.to_owned());
        }
    }
}

/// An origin with mutual TLS, an agent's certificate, and a token that is bound to it.
pub(crate) struct World {
    pub(crate) scratch: Scratch,
    pub(crate) pki: Pki,
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
        let (server, seen) = origin(&pki, options, routes);
        Self {
            scratch,
            pki,
            agent,
            server,
            seen,
        }
    }

    /// One more origin, with the same authority behind its certificate.
    pub(crate) fn another(&self, routes: Router) -> (CyclingServer, Seen) {
        origin(&self.pki, CyclingOptions::default(), routes)
    }

    pub(crate) fn token(&self) -> String {
        token_for(&self.agent)
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
        let file = |name: &str| self.file(name);
        let mut command = self.bare(subcommand);
        command
            .arg("--cert")
            .arg(file("agent.pem"))
            .arg("--key")
            .arg(file("agent-key.pem"))
            .arg("--cacert")
            .arg(file("ca.pem"));
        command
    }

    /// A file in the directory of this world.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.scratch.0.join(name)
    }

    /// `bowline egress` for this world's origin.
    pub(crate) fn egress(&self, more: &[&str]) -> Command {
        let mut command = self.bowline("egress");
        command.args(["--allow", &self.server.origin()]).args(more);
        command
    }

    /// The command without this world's certificate.
    pub(crate) fn bare(&self, subcommand: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
        command
            .arg(subcommand)
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

/// A token that is bound to a session of this certificate.
pub(crate) fn token_for(leaf: &Leaf) -> String {
    let cnf = serde_json::json!({
        "x5t#S256": leaf.thumbprint().to_string(),
        "tls_exp": bowline_proof::EXPORTER_LABEL,
    });
    EchoServer::token(&cnf)
}

fn origin(pki: &Pki, options: CyclingOptions, routes: Router) -> (CyclingServer, Seen) {
    let seen = Seen::default();
    let router = routes.merge(Router::new().fallback(any(echo)).with_state(seen.clone()));
    let server = CyclingServer::start(pki, options, router);
    (server, seen)
}

async fn echo(State(seen): State<Seen>, request: Request) -> Response {
    seen.note(request.headers());
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

/// A `bowline egress` that serves.
pub(crate) struct Service {
    child: Child,
    log: Arc<Mutex<String>>,
    /// Where it listens, as `--listen` has it.
    pub(crate) address: String,
}

impl Service {
    /// `command` is `bowline egress` with its options, without `--listen` on a port of its own.
    pub(crate) async fn on_port(command: &mut Command) -> Self {
        Self::start(command.args(["--listen", "127.0.0.1:0"])).await
    }

    pub(crate) async fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command runs");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let log: Arc<Mutex<String>> = Arc::default();
        let mut address = None;
        while let Some(line) = lines.next_line().await.expect("a line") {
            let found = line.split_once("listening on ");
            let found = found.and_then(|(_, rest)| rest.split_once(", for "));
            address = found.map(|(address, _)| address.to_owned());
            *log.lock().expect("the lock") += &format!("{line}\n");
            if address.is_some() {
                break;
            }
        }
        let kept = log.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                *kept.lock().expect("the lock") += &format!("{line}\n");
            }
        });
        let address = address.unwrap_or_else(|| panic!("{}", log.lock().expect("the lock")));
        Self {
            child,
            log,
            address,
        }
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("the lock").clone()
    }

    /// Waits until the log has this text so many times.
    pub(crate) async fn logs(&self, text: &str, times: usize) {
        let there = async {
            while self.log().matches(text).count() < times {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let there = tokio::time::timeout(Duration::from_secs(40), there).await;
        assert!(
            there.is_ok(),
            "not {times} times {text:?} in:\n{}",
            self.log()
        );
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id().expect("it runs")).expect("a process id");
        kill_process(Pid::from_raw(id).expect("a process id"), signal).expect("a signal");
    }

    /// Its resident memory.
    pub(crate) fn resident_kib(&self) -> u64 {
        crate::support::resident_kib(self.child.id().expect("it runs"))
    }

    /// Its exit status, once it has ended.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        self.child.wait().await.expect("it ends").code()
    }

    /// Ends it; what it has logged.
    pub(crate) async fn end(mut self) -> String {
        self.signal(Signal::TERM);
        self.ended().await;
        self.logs("agent connections in", 1).await;
        self.log()
    }

    /// A connection of an agent.
    pub(crate) async fn connect(&self) -> Box<dyn AgentIo> {
        match self.address.strip_prefix("unix:") {
            None => Box::new(TcpStream::connect(&self.address).await.expect("the egress")),
            Some(path) => {
                let address = match path.strip_prefix('@') {
                    Some(name) => SocketAddr::from_abstract_name(name),
                    None => SocketAddr::from_pathname(path),
                };
                let address = address.expect("an address");
                let stream = std::os::unix::net::UnixStream::connect_addr(&address);
                let stream = stream.expect("the egress");
                stream.set_nonblocking(true).expect("a socket");
                Box::new(UnixStream::from_std(stream).expect("a socket"))
            }
        }
    }

    /// Says something on a connection of its own and returns all that is answered until its end.
    pub(crate) async fn say(&self, request: &str) -> String {
        let mut io = self.connect().await;
        io.write_all(request.as_bytes()).await.expect("written");
        let mut answer = Vec::new();
        io.read_to_end(&mut answer).await.expect("an answer");
        String::from_utf8(answer).expect("UTF-8")
    }

    /// HTTP/2 without TLS, with prior knowledge.
    pub(crate) async fn h2c<B>(&self) -> SendRequest<B>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let io = TokioIo::new(self.connect().await);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io)
            .await
            .expect("HTTP/2");
        tokio::spawn(connection);
        sender
    }
}

pub(crate) trait AgentIo: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> AgentIo for T {}

/// A request with a token, on a connection of its own.
pub(crate) fn request(method: &str, target: &str, host: &str, token: &str) -> String {
    format!(
        "{method} {target} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\
         Connection: close\r\n\r\n"
    )
}

/// `HOST:PORT` of an origin.
pub(crate) fn authority(origin: &str) -> String {
    origin.trim_start_matches("https://").to_owned()
}
