//! Origins and agents that are not as they should be.

use std::process::Stdio;

use axum::Router;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use bowline_testkit::peers::CyclingOptions;
use bowline_testkit::tls::ClientAuth;

use super::site::{HOST, OuterProxy};
use super::{Running, World, stderr};

/// An agent's client that goes through this run's proxy and trusts its authority.
fn agent(running: &Running) -> reqwest::Client {
    let root = std::fs::read(&running.root).expect("a file");
    let root = reqwest::Certificate::from_pem(&root).expect("PEM");
    reqwest::Client::builder()
        .proxy(reqwest::Proxy::all(&running.url).expect("a URL"))
        .tls_certs_only([root])
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("a client")
}

async fn ask(running: &Running, url: &str, token: Option<&str>) -> (StatusCode, String) {
    let request = agent(running).get(url);
    let request = match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    };
    let response = request.send().await.expect("a response");
    let status = response.status();
    (status, response.text().await.expect("text"))
}

/// CL-9: a token that demands a proof is not sent; one that demands none is, as it came.
#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_asks_for_no_certificate_gets_no_bound_token() {
    let options = CyclingOptions {
        client_auth: ClientAuth::None,
        ..CyclingOptions::default()
    };
    let world = World::with("bad-no-certificate", Router::new(), options);
    let running = Running::start(&mut world.run(&[])).await;
    let url = world.server.origin();
    let (status, text) = ask(&running, &url, Some(&world.token())).await;
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    assert!(text.contains("certificate"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(!text.contains(&world.token()), "{text}");
    assert_eq!(world.server.counts().requests, 0);
    assert_eq!(ask(&running, &url, Some("opaque")).await.0, StatusCode::OK);
    assert_eq!(ask(&running, &url, None).await.0, StatusCode::OK);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_whose_certificate_has_another_name_hears_nothing() {
    let world = World::new("bad-name");
    // Its certificate is for localhost.
    let outer = OuterProxy::to(world.server.addr());
    let mut command = world.bowline("run");
    command.args(["--allow", &format!("https://{HOST}"), "--"]);
    let running = Running::start(command.env("https_proxy", outer.url())).await;
    let url = format!("https://{HOST}/");
    let (status, text) = ask(&running, &url, Some(&world.token())).await;
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    assert!(text.contains(HOST), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(outer.opened() > 0, "it was reached");
    assert_eq!(world.server.counts().requests, 0);
    running.end().await;
}

/// Whether it is followed is the agent's decision.
#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_another_origin_is_passed_on_as_it_came() {
    let other = World::new("bad-redirect-other");
    let target = format!("{}/elsewhere?a=%20b#c", other.server.origin());
    let location = target.clone();
    let redirect = move || async move {
        Response::builder()
            .status(StatusCode::TEMPORARY_REDIRECT)
            .header("location", location)
            .body(axum::body::Body::from("gone"))
            .expect("a response")
    };
    let routes = Router::new().route("/", get(redirect));
    let world = World::with_routes("bad-redirect", routes);
    let mut command = world.bowline("run");
    for world in [&world, &other] {
        command.args(["--allow", &world.server.origin()]);
    }
    let running = Running::start(command.arg("--")).await;
    let request = agent(&running).get(world.server.origin());
    let response = request.bearer_auth(world.token()).send().await;
    let response = response.expect("a response");
    assert_eq!(response.status(), StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(response.headers()["location"], target);
    assert_eq!(response.text().await.expect("text"), "gone");
    assert_eq!(world.server.counts().requests, 1);
    assert_eq!(other.server.counts().opened, 0, "nothing was followed");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_ignores_the_proxy_is_noticed() {
    let world = World::new("bad-ignores");
    let program = std::env::current_exe().expect("this program");
    // As a client without the variables would: it meets the origin itself.
    let script = format!(
        "unset HTTPS_PROXY https_proxy; exec {} --exact run::agent --ignored",
        program.display()
    );
    let output = world
        .run(&[])
        .args(["sh", "-c", &script])
        .env("AGENT_URL", format!("{}/mcp", world.server.origin()))
        .env("AGENT_TOKEN", world.token())
        .stdout(Stdio::null())
        .output()
        .await
        .expect("the command runs");
    assert_eq!(output.status.code(), Some(101), "the agent fails");
    let told = stderr(&output);
    assert!(
        told.contains("bowline: 0 agent connections in, 0 requests"),
        "{told}"
    );
    let noticed = "no request to an allowed origin came through: the command made none, or it \
                   heeds no proxy variables";
    assert!(told.contains(noticed), "{told}");
    assert_eq!(world.server.counts().requests, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn java_options_that_conflict_start_nothing() {
    let world = World::new("bad-java");
    let started = world.scratch.0.join("started");
    let output = world
        .run(&["--java"])
        .arg("touch")
        .arg(&started)
        .env("JAVA_TOOL_OPTIONS", "-Djavax.net.ssl.trustStore=/etc/mine")
        .output()
        .await
        .expect("the command runs");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(stderr(&output).contains("take it out"), "{output:?}");
    assert!(!started.exists());
    assert_eq!(world.private_directories().len(), 0);
}
