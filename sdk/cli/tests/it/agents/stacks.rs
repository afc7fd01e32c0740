//! The agents, each unmodified: what it did, and what that cost.

use std::path::{Path, PathBuf};
use std::process::Command;

use bowline_testkit::peers::{PlainServer, forward_with_grpc};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::site::{Agent, HOST, Peer, Row, Site, conformance};
use crate::ingress::fixture::{Scene, TestBody, Upstream, whole};
use crate::oidc::node;

/// PyPI `mcp`, on both revisions of the protocol.
pub(super) async fn mcp_of_pypi(options: &[&str]) -> Vec<Row> {
    let server = Peer::python("mcp_server.py", &[HOST]);
    let site = Site::before(&format!("http://{}", server.ports[0]), &[]).await;
    let mut rows = Vec::new();
    for mode in ["legacy", "auto"] {
        let agent = Agent::program("python3", "mcp_client.py", &[mode]);
        let row = site.row(options, &agent).await;
        assert!(row.requests > 100, "{row:?}");
        rows.push(row.with_one_connection_and_one_signature());
    }
    rows
}

/// npm `@modelcontextprotocol/sdk`.
pub(super) async fn mcp_of_npm(options: &[&str]) -> Vec<Row> {
    let server = Peer::python("mcp_server.py", &[HOST]);
    let site = Site::before(&format!("http://{}", server.ports[0]), &[]).await;
    let node = node(&conformance()).display().to_string();
    let agent = Agent::program(&node, "mcp_client.mjs", &[]);
    let row = site.row(options, &agent).await;
    assert!(row.requests > 100, "{row:?}");
    vec![row.with_one_connection_and_one_signature()]
}

/// PyPI `a2a-sdk`, over each binding, with a card whose signature it verifies.
pub(super) async fn a2a_of_pypi(options: &[&str]) -> Vec<Row> {
    let scene = Scene::new();
    let key = scene.path("card-key.pem").display().to_string();
    let server = Peer::python("a2a_server.py", &[HOST, &key]);
    let front = PlainServer::start(forward_with_grpc(server.ports[0], server.ports[1]));
    let site = Site::with(scene, &front.origin(), &["--upstream-h2c"]).await;
    let mut rows = Vec::new();
    for binding in ["JSONRPC", "HTTP+JSON", "GRPC"] {
        let agent = Agent::program("python3", "a2a_client.py", &[binding]);
        let row = site
            .row(options, &agent.variable("AGENT_CARD_KEY", &key))
            .await;
        // The card, and the messages.
        assert_eq!(row.requests, 11, "{row:?}");
        rows.push(row.with_one_connection_and_one_signature());
    }
    rows
}

/// A `curl` for each request.
pub(super) async fn curl(options: &[&str]) -> Vec<Row> {
    let upstream = Upstream::echo();
    let site = Site::before(&upstream.url(), &[]).await;
    let script = r#"
        set -e
        for number in 0 1 2 3 4 5 6 7 8 9; do
            curl -sS -f -o /dev/null -H "Authorization: Bearer $AGENT_TOKEN" "$AGENT_URL/$number"
        done
        curl --version | head -n 1 | cut -d ' ' -f 1-2"#;
    let row = site.row(options, &Agent::new(&["sh", "-c", script])).await;
    assert_eq!((row.requests, row.agent_connections), (10, 10), "{row:?}");
    vec![row.with_one_connection_and_one_signature()]
}

/// `git clone` of a repository that is served as files.
pub(super) async fn git(options: &[&str]) -> Vec<Row> {
    let scene = Scene::new();
    let folder = scene.path("");
    repository(&folder);
    let upstream = {
        let root = folder.clone();
        Upstream::start(move |request| file(root.clone(), request))
    };
    let site = Site::with(scene, &upstream.url(), &[]).await;
    let script = r#"
        set -e
        git -c http.extraHeader="Authorization: Bearer $AGENT_TOKEN" clone -q "$AGENT_URL/bare.git" "$CLONE"
        git -C "$CLONE" fsck --full
        git -C "$CLONE" show HEAD:file | cmp - "$CLONE/../work/file"
        git --version"#;
    let agent = Agent::new(&["sh", "-c", script])
        .variable("CLONE", folder.join("clone").display())
        .variable("HOME", folder.display())
        .variable("GIT_CONFIG_NOSYSTEM", 1);
    let row = site.row(options, &agent).await;
    vec![row.with_one_connection_and_one_signature()]
}

/// A repository `bare.git` of one file, `work/file`, prepared for `git` over plain files.
fn repository(folder: &Path) {
    let work = folder.join("work");
    let bare = folder.join("bare.git");
    std::fs::create_dir(&work).expect("a folder");
    let text: String = (0..100_000).map(|number| format!("{number}\n")).collect();
    std::fs::write(work.join("file"), text).expect("a file");
    let git = |place: &Path, arguments: &[&str]| {
        let status = Command::new("git")
            .arg("-C")
            .arg(place)
            .args([
                "-c",
                "user.name=agent",
                "-c",
                "user.email=agent@tools.example",
            ])
            .args(arguments)
            .env("HOME", folder)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .status();
        assert!(status.expect("git is missing").success(), "{arguments:?}");
    };
    git(&work, &["init", "-q", "-b", "main"]);
    git(&work, &["add", "file"]);
    git(&work, &["commit", "-q", "-m", "A file"]);
    git(folder, &["clone", "-q", "--bare", "work", "bare.git"]);
    git(&bare, &["repack", "-q", "-a", "-d"]);
    git(&bare, &["update-server-info"]);
}

async fn file(root: PathBuf, request: Request<Incoming>) -> Response<TestBody> {
    let path = request.uri().path().trim_start_matches('/');
    match std::fs::read(root.join(path)) {
        Ok(bytes) => Response::new(whole(bytes)),
        Err(_) => status(StatusCode::NOT_FOUND),
    }
}

fn status(status: StatusCode) -> Response<TestBody> {
    let mut response = Response::new(whole(""));
    *response.status_mut() = status;
    response
}

/// PyPI `openai` with another base URL.
pub(super) async fn openai(options: &[&str]) -> Vec<Row> {
    let upstream = Upstream::start(completion);
    let site = Site::before(&upstream.url(), &[]).await;
    let agent = Agent::program("python3", "openai_client.py", &[]);
    let row = site.row(options, &agent).await;
    assert_eq!(row.requests, 10, "{row:?}");
    vec![row.with_one_connection_and_one_signature()]
}

async fn completion(request: Request<Incoming>) -> Response<TestBody> {
    let body = request.into_body().collect().await.expect("a body");
    let asked: serde_json::Value = serde_json::from_slice(&body.to_bytes()).expect("JSON");
    let answer = |object: &str, part: &str, text: &str| {
        let choice = serde_json::json!({
            "index": 0, "finish_reason": "stop", part: { "role": "assistant", "content": text },
        });
        serde_json::json!({
            "id": "1", "object": object, "created": 1, "model": "stub", "choices": [choice],
        })
    };
    let (content_type, text) = match asked["stream"].as_bool() {
        Some(true) => {
            let events = ["ahoy ", "back"]
                .map(|text| answer("chat.completion.chunk", "delta", text))
                .map(|chunk| format!("data: {chunk}\n\n"));
            ("text/event-stream", events.concat() + "data: [DONE]\n\n")
        }
        _ => {
            let whole = answer("chat.completion", "message", "ahoy back");
            ("application/json", whole.to_string())
        }
    };
    let response = Response::builder().header("content-type", content_type);
    response.body(whole(text)).expect("a response")
}

/// Go's `net/http`.
pub(super) async fn go(options: &[&str]) -> Vec<Row> {
    let upstream = Upstream::echo();
    let site = Site::before(&upstream.url(), &[]).await;
    let program = site.scene.path("agent").display().to_string();
    let built = Command::new("go")
        .args(["build", "-o", &program, "."])
        .current_dir(conformance().join("go"))
        .status();
    assert!(built.expect("go is missing: run `just agents`").success());
    let row = site.row(options, &Agent::new(&[&program])).await;
    assert_eq!(row.requests, 10, "{row:?}");
    vec![row.with_one_connection_and_one_signature()]
}

/// Java's `java.net.http`: not without `--java`.
pub(super) async fn java() -> Vec<Row> {
    let upstream = Upstream::echo();
    let site = Site::before(&upstream.url(), &[]).await;
    let agent = Agent::program("java", "Agent.java", &[]);
    let output = site.run(&[], &agent).await;
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{told}");
    assert!(told.contains("--java tells them in another way"), "{told}");
    assert!(
        told.contains("no request to an allowed origin came through"),
        "{told}"
    );
    let row = site.row(&["--java"], &agent).await;
    assert_eq!(row.requests, 10, "{row:?}");
    vec![row.with_one_connection_and_one_signature()]
}
