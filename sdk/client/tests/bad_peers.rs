//! Peers that misbehave: a precise error each, no panic, and a pool that goes on working.

mod support;

use std::time::Duration;

use bowline_client::{Client, Error, ErrorKind, Fault, Step, Timeouts};
use bowline_testkit::peers::{CyclingOptions, MisbehavingPeer, Misbehaviour};
use bowline_testkit::pki::{LeafSpec, Pki};
use http_body_util::BodyExt;
use support::{Lab, fetch, identity, jwt, ok, post, session_cnf};

/// Short limits, so that what hangs is found out soon; no test is decided by how long something
/// takes.
fn impatient(lab: &Lab) -> Client {
    let limit = Duration::from_millis(300);
    let timeouts = Timeouts {
        connect: limit,
        tls_handshake: limit,
        response: Some(limit),
        ..Timeouts::default()
    };
    lab.builder().timeouts(timeouts).build().unwrap()
}

async fn call(client: &Client, peer: &MisbehavingPeer) -> Result<(), Error> {
    // The peers ask for no binding; a plain token will do.
    let response = post(client, &peer.origin(), &jwt("plain", None), "hello").await?;
    response.into_body().collect().await.map(drop)
}

#[tokio::test]
async fn each_misbehaviour_has_its_error() {
    let lab = Lab::new();
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
        let peer = MisbehavingPeer::start(&lab.pki, misbehaviour);
        let client = impatient(&lab);
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
async fn garbage_after_the_handshake_is_never_taken_for_an_answer() {
    let lab = Lab::new();
    for alpn in [
        bowline_testkit::tls::Alpn::Http1,
        bowline_testkit::tls::Alpn::Http2,
    ] {
        let peer = MisbehavingPeer::start_alpn(&lab.pki, Misbehaviour::Garbage, alpn);
        let client = impatient(&lab);
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
    let lab = Lab::new();
    let peer = MisbehavingPeer::start(&lab.pki, Misbehaviour::Goaway { after: 0 });
    let error = call(&impatient(&lab), &peer).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionLost, "{error}");
    assert_eq!(peer.counts().accepted, 3);
}

#[tokio::test]
async fn nobody_listening_is_a_connect_error_and_names_the_origin() {
    let lab = Lab::new();
    let port = {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        tcp.local_addr().unwrap().port()
    };
    let url = format!("https://127.0.0.1:{port}/");
    let error = fetch(&lab.client(), &url, &lab.token("a"))
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
    let lab = Lab::new();
    let strangers = Lab {
        pki: Pki::foreign(),
        ..Lab::new()
    };
    let server = strangers.server(CyclingOptions::default());
    let error = fetch(&lab.client(), &server.origin(), &lab.token("a"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TlsHandshake, "{error}");
    assert_eq!(error.fault(), Fault::Network);
}

#[tokio::test]
async fn an_expired_client_certificate_fails_with_the_servers_alert() {
    let lab = Lab::new();
    let server = lab.server(CyclingOptions::default());
    let expired = lab.pki.issue(&LeafSpec::client("agent").expired());
    let client = lab.builder().identity(identity(&expired)).build().unwrap();
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
async fn one_slow_origin_does_not_hold_up_another() {
    let lab = Lab::new();
    let stuck = MisbehavingPeer::start(&lab.pki, Misbehaviour::SilentTcp);
    let server = lab.server(CyclingOptions::default());
    let client = lab.client();
    let (token, url, other) = (lab.token("a"), stuck.origin(), server.origin());
    let waiting = fetch(&client, &url, &token);
    tokio::pin!(waiting);
    tokio::select! {
        _ = &mut waiting => panic!("nobody answers there"),
        () = ok(&client, &other, &token) => {}
    }
}

#[tokio::test]
async fn a_key_that_does_not_fit_is_refused_and_both_files_are_named() {
    let lab = Lab::new();
    let dir = std::env::temp_dir().join(format!("bowline-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (certificate, key) = (dir.join("agent.pem"), dir.join("other-key.pem"));
    let other = lab.pki.issue(&LeafSpec::client("other"));
    std::fs::write(&certificate, lab.agent.chain_pem()).unwrap();
    std::fs::write(&key, other.key_pem()).unwrap();
    let error = bowline_client::Identity::from_pem_files(&certificate, &key).unwrap_err();
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    let message = error.to_string();
    assert!(
        message.contains("agent.pem") && message.contains("other-key.pem"),
        "{message}"
    );
}
