//! The command before a service of the test, and clients that control their connections.

mod client;
mod service;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline_proof::{AccessToken, ExporterValue, Proof, ProofClaims, ProofKey, RequestClaims};
use bowline_testkit::authority::{Authority, AuthorityOptions, TokenRequest};
use bowline_testkit::pki::{KeyKind, Leaf, Pki};
use bowline_testkit::tls::{Alpn, TlsOptions};
use bytes::Bytes;
use http::Method;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use rustls_pki_types::{ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) use self::client::{Answer, Arrived, Http, Raw, with_token};
pub(crate) use self::service::Upstream;

/// No test may depend on how long something takes; this only ends tests that hang.
pub(crate) const HANG: Duration = Duration::from_secs(40);

pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(HANG, future).await.expect("hangs")
}

pub(crate) const AUDIENCE: &str = "https://resource.example";

pub(crate) type TestBody = BoxBody<Bytes, std::convert::Infallible>;

pub(crate) fn whole(body: impl Into<Bytes>) -> TestBody {
    Full::new(body.into()).boxed()
}

/// Certificates, an authorization server, and a folder with the files of a configuration.
pub(crate) struct Scene {
    pub(crate) pki: Pki,
    pub(crate) agent: Leaf,
    /// Another client that is trusted.
    pub(crate) thief: Leaf,
    pub(crate) authority: Authority,
    folder: PathBuf,
}

impl Scene {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("bowline-{}-{number}", std::process::id()));
        let (pki, agent) = Pki::with_agent();
        let thief = pki.client("thief", KeyKind::P256);
        let server = pki.server(&["localhost"]);
        pki.write_to(&folder, &[]).unwrap();
        let files = server.write_to(&folder).unwrap();
        std::fs::rename(files.certificate, folder.join("server.pem")).unwrap();
        std::fs::rename(files.key, folder.join("server.key")).unwrap();
        let authority = Authority::start(&pki, AuthorityOptions::default());
        let scene = Self {
            pki,
            agent,
            thief,
            authority,
            folder,
        };
        scene.write("jwks.json", scene.authority.jwks().to_string());
        scene
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    /// A file that others cannot read.
    pub(crate) fn write_private(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        use std::os::unix::fs::PermissionsExt;
        let path = self.write(name, content);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// The command with what every ingress needs.
    pub(crate) fn command(&self, upstream: &str) -> Command {
        let mut command = self.command_without_listen(upstream);
        command.args(["--listen", "127.0.0.1:0"]);
        command
    }

    pub(crate) fn command_without_listen(&self, upstream: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
        command.args(["ingress", "--upstream", upstream]);
        for (option, file) in [
            ("--cert", "server.pem"),
            ("--key", "server.key"),
            ("--client-ca", "ca.pem"),
        ] {
            command.arg(option).arg(self.path(file));
        }
        command
    }

    /// Options by which JWTs of the authority are validated.
    pub(crate) fn jwt_options(&self) -> Vec<String> {
        let jwks = self.path("jwks.json").display().to_string();
        let issuer = self.authority.issuer();
        ["--jwks", &jwks, "--issuer", issuer, "--audience", AUDIENCE]
            .map(str::to_owned)
            .to_vec()
    }

    /// An ingress that validates JWTs, with these options too.
    pub(crate) async fn start(&self, upstream: &Upstream, options: &[&str]) -> Ingress {
        let jwt = self.jwt_options();
        let options = jwt
            .iter()
            .map(String::as_str)
            .chain(options.iter().copied());
        self.start_with(&upstream.url(), &options.collect::<Vec<_>>())
            .await
    }

    pub(crate) async fn start_with(&self, upstream: &str, options: &[&str]) -> Ingress {
        let mut command = self.command(upstream);
        command.args(options);
        within(Ingress::spawn(command)).await
    }

    pub(crate) fn token(&self, request: &TokenRequest) -> AccessToken {
        AccessToken::new(self.authority.issue(request)).unwrap()
    }

    /// A certificate-bound token of the agent, as today's authorization servers issue them.
    pub(crate) fn certificate_bound(&self) -> AccessToken {
        self.token(&TokenRequest::certificate_bound(
            "agent",
            self.agent.thumbprint(),
        ))
    }

    pub(crate) fn session_bound(&self) -> AccessToken {
        self.token(&TokenRequest::session_bound(
            "agent",
            self.agent.thumbprint(),
        ))
    }

    pub(crate) fn bearer(&self) -> AccessToken {
        self.token(&TokenRequest::bearer("agent"))
    }

    pub(crate) async fn tls(
        &self,
        ingress: &Ingress,
        identity: Option<&Leaf>,
        alpn: Alpn,
    ) -> TlsStream<TcpStream> {
        let config = TlsOptions::alpn(alpn).client(&self.pki, identity);
        let tcp = TcpStream::connect(ingress.addr).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        within(TlsConnector::from(config).connect(name, tcp))
            .await
            .unwrap()
    }

    /// A connection of the agent, and a proof of this token on it.
    pub(crate) async fn connect(&self, ingress: &Ingress, alpn: Alpn) -> Http {
        self.connect_as(ingress, Some(&self.agent), alpn).await
    }

    pub(crate) async fn connect_as(
        &self,
        ingress: &Ingress,
        identity: Option<&Leaf>,
        alpn: Alpn,
    ) -> Http {
        Http::over(self.tls(ingress, identity, alpn).await).await
    }

    /// Bytes on a connection of the agent, over HTTP/1.1.
    pub(crate) async fn raw(&self, ingress: &Ingress) -> Raw {
        Raw::over(self.tls(ingress, Some(&self.agent), Alpn::Http1).await)
    }

    /// The fields of a request by the agent that passes on a raw connection.
    pub(crate) fn credentials(&self, raw: &Raw) -> String {
        let token = self.session_bound();
        let proof = proof(&self.agent, &token, &raw.exporter);
        let authorization = token.authorization().to_str().unwrap().to_owned();
        let proof = proof.header_value().to_str().unwrap().to_owned();
        format!("Authorization: {authorization}\r\nSession-Binding-Proof: {proof}\r\n")
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A reusable proof.
pub(crate) fn proof(leaf: &Leaf, token: &AccessToken, exporter: &ExporterValue) -> Proof {
    proof_for(leaf, token, exporter, None)
}

/// For one request, if there is one.
pub(crate) fn proof_for(
    leaf: &Leaf,
    token: &AccessToken,
    exporter: &ExporterValue,
    request: Option<(Method, &str)>,
) -> Proof {
    let request =
        request.map(|(method, uri)| RequestClaims::new(&method, &uri.parse().unwrap()).unwrap());
    let key = ProofKey::new(leaf.certificate(), leaf.signing_key()).unwrap();
    let claims = ProofClaims {
        token: token.hash(),
        exporter,
        issued_at: UnixTime::now(),
        request,
    };
    key.mint(&claims).unwrap()
}

/// The command, running. Dropping it ends it.
pub(crate) struct Ingress {
    pub(crate) addr: SocketAddr,
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Ingress {
    pub(crate) async fn spawn(command: Command) -> Self {
        Self::spawn_logging(command, "info,bowline=debug,bowline_server=debug").await
    }

    pub(crate) async fn spawn_logging(mut command: Command, level: &str) -> Self {
        command
            .args(["--log-level", level])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command runs");
        let stderr = child.stderr.take().expect("a pipe");
        let log: Arc<Mutex<String>> = Arc::default();
        let (found, address) = tokio::sync::oneshot::channel();
        let kept = log.clone();
        std::thread::spawn(move || {
            let mut found = Some(found);
            for line in BufReader::new(stderr).lines() {
                let Ok(line) = line else { return };
                let at = line.split("listening on ").nth(1);
                let at = at.and_then(|rest| rest.split([' ', '"']).next()?.parse().ok());
                if let Some(found) = at.and_then(|at| Some((found.take()?, at))) {
                    let _ = found.0.send(found.1);
                }
                let mut kept = kept.lock().unwrap();
                kept.push_str(&line);
                kept.push('\n');
            }
        });
        let addr = address.await.unwrap_or_else(|_| {
            panic!("it does not start:\n{}", log.lock().unwrap());
        });
        Self { addr, child, log }
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until the log has this text.
    pub(crate) async fn logs(&self, text: &str) {
        let there = async {
            while !self.log().contains(text) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let there = tokio::time::timeout(HANG, there).await;
        assert!(there.is_ok(), "no {text:?} in:\n{}", self.log());
    }

    /// Sends it a signal, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Waits for its end; the exit status.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        within(async {
            loop {
                if let Some(status) = self.child.try_wait().expect("a child") {
                    return status.code();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
    }

    /// Its resident memory.
    pub(crate) fn resident_kib(&self) -> u64 {
        crate::support::resident_kib(self.child.id())
    }

    pub(crate) fn origin(&self) -> String {
        format!("https://localhost:{}", self.addr.port())
    }
}

impl Drop for Ingress {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
