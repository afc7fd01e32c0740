//! SIGTERM and SIGINT.

use bowline_testkit::tls::Alpn;
use http::StatusCode;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::admin::Admin;
use super::load::{H2, Load, Went, service};
use super::logs;
use crate::ingress::fixture::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_under_load_fails_no_request_and_ends_with_status_0() {
    let scene = Scene::new();
    let (upstream, held) = service();
    let admin = Admin::in_(&scene);
    let mut ingress = scene.start(&upstream, &["--admin", &admin.option()]).await;
    let load = Load::start(&scene, &ingress).await;
    load.more(100).await;
    // One request that is under way for as long as this test wants, on a connection of its own.
    let mut slow = H2::connect(&scene, &ingress).await;
    let slow = tokio::spawn(async move { slow.get("/held").await });
    held.arrived(1).await;
    assert_eq!(admin.get("/readyz").await.0, StatusCode::OK);

    ingress.signal("TERM");
    logs(&ingress, "SIGTERM: draining", 1).await;
    // All other connections are taken away while that request still waits.
    let done = load.until_drained().await;
    assert!(done >= 100);
    // Those that GOAWAY ended were not processed: a client may send them again (RFC 9113 section 8.7).
    assert_eq!(upstream.requests(), done + 1, "and the one that waits");
    assert_eq!(
        admin.get("/readyz").await.0,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(admin.get("/healthz").await.0, StatusCode::OK);
    assert!(TcpStream::connect(ingress.addr).await.is_err());
    held.release(1);
    match slow.await.unwrap() {
        Went::Answered(StatusCode::OK, text) => assert_eq!(text, "ok"),
        _ => panic!("the request in flight was not answered"),
    }
    assert_eq!(ingress.ended().await, Some(0), "{}", super::tail(&ingress));
    assert!(!admin.path.exists());
}

#[tokio::test]
async fn on_http_1_the_last_response_says_that_it_is_the_last() {
    let scene = Scene::new();
    let (upstream, held) = service();
    let mut ingress = scene.start(&upstream, &[]).await;
    let mut idle = scene.tls(&ingress, Some(&scene.agent), Alpn::Http1).await;
    let mut client = scene.connect(&ingress, Alpn::Http1).await;
    let request = client
        .proved(&scene.agent, &scene.session_bound())
        .uri("/held");
    let request = tokio::spawn(async move { client.get(request).await });
    held.arrived(1).await;
    ingress.signal("INT");
    logs(&ingress, "SIGINT: draining", 1).await;
    // The log comes first; the end of an idle connection shows that the others were told.
    let _ = within(idle.read_to_end(&mut Vec::new())).await;
    held.release(1);
    let answer = request.await.unwrap();
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers["connection"], "close");
    assert_eq!(ingress.ended().await, Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let scene = Scene::new();
    let (upstream, held) = service();
    let mut ingress = scene.start(&upstream, &["--drain-timeout", "1h"]).await;
    let mut slow = H2::connect(&scene, &ingress).await;
    let slow = tokio::spawn(async move { slow.get("/held").await });
    held.arrived(1).await;
    ingress.signal("TERM");
    logs(&ingress, "SIGTERM: draining", 1).await;
    ingress.signal("INT");
    assert_eq!(ingress.ended().await, Some(1));
    logs(
        &ingress,
        "second signal (SIGINT), with 1 requests in flight",
        1,
    )
    .await;
    assert!(matches!(
        slow.await.unwrap(),
        Went::Failed(_) | Went::EndedByGoaway
    ));
}

#[tokio::test]
async fn a_drain_is_bounded_and_tells_what_it_has_cut_off() {
    let scene = Scene::new();
    let (upstream, held) = service();
    let mut ingress = scene.start(&upstream, &["--drain-timeout", "1s"]).await;
    let mut slow = H2::connect(&scene, &ingress).await;
    let slow = tokio::spawn(async move { slow.get("/held").await });
    held.arrived(1).await;
    ingress.signal("TERM");
    assert_eq!(ingress.ended().await, Some(1));
    logs(
        &ingress,
        "1 requests were still in flight after --drain-timeout",
        1,
    )
    .await;
    assert!(matches!(
        slow.await.unwrap(),
        Went::Failed(_) | Went::EndedByGoaway
    ));
}
