//! Needs HAProxy, so it belongs to the named set (`just parts`) and not to `cargo test`.

use axum::Router;
use axum::routing::get;
use bowline_testkit::peers::{CyclingOptions, CyclingServer, HaProxy};
use bowline_testkit::pki::{KeyKind, Pki};
use bowline_testkit::tls::TlsOptions;

use crate::client::Http;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs HAProxy: run `just parts`"]
async fn haproxy_passes_tls_through_and_ends_sessions_on_command() {
    let pki = Pki::new();
    let hello = Router::new().route("/", get(|| async { "hello" }));
    let server = CyclingServer::start(&pki, CyclingOptions::default(), hello);
    let proxy = HaProxy::in_front_of(server.addr());
    let tls = TlsOptions::default().client(&pki, Some(&pki.client("agent", KeyKind::P256)));

    let mut first = Http::connect(&tls, proxy.addr()).await;
    assert_eq!(first.fetch("/").await.unwrap().body(), "hello");
    assert_eq!(
        server.counts().failed,
        0,
        "waiting for HAProxy opened no connection to the server"
    );

    proxy.cut_all();
    server.closed(1).await;
    let _ = first.ended().await;

    let mut second = Http::connect(&tls, proxy.addr()).await;
    assert_eq!(second.fetch("/").await.unwrap().body(), "hello");
    let addr = proxy.addr();
    drop(proxy);
    server.closed(2).await;
    let _ = second.ended().await;
    assert!(
        std::net::TcpStream::connect(addr).is_err(),
        "it no longer listens"
    );
}
