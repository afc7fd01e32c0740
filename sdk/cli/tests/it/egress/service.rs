//! `bowline egress` as a service: reload, drain, admin, access lines, and the authority that it keeps.

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use bowline_testkit::pki::{KeyKind, Leaf, LeafSpec, Pki};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;

use super::intercepted::{careful, connect, read_head, tls};
use crate::agents::{Service, World, authority, request, token_for};
use crate::ops::admin::Admin;
use crate::support::replace_file;

const RELOADED: &str = " INFO reloaded (a file has changed)";
const REFUSED: &str = "not reloaded (a file has changed), the former configuration stays in use";

fn logging(command: &mut tokio::process::Command) -> &mut tokio::process::Command {
    command.env("BOWLINE_LOG_LEVEL", "info")
}

async fn status(service: &Service, origin: &str, token: &str) -> String {
    let host = authority(origin);
    let request = request("GET", &format!("http://{host}/"), &host, token);
    service.say(&request).await[9..12].to_owned()
}

/// One after the other, as most tools write them: what is read in between does not fit together.
fn write_identity(world: &World, leaf: &Leaf) {
    replace_file(&world.file("agent-key.pem"), leaf.key_pem());
    replace_file(&world.file("agent.pem"), leaf.chain_pem());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_comes_into_use_and_tokens_of_the_one_before_still_work() {
    let world = World::new("service-certificate");
    let origin = world.server.origin();
    let service = Service::on_port(logging(&mut world.egress(&[]))).await;
    assert_eq!(status(&service, &origin, &world.token()).await, "200");
    let renewed = world.pki.client("agent", KeyKind::P256);
    let new_token = token_for(&renewed);
    assert_eq!(
        status(&service, &origin, &new_token).await,
        "502",
        "not held yet"
    );
    write_identity(&world, &renewed);
    service.logs(RELOADED, 1).await;
    assert_eq!(status(&service, &origin, &new_token).await, "200");
    // CL-8.
    assert_eq!(status(&service, &origin, &world.token()).await, "200");
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_changes_nothing_and_is_named() {
    let world = World::new("service-refused");
    let origin = world.server.origin();
    let file = world.file("egress.toml");
    replace_file(&file, "proof-scope = \"connection\"\n");
    let mut command = world.egress(&["--config"]);
    let service = Service::on_port(logging(command.arg(&file))).await;
    let foreign = Pki::foreign().client("agent", KeyKind::P256);
    let expired = world.pki.issue(&LeafSpec::client("agent").expired());
    let good = |name: &str| std::fs::read(world.file(name)).expect("a file");
    let cases = [
        ("agent.pem", "no certificate".to_owned(), "agent.pem"),
        ("agent.pem", foreign.chain_pem().to_owned(), "agent.pem"),
        ("agent.pem", expired.chain_pem().to_owned(), "agent.pem"),
        ("agent-key.pem", "no key".to_owned(), "agent-key.pem"),
        ("ca.pem", String::new(), "ca.pem"),
        (
            "egress.toml",
            "prof-scope = \"x\"\n".to_owned(),
            "did you mean `proof-scope`",
        ),
        (
            "egress.toml",
            "[[origin]]\nurl = \"x\"\n".to_owned(),
            "begins with https://",
        ),
        (
            "egress.toml",
            "upstream = \"https://a.example\"\n".to_owned(),
            "--upstream",
        ),
    ];
    for (number, (name, content, reason)) in cases.into_iter().enumerate() {
        let kept = good(name);
        replace_file(&world.file(name), content);
        service.logs(REFUSED, number + 1).await;
        let log = service.log();
        let line = log
            .lines()
            .rfind(|line| line.contains(REFUSED))
            .expect("a line");
        assert!(line.contains(reason) && line.contains("ERROR"), "{line}");
        assert_eq!(
            status(&service, &origin, &world.token()).await,
            "200",
            "{name}"
        );
        replace_file(&world.file(name), kept);
        service.logs(RELOADED, number + 1).await;
    }
    // The connections are those of before: no proof was made again.
    assert_eq!(world.seen.proofs().0, 1);
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn origins_come_and_go_with_the_file() {
    let world = World::new("service-origins");
    let (other, _) = world.another(Router::new());
    let (first, second) = (world.server.origin(), other.origin());
    let file = world.file("egress.toml");
    replace_file(&file, format!("allow = [{first:?}]\n"));
    let mut command = world.bowline("egress");
    let service = Service::on_port(logging(command.arg("--config").arg(&file))).await;
    let token = world.token();
    assert_eq!(status(&service, &second, &token).await, "403");
    replace_file(&file, format!("allow = [{first:?}, {second:?}]\n"));
    service.logs(RELOADED, 1).await;
    assert_eq!(status(&service, &first, &token).await, "200");
    assert_eq!(status(&service, &second, &token).await, "200");
    replace_file(&file, format!("allow = [{second:?}]\n"));
    service.signal(Signal::HUP);
    service.logs("reloaded (", 2).await;
    assert_eq!(status(&service, &first, &token).await, "403");
    assert_eq!(status(&service, &second, &token).await, "200");
    // What is read at the start only is told.
    replace_file(
        &file,
        format!("allow = [{second:?}]\ndrain-timeout = \"9s\"\n"),
    );
    service
        .logs("--drain-timeout changed: a restart is needed for that", 1)
        .await;
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intercept_that_was_left_away_still_needs_names_that_it_can_sign_for() {
    let world = World::new("service-intercept");
    let (origin, dir) = (world.server.origin(), world.file("authority"));
    let file = world.file("egress.toml");
    replace_file(
        &file,
        format!("allow = [{origin:?}]\nintercept = {dir:?}\n"),
    );
    let mut command = world.bowline("egress");
    let service = Service::on_port(logging(command.arg("--config").arg(&file))).await;
    let address = "https://127.0.0.1:8443";
    replace_file(&file, format!("allow = [{origin:?}, {address:?}]\n"));
    service.logs(REFUSED, 1).await;
    service.logs("an IP address cannot be intercepted", 1).await;
    replace_file(&file, format!("allow = [{origin:?}]\n"));
    service.logs(RELOADED, 1).await;
    service
        .logs("--intercept changed: a restart is needed for that", 1)
        .await;
    service.end().await;
}

/// `/held` is answered when it is released.
pub(super) struct Held {
    pub(super) arrived: mpsc::UnboundedReceiver<()>,
    pub(super) released: Arc<Semaphore>,
}

pub(super) fn held() -> (Router, Held) {
    let (told, arrived) = mpsc::unbounded_channel();
    let released = Arc::new(Semaphore::new(0));
    let gate = released.clone();
    let handler = get(move || {
        let (told, gate) = (told.clone(), gate.clone());
        async move {
            let _ = told.send(());
            gate.acquire().await.expect("never closed").forget();
            "ok"
        }
    });
    (
        Router::new().route("/held", handler),
        Held { arrived, released },
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_lets_requests_in_flight_finish() {
    let (routes, mut held) = held();
    let world = World::with_routes("service-drain", routes);
    let admin = Admin {
        path: world.file("admin.sock"),
    };
    let origin = world.server.origin();
    let dir = world.file("authority");
    let intercept = dir.display().to_string();
    let option = admin.option();
    let mut command = world.egress(&[
        "--upstream",
        &origin,
        "--intercept",
        &intercept,
        "--admin",
        &option,
    ]);
    let mut service = Service::on_port(logging(&mut command)).await;
    assert_eq!(admin.get("/readyz").await.0, StatusCode::OK);
    let host = authority(&origin);

    // One over h2c, one over HTTP/1.1 in a tunnel, and a tunnel that is not used.
    let mut sender = service.h2c::<Empty<Bytes>>().await;
    let h2_request = || {
        let request = Request::get(format!("http://{host}/held"));
        request.body(Empty::new()).expect("a request")
    };
    let over_h2 = tokio::spawn(sender.send_request(h2_request()));
    let mut inside = tls(
        &service.address,
        &host,
        careful(&dir.join("root.pem")),
        "localhost",
    )
    .await;
    let request = format!("GET /held HTTP/1.1\r\nHost: {host}\r\n\r\n");
    inside.write_all(request.as_bytes()).await.expect("written");
    let unused = connect(&service.address, &host).await;
    for _ in 0..2 {
        held.arrived.recv().await.expect("arrived");
    }

    service.signal(Signal::TERM);
    service.logs("SIGTERM: draining", 1).await;
    assert_eq!(
        admin.get("/readyz").await.0,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(admin.get("/healthz").await.0, StatusCode::OK);
    // It may cross the GOAWAY: then it is served too, else it is refused.
    let crossing = tokio::spawn(sender.send_request(h2_request()));
    while TcpStream::connect(&service.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    held.released.add_permits(3);
    let response = over_h2.await.expect("no panic").expect("answered");
    assert_eq!(response.status(), StatusCode::OK);
    let body = response.into_body().collect().await.expect("a body");
    assert_eq!(body.to_bytes(), "ok");
    if let Ok(response) = crossing.await.expect("no panic") {
        assert_eq!(response.status(), StatusCode::OK);
    }
    while sender.ready().await.is_ok() {
        tokio::task::yield_now().await;
    }
    let head = read_head(&mut inside).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("connection: close"), "{head}");
    assert_eq!(service.ended().await, Some(0), "{}", service.log());
    assert!(!admin.path.exists());
    drop(unused);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_is_bounded_and_tells_what_it_has_cut_off() {
    let (routes, mut held) = held();
    let world = World::with_routes("service-bounded", routes);
    let mut command = world.egress(&["--drain-timeout", "1s"]);
    let mut service = Service::on_port(logging(&mut command)).await;
    let host = authority(&world.server.origin());
    let mut socket = TcpStream::connect(&service.address)
        .await
        .expect("the egress");
    let request = request("GET", &format!("http://{host}/held"), &host, &world.token());
    socket.write_all(request.as_bytes()).await.expect("written");
    held.arrived.recv().await.expect("arrived");
    service.signal(Signal::TERM);
    assert_eq!(service.ended().await, Some(1));
    service
        .logs("1 requests were still in flight after --drain-timeout", 1)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_has_one_line_and_no_line_has_a_secret() {
    let world = World::new("service-access");
    let admin = Admin {
        path: world.file("admin.sock"),
    };
    let option = admin.option();
    let mut command = world.egress(&["--log-format", "json", "--admin", &option]);
    let service = Service::on_port(logging(&mut command)).await;
    let (host, token) = (authority(&world.server.origin()), world.token());
    let target = format!("http://{host}/a/b?access=hidden");
    service.say(&request("GET", &target, &host, &token)).await;
    service
        .say(&request(
            "GET",
            "http://other.example/x",
            "other.example",
            &token,
        ))
        .await;
    service
        .say("CONNECT other.example:443 HTTP/1.0\r\n\r\n")
        .await;
    service.logs("\"message\":\"request\"", 3).await;
    let log = service.log();
    let lines = log
        .lines()
        .filter(|line| line.contains("\"message\":\"request\""));
    let lines: Vec<Value> = lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let [passed, refused, tunnel] = &lines[..] else {
        panic!("{lines:?}");
    };
    assert_eq!(passed["method"], "GET");
    assert_eq!(passed["origin"], *host);
    assert_eq!(passed["path"], "/a/b");
    assert_eq!(passed["status"], 200);
    assert_eq!(passed["check"], Value::Null);
    assert_eq!(passed["cut"], Value::Null);
    assert!(passed["ms"].is_number() && passed["bytes"].is_number());
    assert_eq!(
        (&refused["status"], &refused["check"]),
        (&403.into(), &"not_allowed".into())
    );
    assert_eq!(refused["origin"], Value::Null);
    assert_eq!(
        (&tunnel["path"], &tunnel["check"]),
        (&"other.example:443".into(), &"others".into())
    );
    for hidden in [&*token, "hidden"] {
        assert!(!log.contains(hidden), "{hidden} in the log");
    }

    let stats = admin.stats().await;
    assert_eq!(stats["origins"][0]["url"], *world.server.origin());
    assert_eq!(stats["origins"][0]["token"], "caller");
    assert_eq!(stats["others"], "refuse");
    let count = |name: &str| stats["metrics"][name][0]["value"].clone();
    assert_eq!(count("bowline_egress_passed_on_total"), 1);
    let refused = &stats["metrics"]["bowline_egress_refused_total"];
    assert_eq!(refused.as_array().map(Vec::len), Some(2));
    for reason in ["not_allowed", "others"] {
        let one = serde_json::json!({ "labels": { "reason": reason }, "value": 1 });
        assert!(
            refused.as_array().is_some_and(|all| all.contains(&one)),
            "{refused}"
        );
    }
    assert_eq!(count("bowline_egress_agent_connections_total"), 3);
    assert_eq!(count("bowline_client_proofs_minted_total"), 1);
    assert_eq!(count("bowline_client_connections_opened_total"), 1);
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gw_6_agents_trust_the_root_that_a_service_keeps() {
    let world = World::new("service-authority");
    let dir = world.file("authority");
    let (origin, intercept) = (world.server.origin(), dir.display().to_string());
    let host = authority(&origin);
    // Read once, as an agent does that goes on while the egress is started anew.
    let mut root = None;
    for _ in 0..2 {
        let service = Service::on_port(&mut world.egress(&["--intercept", &intercept])).await;
        let root = root.get_or_insert_with(|| careful(&dir.join("root.pem")));
        let mut stream = tls(&service.address, &host, root.clone(), "localhost").await;
        let request = request("GET", "/x", &host, &world.token());
        stream.write_all(request.as_bytes()).await.expect("written");
        let head = read_head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        service.end().await;
    }
    assert_eq!(world.seen.tokens().len(), 2);
    // An address has no place in its name constraints.
    let arguments = [
        "--allow",
        "https://127.0.0.1:8443",
        "--intercept",
        &intercept,
    ];
    let mut command = world.bowline("egress");
    let output = command
        .args(["--listen", "127.0.0.1:0"])
        .args(arguments)
        .output()
        .await;
    let output = output.expect("the command runs");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(
        crate::agents::stderr(&output).contains("cannot be intercepted"),
        "{output:?}"
    );
}
