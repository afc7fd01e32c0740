use std::io::ErrorKind;
use std::time::Duration;

use bowline_testkit::peers::{MisbehavingPeer, Misbehaviour};
use bowline_testkit::pki::Pki;
use bowline_testkit::tls::{Alpn, TlsOptions};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::{self, Http};

/// How long a peer must send nothing to count as silent. On a slow machine it sends less, not more.
const SILENCE: Duration = Duration::from_millis(200);

async fn https(peer: &MisbehavingPeer, pki: &Pki) -> Http {
    Http::connect(&TlsOptions::default().client(pki, None), peer.addr()).await
}

#[tokio::test]
async fn silent_tcp_accepts_and_never_starts_the_handshake() {
    let pki = Pki::new();
    let peer = MisbehavingPeer::start(&pki, Misbehaviour::SilentTcp);
    let tls = TlsOptions::default().client(&pki, None);
    assert!(
        timeout(SILENCE, client::connect(&tls, peer.addr()))
            .await
            .is_err()
    );
    peer.accepted(1).await;
    peer.closed(1).await; // the client gave up, and the peer noticed
}

#[tokio::test]
async fn a_truncated_handshake_ends_within_the_server_hello() {
    let pki = Pki::new();
    let peer = MisbehavingPeer::start(&pki, Misbehaviour::TruncatedHandshake);
    let tls = TlsOptions::default().client(&pki, None);
    let error = client::connect(&tls, peer.addr()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);

    // What was sent is the beginning of a handshake record, and less than the whole.
    let mut tcp = TcpStream::connect(peer.addr()).await.unwrap();
    let name = "localhost".try_into().unwrap();
    let mut hello = Vec::new();
    rustls::ClientConnection::new(tls, name)
        .unwrap()
        .write_tls(&mut hello)
        .unwrap();
    tcp.write_all(&hello).await.unwrap();
    let mut sent = Vec::new();
    tcp.read_to_end(&mut sent).await.unwrap();
    assert_eq!(sent[0], 22);
    assert!(sent.len() - 5 < usize::from(u16::from_be_bytes([sent[3], sent[4]])));
}

#[tokio::test]
async fn after_the_handshake_there_is_silence() {
    for alpn in [Alpn::Http1, Alpn::Http2] {
        let pki = Pki::new();
        let peer = MisbehavingPeer::start_alpn(&pki, Misbehaviour::SilentAfterHandshake, alpn);
        let mut client = https(&peer, &pki).await;
        assert!(timeout(SILENCE, client.fetch("/")).await.is_err());
        assert_eq!((peer.counts().accepted, peer.counts().closed), (1, 0));
        drop(client);
        peer.closed(1).await;
    }
}

#[tokio::test]
async fn a_peer_that_never_reads_backs_the_request_up() {
    let pki = Pki::new();
    let peer = MisbehavingPeer::start(&pki, Misbehaviour::NeverReads);
    let tls = TlsOptions::default().client(&pki, None);
    let mut stream = client::connect(&tls, peer.addr()).await.unwrap();
    let endless = async {
        loop {
            stream.write_all(&[b'x'; 65536]).await.unwrap();
        }
    };
    // The loop never ends, whether the peer reads or not. That it is stuck shows in the second
    // write, which would finish at once if the peer read.
    assert!(timeout(SILENCE, endless).await.is_err());
    assert!(
        timeout(SILENCE, stream.write_all(&[b'x'; 65536]))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn the_head_of_a_response_comes_and_its_body_does_not() {
    for alpn in [Alpn::Http1, Alpn::Http2] {
        let pki = Pki::new();
        let peer = MisbehavingPeer::start_alpn(&pki, Misbehaviour::SilentAfterHeaders, alpn);
        let mut client = https(&peer, &pki).await;
        let response = client.send(client::get("/")).await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(
            timeout(SILENCE, response.into_body().frame())
                .await
                .is_err()
        );
    }
}

#[tokio::test]
async fn a_body_is_cut_without_close_notify() {
    for alpn in [Alpn::Http1, Alpn::Http2] {
        let pki = Pki::new();
        let peer = MisbehavingPeer::start_alpn(&pki, Misbehaviour::CutMidBody, alpn);
        let mut client = https(&peer, &pki).await;
        let mut body = client.send(client::get("/")).await.unwrap().into_body();
        let mut received = 0;
        let error = loop {
            match body.frame().await.expect("the body does not end well") {
                Ok(frame) => received += frame.into_data().unwrap().len(),
                Err(error) => break error,
            }
        };
        assert_eq!(received, Misbehaviour::CUT_AFTER);
        assert!(format!("{error:?}").contains("close_notify"), "{error:?}");
    }
}

#[tokio::test]
async fn garbage_is_neither_http1_nor_http2() {
    for alpn in [Alpn::Http1, Alpn::Http2] {
        let pki = Pki::new();
        let peer = MisbehavingPeer::start_alpn(&pki, Misbehaviour::Garbage, alpn);
        let mut client = https(&peer, &pki).await;
        client.fetch("/").await.unwrap_err();
        // A client that reads it closes the connection. (In HTTP/1.1 the request has already
        // failed.)
        let _ = client.ended().await;
        peer.closed(1).await;
    }
}

#[tokio::test]
async fn goaway_at_once_names_no_stream_and_processes_nothing() {
    let pki = Pki::new();
    let peer = MisbehavingPeer::start(&pki, Misbehaviour::Goaway { after: 0 });
    let client = https(&peer, &pki).await;
    client.ended().await.unwrap();
    peer.closed(1).await;
}

#[tokio::test]
async fn goaway_after_two_streams_answers_two_and_leaves_the_third_unprocessed() {
    let pki = Pki::new();
    let peer = MisbehavingPeer::start(&pki, Misbehaviour::Goaway { after: 2 });
    let mut client = https(&peer, &pki).await;
    assert_eq!(client.fetch("/").await.unwrap().status(), 200);
    assert_eq!(client.fetch("/").await.unwrap().status(), 200);
    client.fetch("/").await.unwrap_err();
    client.ended().await.unwrap();
}

#[tokio::test]
async fn dropping_a_peer_cuts_its_connections() {
    let pki = Pki::new();
    let peer = MisbehavingPeer::start(&pki, Misbehaviour::SilentAfterHandshake);
    let client = https(&peer, &pki).await;
    assert_eq!((peer.counts().accepted, peer.counts().closed), (1, 0));
    drop(peer);
    // Cut, not closed: neither close_notify nor GOAWAY comes.
    client.ended().await.unwrap_err();
}
