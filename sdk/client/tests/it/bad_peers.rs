//! Peers that misbehave: each gets a precise error, nothing panics, and the pool keeps working.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::fixture::{Fixture, fetch, identity, jwt, ok, post, session_cnf, text};
use bowline_http_client::{Client, Error, ErrorKind, Fault, Step, Timeouts};
use bowline_testkit::net::ClosedPort;
use bowline_testkit::peers::{CyclingOptions, CyclingServer, MisbehavingPeer, Misbehaviour};
use bowline_testkit::pki::{LeafSpec, Pki};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

/// Short limits, so that a silent peer is noticed soon; no test depends on how long something
/// takes.
fn with_short_timeouts(fixture: &Fixture) -> Client {
    let limit = Duration::from_millis(300);
    let mut timeouts = Timeouts::default();
    timeouts.connect = limit;
    timeouts.tls_handshake = limit;
    timeouts.response = Some(limit);
    fixture.builder().timeouts(timeouts).build().unwrap()
}

async fn call(client: &Client, peer: &MisbehavingPeer) -> Result<(), Error> {
    // The peers require no binding.
    let response = post(client, &peer.origin(), &jwt("plain", None), "hello").await?;
    response.into_body().collect().await.map(drop)
}

#[tokio::test]
async fn each_misbehaviour_has_its_error() {
    let fixture = Fixture::new();
    let cases = [
        (
            Misbehaviour::SilentTcp,
            ErrorKind::Timeout(Step::TlsHandshake),
            false,
        ),
        (
            Misbehaviour::TruncatedHandshake,
            ErrorKind::TlsHandshake,
            false,
        ),
        (
            Misbehaviour::SilentAfterHandshake,
            ErrorKind::Timeout(Step::Response),
            true,
        ),
        (Misbehaviour::CutMidBody, ErrorKind::Protocol, true),
    ];
    for (misbehaviour, kind, may_have_been_processed) in cases {
        let peer = MisbehavingPeer::start(&fixture.pki, misbehaviour);
        let client = with_short_timeouts(&fixture);
        // Twice: the first must not leave the pool unable to serve the second.
        for _ in 0..2 {
            let error = call(&client, &peer).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{misbehaviour:?}: {error}");
            assert_eq!(
                error.may_have_been_processed(),
                may_have_been_processed,
                "{misbehaviour:?}: {error}"
            );
        }
        let totals = client.stats().totals;
        assert_eq!(totals.requests, 2);
    }
}

#[tokio::test]
async fn garbage_after_the_handshake_is_never_a_response() {
    let fixture = Fixture::new();
    for alpn in [
        bowline_testkit::tls::Alpn::Http1,
        bowline_testkit::tls::Alpn::Http2,
    ] {
        let peer = MisbehavingPeer::start_alpn(&fixture.pki, Misbehaviour::Garbage, alpn);
        let client = with_short_timeouts(&fixture);
        for _ in 0..2 {
            let error = call(&client, &peer).await.unwrap_err();
            assert!(
                matches!(
                    error.kind(),
                    ErrorKind::Protocol
                        | ErrorKind::MayHaveBeenProcessed
                        | ErrorKind::ConnectionLost
                ),
                "{alpn:?}: {error}"
            );
        }
    }
}

#[tokio::test]
async fn a_server_that_goes_away_at_once_is_given_up_after_a_few_new_connections() {
    let fixture = Fixture::new();
    let peer = MisbehavingPeer::start(&fixture.pki, Misbehaviour::Goaway { after: 0 });
    let error = call(&with_short_timeouts(&fixture), &peer)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionLost, "{error}");
    assert_eq!(peer.counts().accepted, 3);
}

/// A balancer that leads the first few connections to a server which has just closed its socket.
async fn balancer(server: &CyclingServer, lost: usize) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!(
        "https://localhost:{}",
        listener.local_addr().unwrap().port()
    );
    let (behind, connections) = (server.addr(), Arc::<AtomicUsize>::default());
    let counted = connections.clone();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            if counted.fetch_add(1, Ordering::SeqCst) < lost {
                // Its first bytes are read: the end is a FIN and no RST.
                let _ = socket.read(&mut [0; 1]).await;
                continue;
            }
            tokio::spawn(async move {
                let mut server = TcpStream::connect(behind).await.unwrap();
                drop(copy_bidirectional(&mut socket, &mut server).await);
            });
        }
    });
    (origin, connections)
}

#[tokio::test]
async fn a_connection_that_ends_in_its_handshake_is_opened_once_more() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let (origin, connections) = balancer(&server, 1).await;
    let client = fixture.client();
    let answer = post(&client, &origin, &fixture.token("a"), "hello").await;
    assert_eq!(text(answer.unwrap()).await, "ok:hello");
    assert_eq!(connections.load(Ordering::SeqCst), 2);

    let (origin, connections) = balancer(&server, usize::MAX).await;
    let error = fetch(&client, &origin, &fixture.token("a"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TlsHandshake);
    assert!(!error.may_have_been_processed());
    assert_eq!(connections.load(Ordering::SeqCst), 2, "and not for ever");
}

#[tokio::test]
async fn a_port_without_listener_is_a_connect_error_that_names_the_origin() {
    let fixture = Fixture::new();
    let closed = ClosedPort::new();
    let port = closed.addr().port();
    let url = format!("https://127.0.0.1:{port}/");
    let error = fetch(&fixture.client(), &url, &fixture.token("a"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(
        error
            .to_string()
            .contains(&format!("https://127.0.0.1:{port}")),
        "{error}"
    );
    assert!(error.is_worth_another_try());
}

#[tokio::test]
async fn a_server_of_another_authority_is_refused() {
    let fixture = Fixture::new();
    let foreign = Fixture {
        pki: Pki::foreign(),
        ..Fixture::new()
    };
    let server = foreign.server(CyclingOptions::default());
    let error = fetch(&fixture.client(), &server.origin(), &fixture.token("a"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TlsHandshake, "{error}");
    assert_eq!(error.fault(), Fault::Network);
}

#[tokio::test]
async fn an_expired_client_certificate_fails_with_the_servers_alert() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let expired = fixture.pki.issue(&LeafSpec::client("agent").expired());
    let client = fixture
        .builder()
        .identity(identity(&expired))
        .build()
        .unwrap();
    let token = jwt("a", Some(session_cnf(expired.thumbprint())));
    let error = fetch(&client, &server.origin(), &token).await.unwrap_err();
    // In TLS 1.3 the server's refusal comes after the client's handshake has ended.
    assert!(
        error.to_string().to_lowercase().contains("expired"),
        "{error}"
    );
    assert_eq!(server.counts().requests, 0);
}

#[tokio::test]
async fn one_slow_origin_does_not_delay_another() {
    let fixture = Fixture::new();
    let stuck = MisbehavingPeer::start(&fixture.pki, Misbehaviour::SilentTcp);
    let server = fixture.server(CyclingOptions::default());
    let client = fixture.client();
    let (token, url, other) = (fixture.token("a"), stuck.origin(), server.origin());
    let waiting = fetch(&client, &url, &token);
    tokio::pin!(waiting);
    tokio::select! {
        _ = &mut waiting => panic!("that peer never answers"),
        () = ok(&client, &other, &token) => {}
    }
}

#[tokio::test]
async fn a_key_that_does_not_fit_is_refused_and_both_files_are_named() {
    let fixture = Fixture::new();
    let dir = std::env::temp_dir().join(format!("bowline-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (certificate, key) = (dir.join("agent.pem"), dir.join("other-key.pem"));
    let other = fixture.pki.issue(&LeafSpec::client("other"));
    std::fs::write(&certificate, fixture.agent.chain_pem()).unwrap();
    std::fs::write(&key, other.key_pem()).unwrap();
    let error = bowline_http_client::Identity::from_pem_files(&certificate, &key).unwrap_err();
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    let message = error.to_string();
    assert!(
        message.contains("agent.pem") && message.contains("other-key.pem"),
        "{message}"
    );
}
