//! `--admin`.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;

use bowline_testkit::tls::Alpn;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::logs;
use crate::ingress::fixture::*;

/// The admin listener on a Unix socket.
pub(crate) struct Admin {
    pub(crate) path: PathBuf,
}

impl Admin {
    pub(crate) fn in_(scene: &Scene) -> Self {
        Self {
            path: scene.path("admin.sock"),
        }
    }

    pub(crate) fn option(&self) -> String {
        format!("unix:{}", self.path.display())
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, String) {
        let stream = UnixStream::connect(&self.path).await.expect("it listens");
        let (status, _, text) = ask(stream, "GET", path, "localhost").await;
        (status, text)
    }

    /// Waits until the metrics have this line.
    pub(crate) async fn counts(&self, line: &str) {
        let mut last = String::new();
        let there = async {
            loop {
                last = self.get("/metrics").await.1;
                if last.contains(line) {
                    return;
                }
            }
        };
        let there = tokio::time::timeout(HANG, there).await;
        assert!(there.is_ok(), "no {line} in:\n{last}");
    }

    pub(crate) async fn stats(&self) -> Value {
        let (status, text) = self.get("/stats").await;
        assert_eq!(status, StatusCode::OK);
        serde_json::from_str(&text).expect("JSON")
    }
}

async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    method: &str,
    path: &str,
    host: &str,
) -> (StatusCode, HeaderMap, String) {
    let (mut sender, driver) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(async { drop(driver.await) });
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", host)
        .body(Empty::<bytes::Bytes>::new())
        .unwrap();
    let response = within(sender.send_request(request)).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = within(body.collect()).await.unwrap().to_bytes();
    let text = String::from_utf8(body.to_vec()).unwrap();
    (parts.status, parts.headers, text)
}

#[tokio::test]
async fn on_a_socket_its_owner_learns_everything() {
    let scene = Scene::new();
    let admin = Admin::in_(&scene);
    let upstream = Upstream::echo();
    let ingress = scene.start(&upstream, &["--admin", &admin.option()]).await;
    let mut client = scene.connect(&ingress, Alpn::Http2).await;
    let token = scene.session_bound();
    for _ in 0..3 {
        let request = client.proved(&scene.agent, &token);
        assert_eq!(client.get(request).await.status, StatusCode::OK);
    }
    client.get(with_token(&token)).await.assert_refused("RS-4");

    let metadata = std::fs::metadata(&admin.path).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o600);
    assert_eq!(
        admin.get("/healthz").await,
        (StatusCode::OK, "ok\n".to_owned())
    );
    assert_eq!(
        admin.get("/readyz").await,
        (StatusCode::OK, "ready\n".to_owned())
    );
    // A request is counted when its response has been sent, so perhaps a moment from now.
    for expected in [
        "bowline_server_refusals_total{check=\"proof_missing\",id=\"RS-4\"} 1\n",
        "bowline_ingress_requests_total{status=\"200\",class=\"session\"} 3\n",
        "bowline_ingress_requests_total{status=\"401\",class=\"none\"} 1\n",
        "bowline_ingress_request_seconds_bucket{le=\"+Inf\"} 4\n",
        "bowline_ingress_requests_in_flight 0\n",
        "bowline_ingress_ready 1\n",
    ] {
        admin.counts(expected).await;
    }
    let stats = admin.stats().await;
    assert_eq!(stats["ready"], true);
    assert_eq!(stats["observe"], false);
    assert_eq!(stats["policy"], "require-proof");
    let requests = &stats["metrics"]["bowline_ingress_requests_total"];
    let passed = requests.as_array().unwrap().iter();
    let passed = passed.filter(|sample| sample["labels"]["class"] == "session");
    assert_eq!(
        passed
            .map(|sample| sample["value"].as_u64())
            .collect::<Vec<_>>(),
        [Some(3)]
    );

    assert_eq!(admin.get("/").await.0, StatusCode::NOT_FOUND);
    assert_eq!(admin.get("/metrics/").await.0, StatusCode::NOT_FOUND);
    let stream = UnixStream::connect(&admin.path).await.unwrap();
    let (status, headers, _) = ask(stream, "POST", "/metrics", "localhost").await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(headers["allow"], "GET");
}

#[tokio::test]
async fn the_sockets_mode_does_not_depend_on_the_umask() {
    let scene = Scene::new();
    let admin = Admin::in_(&scene);
    let upstream = Upstream::echo();
    let mut command = Command::new("sh");
    command.args(["-c", "umask 000; exec \"$@\"", "sh"]);
    let bowline = scene.command(&upstream.url());
    command.arg(bowline.get_program()).args(bowline.get_args());
    command
        .args(scene.jwt_options())
        .args(["--admin", &admin.option()]);
    let _ingress = within(Ingress::spawn(command)).await;
    let mode = std::fs::metadata(&admin.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
}

#[tokio::test]
async fn a_socket_that_was_left_is_replaced_and_nothing_else() {
    let scene = Scene::new();
    let admin = Admin::in_(&scene);
    drop(std::os::unix::net::UnixListener::bind(&admin.path).unwrap());
    let upstream = Upstream::echo();
    let ingress = scene.start(&upstream, &["--admin", &admin.option()]).await;
    assert_eq!(admin.get("/readyz").await.0, StatusCode::OK);
    // One that is in use.
    let second = |admin: &str| {
        let mut command = scene.command(&upstream.url());
        command.args(scene.jwt_options()).args(["--admin", admin]);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let message = second(&admin.option());
    assert!(
        message.contains("another process listens there"),
        "{message}"
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let message = second(&taken.local_addr().unwrap().to_string());
    assert!(
        message.contains("another process listens there"),
        "{message}"
    );
    assert_eq!(admin.get("/readyz").await.0, StatusCode::OK);
    drop(ingress);
    // A file of another kind.
    let message = second(&format!("unix:{}", scene.write("kept", "kept")));
    assert!(message.contains("is no socket"), "{message}");
    assert_eq!(std::fs::read_to_string(scene.path("kept")).unwrap(), "kept");
}

/// Where the admin listener of this ingress is.
async fn port(ingress: &Ingress) -> u16 {
    logs(ingress, "admin: serving on ", 1).await;
    let log = ingress.log();
    let address = log.split("admin: serving on ").nth(1).unwrap();
    let port = address.lines().next().unwrap().rsplit(':').next().unwrap();
    port.parse().unwrap()
}

async fn over_tcp(port: u16, method: &str, path: &str, host: &str) -> StatusCode {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    ask(stream, method, path, host).await.0
}

#[tokio::test]
async fn on_loopback_the_host_is_checked_and_there_are_no_stats() {
    let scene = Scene::new();
    let upstream = Upstream::echo();
    let ingress = scene.start(&upstream, &["--admin", "127.0.0.1:0"]).await;
    let port = port(&ingress).await;
    let (own, rebound) = (format!("localhost:{port}"), format!("evil.example:{port}"));
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(over_tcp(port, "GET", path, &own).await, StatusCode::OK);
        let refused = over_tcp(port, "GET", path, &rebound).await;
        assert_eq!(refused, StatusCode::MISDIRECTED_REQUEST);
    }
    assert_eq!(over_tcp(port, "GET", "/metrics", "localhost").await, 421);
    assert_eq!(
        over_tcp(port, "GET", "/stats", &own).await,
        StatusCode::NOT_FOUND
    );
    assert!(!ingress.log().contains("from other machines"));
}

#[tokio::test]
async fn beyond_loopback_there_is_what_probes_need_and_the_log_says_so() {
    let scene = Scene::new();
    let upstream = Upstream::echo();
    let ingress = scene.start(&upstream, &["--admin", "0.0.0.0:0"]).await;
    let port = port(&ingress).await;
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(
            over_tcp(port, "GET", path, "pod.example").await,
            StatusCode::OK
        );
        for method in ["POST", "HEAD", "DELETE"] {
            let status = over_tcp(port, method, path, "pod.example").await;
            assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
        }
    }
    for path in ["/stats", "/", "/debug"] {
        assert_eq!(
            over_tcp(port, "GET", path, "pod.example").await,
            StatusCode::NOT_FOUND
        );
    }
    assert!(ingress.log().contains("can be reached from other machines"));
}
