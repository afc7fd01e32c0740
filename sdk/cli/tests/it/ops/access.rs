//! The access log.

use bowline_testkit::tls::Alpn;
use http::StatusCode;
use serde_json::Value;

use super::load::{H2, service};
use super::logs;
use crate::ingress::fixture::*;

/// The access lines that are JSON.
async fn lines(ingress: &Ingress, number: usize) -> Vec<Value> {
    logs(ingress, "\"message\":\"request\"", number).await;
    let log = ingress.log();
    let lines = log.lines().map(|line| serde_json::from_str(line).unwrap());
    lines
        .filter(|line: &Value| line["message"] == "request")
        .collect()
}

#[tokio::test]
async fn each_request_has_one_line_and_no_line_has_a_secret() {
    let scene = Scene::new();
    let options = ["--log-format", "json", "--public", "/open"];
    let upstream = Upstream::echo();
    let ingress = scene.start(&upstream, &options).await;
    let mut client = scene.connect(&ingress, Alpn::Http1).await;
    let token = scene.session_bound();
    let request = client
        .proved(&scene.agent, &token)
        .uri("/a/b?access=hidden");
    let answer = client.get(request).await;
    client
        .get(with_token(&token).uri("/c"))
        .await
        .assert_refused("RS-4");
    let open = http::Request::builder().uri("/open");
    assert_eq!(client.get(open).await.status, StatusCode::OK);
    let mut h2 = scene.connect(&ingress, Alpn::Http2).await;
    let head = h2.proved(&scene.agent, &token).method("HEAD").uri("/d");
    h2.get(head).await;
    let connect = http::Request::builder()
        .uri("/e")
        .header("upgrade", "websocket");
    client.get(connect).await;

    // Those of different connections may be written in any order.
    let mut lines = lines(&ingress, 5).await;
    lines.sort_by_key(|line| line["path"].to_string());
    let [passed, refused, head, own, public] = &lines[..] else {
        panic!("{lines:?}");
    };
    assert_eq!(passed["level"], "INFO");
    assert_eq!(passed["method"], "GET");
    assert_eq!(passed["path"], "/a/b");
    assert_eq!(passed["http"], "HTTP/1.1");
    assert_eq!(passed["status"], 200);
    assert_eq!(passed["class"], "session");
    assert_eq!(passed["bytes"], answer.text.len());
    assert!(passed["ms"].is_number() && passed["connection"].is_string());
    assert_eq!(passed["check"], Value::Null);
    assert_eq!(passed["cut"], Value::Null);
    assert_eq!(refused["status"], 401);
    assert_eq!(refused["class"], "none");
    assert_eq!(refused["check"], "proof_missing");
    assert_eq!(refused["id"], "RS-4");
    assert_eq!(public["class"], "public");
    assert_eq!(head["method"], "HEAD");
    assert_eq!(head["http"], "HTTP/2.0");
    assert_eq!(head["cut"], Value::Null);
    assert_eq!(own["check"], "websocket");
    assert_eq!(own["class"], "none");

    let log = ingress.log();
    let secret = token.authorization().to_str().unwrap()["Bearer ".len()..].to_owned();
    for hidden in [secret.as_str(), "hidden"] {
        assert!(!log.contains(hidden), "{hidden} in the log");
    }
}

#[tokio::test]
async fn a_request_that_only_passes_as_observed_names_its_check() {
    let scene = Scene::new();
    let options = ["--log-format", "json", "--observe"];
    let upstream = Upstream::echo();
    let ingress = scene.start(&upstream, &options).await;
    let mut client = scene.connect(&ingress, Alpn::Http1).await;
    let bearer = scene.bearer();
    assert_eq!(client.get(with_token(&bearer)).await.status, StatusCode::OK);
    let lines = lines(&ingress, 1).await;
    assert_eq!(lines[0]["class"], "none");
    assert_eq!(lines[0]["observed"], "refused");
    assert_eq!(lines[0]["id"], "RS-13");
}

#[tokio::test]
async fn a_request_that_its_client_gives_up_is_marked() {
    let scene = Scene::new();
    let (upstream, held) = service();
    let ingress = scene.start(&upstream, &["--log-format", "json"]).await;
    let mut client = H2::connect(&scene, &ingress).await;
    let request = tokio::spawn(async move { client.get("/held").await });
    held.arrived(1).await;
    request.abort();
    let lines = lines(&ingress, 1).await;
    assert_eq!(lines[0]["cut"], true);
    assert_eq!(lines[0]["status"], Value::Null);
}

#[tokio::test]
async fn for_people_a_line_is_plain_text() {
    let scene = Scene::new();
    let upstream = Upstream::echo();
    let ingress = scene.start(&upstream, &[]).await;
    let mut client = scene.connect(&ingress, Alpn::Http1).await;
    let request = client
        .proved(&scene.agent, &scene.session_bound())
        .uri("/a?b");
    client.get(request).await;
    let expected = "request method=GET path=/a http=HTTP/1.1 status=200 class=session bytes=";
    logs(&ingress, expected, 1).await;
}
