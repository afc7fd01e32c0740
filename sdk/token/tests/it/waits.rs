//! Every wait for an authorization server ends by the limit of the token source, with an error that
//! names it (K5). The times that were measured are printed, and decide nothing.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::routing::any;
use bowline_testkit::peers::{CyclingOptions, CyclingServer};
use bowline_token::{
    AuthorizationServer, ClientAuthentication, Error, ErrorKind, OAuth, TokenSource,
};
use bytes::Bytes;

use crate::fixture::Fixture;

/// Longer than the whole answer of a server that sends its bytes as they come.
const LIMIT: Duration = Duration::from_millis(2500);

/// A byte of a token response each second: always alive, and never done.
fn trickle() -> Body {
    let bytes = br#"{"access_token":"SECRET-token","token_type":"Bearer","expires_in":600}"#;
    let trickle = futures_util::stream::unfold(0, move |at| async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let byte = bytes.get(at..=at)?;
        Some((Ok::<_, Infallible>(Bytes::from_static(byte)), at + 1))
    });
    Body::from_stream(trickle)
}

#[allow(clippy::print_stdout, reason = "the measured times")]
async fn fails(fixture: &Fixture, server: AuthorizationServer, wait: &str) -> Error {
    let source = OAuth::builder(fixture.client(), server, ClientAuthentication::tls("agent"))
        .timeout(LIMIT)
        .build()
        .unwrap();
    let started = Instant::now();
    let error = source.token().await.unwrap_err();
    println!("{wait}: ended after {:?}: {error}", started.elapsed());
    error
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_trickles_a_byte_a_second_ends_by_the_sources_limit() {
    let fixture = Fixture::new();
    let app = Router::new().fallback(any(|| async { trickle() }));
    let server = CyclingServer::start(&fixture.pki, CyclingOptions::default(), app);
    let endpoint = AuthorizationServer::token_endpoint(format!("{}/token", server.origin()));
    let metadata = AuthorizationServer::issuer(server.origin());
    let resource = AuthorizationServer::for_resource(format!("{}/mcp", server.origin()))
        .only([server.origin()]);
    for (wait, server) in [
        ("token endpoint", endpoint),
        ("its metadata", metadata),
        ("a resource's metadata", resource),
    ] {
        let error = fails(&fixture, server, wait).await;
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("within 2.5s"), "{error}");
    }
}
