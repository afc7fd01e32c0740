//! The command before a service of the test, and clients that control their connections.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline_proof::{
    AccessToken, ExporterValue, PROOF_HEADER, Proof, ProofClaims, ProofKey, RequestClaims,
};
use bowline_testkit::authority::{Authority, AuthorityOptions, TokenRequest};
use bowline_testkit::net::{accept_loop, loopback};
use bowline_testkit::pki::{KeyKind, Leaf, Pki};
use bowline_testkit::tls::{Alpn, TlsOptions};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::{ServerName, UnixTime};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

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
        let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
        command
            .arg("ingress")
            .args(["--listen", "127.0.0.1:0", "--upstream", upstream]);
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
    pub(crate) async fn spawn(mut command: Command) -> Self {
        command
            .args(["--log-level", "info,bowline=debug,bowline_server=debug"])
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

/// The service behind.
pub(crate) struct Upstream {
    at: At,
    requests: Arc<AtomicUsize>,
    _serving: Box<dyn std::any::Any + Send + Sync>,
}

enum At {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Upstream {
    /// It answers with what has arrived.
    pub(crate) fn echo() -> Self {
        Self::start(echo)
    }

    pub(crate) fn start<F>(
        answer: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response<TestBody>> + Send + 'static,
    {
        let listener = loopback();
        let at = At::Tcp(listener.local_addr().unwrap());
        let requests: Arc<AtomicUsize> = Arc::default();
        let count = requests.clone();
        let serving = accept_loop(listener, move |tcp| {
            serve(tcp, count.clone(), answer.clone(), false)
        });
        Self {
            at,
            requests,
            _serving: Box::new(serving),
        }
    }

    /// The same over HTTP/2.
    pub(crate) fn echo_h2c() -> Self {
        let listener = loopback();
        let at = At::Tcp(listener.local_addr().unwrap());
        let requests: Arc<AtomicUsize> = Arc::default();
        let count = requests.clone();
        let serving = accept_loop(listener, move |tcp| serve(tcp, count.clone(), echo, true));
        Self {
            at,
            requests,
            _serving: Box::new(serving),
        }
    }

    /// The same on a Unix socket.
    pub(crate) fn echo_unix(scene: &Scene) -> Self {
        let path = scene.path("app.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let requests: Arc<AtomicUsize> = Arc::default();
        let count = requests.clone();
        let mut serving = tokio::task::JoinSet::new();
        serving.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, count.clone(), echo, false));
            }
        });
        Self {
            at: At::Unix(path),
            requests,
            _serving: Box::new(serving),
        }
    }

    pub(crate) fn url(&self) -> String {
        match &self.at {
            At::Tcp(addr) => format!("http://{addr}"),
            At::Unix(path) => format!("unix:{}", path.display()),
        }
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

async fn serve<IO, F>(
    io: IO,
    count: Arc<AtomicUsize>,
    answer: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    h2: bool,
) where
    IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = Response<TestBody>> + Send + 'static,
{
    let service = service_fn(move |request| {
        count.fetch_add(1, Ordering::SeqCst);
        let response = answer(request);
        async move { Ok::<_, std::convert::Infallible>(response.await) }
    });
    let io = TokioIo::new(io);
    let _ = match h2 {
        true => {
            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(io, service)
                .await
        }
        false => {
            hyper::server::conn::http1::Builder::new()
                .serve_connection(io, service)
                .await
        }
    };
}

async fn echo(request: Request<Incoming>) -> Response<TestBody> {
    let (parts, body) = request.into_parts();
    let fields = |headers: &HeaderMap| -> Vec<Value> {
        headers
            .iter()
            .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
            .collect()
    };
    let (text, trailers) = match body.collect().await {
        Ok(body) => {
            let trailers = body.trailers().map(fields).unwrap_or_default();
            let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
            (text, trailers)
        }
        Err(_) => ("broken".to_owned(), Vec::new()),
    };
    let report = json!({
        "method": parts.method.as_str(),
        "target": parts.uri.to_string(),
        "fields": fields(&parts.headers),
        "body": text,
        "trailers": trailers,
    });
    Response::new(whole(report.to_string()))
}

/// An HTTP client on one connection.
pub(crate) struct Http {
    sender: Sender,
    pub(crate) exporter: ExporterValue,
}

enum Sender {
    H1(http1::SendRequest<TestBody>),
    H2(http2::SendRequest<TestBody>),
}

impl Http {
    pub(crate) async fn over(stream: TlsStream<TcpStream>) -> Self {
        let exporter = ExporterValue::derive(stream.get_ref().1).unwrap();
        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let io = TokioIo::new(stream);
        let sender = if h2 {
            let (sender, driver) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
            tokio::spawn(async { drop(driver.await) });
            Sender::H2(sender)
        } else {
            let (sender, driver) = http1::handshake(io).await.unwrap();
            tokio::spawn(async { drop(driver.await) });
            Sender::H1(sender)
        };
        Self { sender, exporter }
    }

    /// Sends a request whose target is a path; `Host` or `:authority` is `localhost`.
    pub(crate) async fn send(
        &mut self,
        mut request: Request<TestBody>,
    ) -> hyper::Result<Response<Incoming>> {
        match &mut self.sender {
            Sender::H1(sender) => {
                let headers = request.headers_mut();
                headers
                    .entry("host")
                    .or_insert_with(|| "localhost".parse().unwrap());
                within(sender.ready()).await?;
                within(sender.send_request(request)).await
            }
            Sender::H2(sender) => {
                let uri = format!("https://localhost{}", request.uri());
                *request.uri_mut() = uri.parse().unwrap();
                within(sender.ready()).await?;
                within(sender.send_request(request)).await
            }
        }
    }

    /// A request with this token and a proof of `leaf` on this connection.
    pub(crate) fn proved(&self, leaf: &Leaf, token: &AccessToken) -> http::request::Builder {
        let proof = proof(leaf, token, &self.exporter);
        with_token(token).header(PROOF_HEADER, proof.header_value())
    }

    pub(crate) async fn get(&mut self, request: http::request::Builder) -> Answer {
        let request = request.body(whole("")).unwrap();
        Answer::read(self.send(request).await.unwrap()).await
    }

    pub(crate) async fn post(&mut self, request: http::request::Builder, body: &str) -> Answer {
        let request = request.method("POST").body(whole(body.to_owned()));
        Answer::read(self.send(request.unwrap()).await.unwrap()).await
    }
}

pub(crate) fn with_token(token: &AccessToken) -> http::request::Builder {
    Request::builder()
        .uri("/")
        .header("authorization", token.authorization())
}

/// A response, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) async fn read(response: Response<Incoming>) -> Self {
        let (parts, body) = response.into_parts();
        let body = within(body.collect()).await.expect("a whole body");
        Self {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        }
    }

    /// What arrived at [`Upstream::echo`].
    pub(crate) fn arrived(&self) -> Arrived {
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        Arrived(serde_json::from_str(&self.text).unwrap())
    }

    /// The challenge names the check with this id.
    pub(crate) fn assert_refused(&self, id: &str) {
        let challenge = self
            .headers
            .get("www-authenticate")
            .map(|value| value.to_str().unwrap())
            .unwrap_or_default();
        assert_eq!(self.status, StatusCode::UNAUTHORIZED, "{self:?}");
        assert!(
            challenge.contains(&format!("error_description=\"{id}: ")),
            "{self:?}"
        );
    }
}

#[derive(Debug)]
pub(crate) struct Arrived(pub(crate) Value);

impl Arrived {
    /// All values of a field.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let fields = self.0["fields"].as_array().unwrap().iter();
        fields
            .filter(|field| field[0] == name)
            .map(|field| field[1].as_str().unwrap())
            .collect()
    }

    pub(crate) fn one(&self, name: &str) -> &str {
        match self.all(name)[..] {
            [one] => one,
            ref other => panic!("{name}: {other:?} in {self:?}"),
        }
    }
}

/// Bytes over TLS.
pub(crate) struct Raw {
    pub(crate) stream: TlsStream<TcpStream>,
    pub(crate) exporter: ExporterValue,
    buffer: Vec<u8>,
}

impl Raw {
    pub(crate) fn over(stream: TlsStream<TcpStream>) -> Self {
        let exporter = ExporterValue::derive(stream.get_ref().1).unwrap();
        Self {
            stream,
            exporter,
            buffer: Vec::new(),
        }
    }

    pub(crate) async fn write(&mut self, text: impl AsRef<[u8]>) {
        // An answer may come, and the connection close, before all is written.
        let _ = within(self.stream.write_all(text.as_ref())).await;
        let _ = within(self.stream.flush()).await;
    }

    /// Reads until `text` has come; what stood before it.
    pub(crate) async fn until(&mut self, text: &str) -> Option<String> {
        loop {
            let found = self
                .buffer
                .windows(text.len())
                .position(|window| window == text.as_bytes());
            if let Some(at) = found {
                let rest = self.buffer.split_off(at + text.len());
                let before = std::mem::replace(&mut self.buffer, rest);
                return Some(String::from_utf8_lossy(&before[..at]).into_owned());
            }
            match within(self.stream.read_buf(&mut self.buffer)).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The status and the fields of the next response, whose body is read and thrown away if it has
    /// a length. `None`: the connection was closed.
    pub(crate) async fn response(&mut self) -> Option<(u16, String)> {
        let head = self.until("\r\n\r\n").await?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let lower = head.to_ascii_lowercase();
        let length = lower
            .split("content-length: ")
            .nth(1)
            .and_then(|rest| rest.lines().next()?.trim().parse::<usize>().ok());
        if let Some(length) = length {
            while self.buffer.len() < length {
                match within(self.stream.read_buf(&mut self.buffer)).await {
                    Ok(0) | Err(_) => return None,
                    Ok(_) => {}
                }
            }
            self.buffer.drain(..length);
        } else if lower.contains("transfer-encoding: chunked") {
            self.until("0\r\n\r\n").await?;
        }
        Some((status, head))
    }

    /// Whether the peer closes without a further byte.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.buffer.is_empty()
            && matches!(
                within(self.stream.read_buf(&mut self.buffer)).await,
                Ok(0) | Err(_)
            )
    }
}
