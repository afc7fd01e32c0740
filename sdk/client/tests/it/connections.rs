//! Connections: reuse, their end, resumption, and what invalidates a proof.

use crate::fixture::raw_server::RawServer;
use crate::fixture::{Fixture, fetch, jwt, ok, text};
use axum::Router;
use bowline_http_client::{
    Cause, CloseReason, Error, ErrorKind, Event, Fault, Http2Only, HttpVersions, Observer,
    TlsVersion,
};
use bowline_testkit::peers::{CyclingOptions, PlainServer};
use bowline_testkit::tls::{Alpn, ClientAuth, TlsOptions, Versions};
use bytes::Bytes;
use futures_util::future::{join, join_all};
use http::Request;
use http_body_util::Full;
use std::sync::{Arc, Mutex};
use std::task::Poll;

fn h1() -> CyclingOptions {
    CyclingOptions::alpn(Alpn::Http1)
}

#[tokio::test]
async fn a_resumed_session_needs_a_new_proof() {
    let fixture = Fixture::new();
    let server = fixture.server(h1());
    let (client, token) = (fixture.client(), fixture.token("a"));

    ok(&client, &server.origin(), &token).await;
    server.retire_all();
    server.closed(1).await;
    ok(&client, &server.origin(), &token).await;

    let stats = client.stats();
    assert_eq!(
        (stats.connections_opened, stats.connections_resumed),
        (2, 1),
        "HandshakeKind::Resumed at the client"
    );
    assert_eq!(server.counts().resumed, 1, "the server counts it too");
    assert_eq!(
        stats.totals.causes,
        [(Cause::First, 1), (Cause::Reconnect, 1)].into()
    );
    assert_eq!(fixture.requests.proofs().len(), 2);
}

#[tokio::test]
async fn a_proof_stays_valid_across_key_updates() {
    let fixture = Fixture::new();
    let config = TlsOptions::alpn(Alpn::Http1).server(
        &fixture.pki,
        &fixture.pki.localhost(),
        ClientAuth::Required,
    );
    let server = RawServer::bind(config).await;
    let (client, token, origin) = (fixture.client(), fixture.token("a"), server.origin());

    let serve = async {
        let mut connection = server.accept().await;
        let mut proofs = Vec::new();
        for _ in 0..3 {
            let head = connection.read().await;
            proofs.push(connection.verified_proof(&head, &token));
            // The client is asked to update its keys too (RFC 8446 §4.6.3).
            connection
                .0
                .get_mut()
                .1
                .refresh_traffic_keys()
                .expect("TLS 1.3");
            connection.answer().await;
        }
        proofs
    };
    let call = async {
        for _ in 0..3 {
            ok(&client, &origin, &token).await;
        }
    };
    let (proofs, ()) = join(serve, call).await;
    assert!(proofs.iter().all(|proof| *proof == proofs[0]));
    assert_eq!(client.stats().totals.signatures(), 1);
}

#[tokio::test]
async fn tls_1_2_works_with_the_extended_master_secret() {
    let fixture = Fixture::new();
    let options = TlsOptions {
        versions: Versions::Tls12,
        ..TlsOptions::alpn(Alpn::Http1)
    };
    let server = RawServer::bind(options.server(
        &fixture.pki,
        &fixture.pki.localhost(),
        ClientAuth::Required,
    ))
    .await;
    let versions = Arc::new(Versions12::default());
    let observer: Arc<dyn Observer> = versions.clone();
    let client = fixture.builder().observer(observer).build().unwrap();
    let (token, origin) = (fixture.token("a"), server.origin());

    let serve = async {
        for _ in 0..2 {
            let mut connection = server.accept().await;
            let head = connection.read().await;
            connection.verified_proof(&head, &token);
            connection.answer().await;
        }
    };
    let call = async {
        ok(&client, &origin, &token).await;
        // The server closes; the second connection resumes the session with a ticket.
        while client.stats().connections_closed.is_empty() {
            tokio::task::yield_now().await;
        }
        ok(&client, &origin, &token).await;
    };
    join(serve, call).await;
    assert_eq!(
        *versions.0.lock().unwrap(),
        [(TlsVersion::Tls12, false), (TlsVersion::Tls12, true)]
    );
    assert_eq!(client.stats().totals.signatures(), 2);
}

/// Notes the TLS version of each connection, and whether it was resumed.
#[derive(Default)]
struct Versions12(Mutex<Vec<(TlsVersion, bool)>>);

impl Observer for Versions12 {
    fn event(&self, event: &Event<'_>) {
        if let Event::ConnectionOpened { facts, .. } = event {
            let tls = facts.tls().expect("https");
            self.0
                .lock()
                .unwrap()
                .push((tls.version(), tls.is_resumed()));
        }
    }
}

#[tokio::test]
async fn a_connection_that_died_while_idle_is_noticed_before_use() {
    let fixture = Fixture::new();
    for alpn in [Alpn::Http1, Alpn::Http2] {
        let server = fixture.server(CyclingOptions::alpn(alpn));
        let (client, token) = (fixture.client(), fixture.token("a"));
        for n in 1..=20 {
            ok(&client, &server.origin(), &token).await;
            // No GOAWAY, no close_notify.
            server.cut_all();
            server.closed(n).await;
        }
        let stats = client.stats();
        assert_eq!(stats.totals.answered, 20);
        assert_eq!(stats.totals.signatures(), 20);
        assert_eq!(stats.totals.after.values().sum::<u64>(), 19);
    }
}

#[tokio::test]
async fn concurrent_h1_calls_reuse_their_connections() {
    let fixture = Fixture::new();
    let server = fixture.server(h1());
    let (client, token, url) = (fixture.client(), fixture.token("a"), server.origin());
    for _ in 0..10 {
        join_all((0..8).map(|_| ok(&client, &url, &token))).await;
    }
    let stats = client.stats();
    assert_eq!(stats.totals.answered, 80);
    // A returned connection may serve a request that had asked for a new one, so there may be fewer
    // than eight.
    assert!(stats.connections_opened <= 8, "{stats:?}");
    assert_eq!(
        stats.totals.signatures(),
        server
            .counts()
            .connections
            .iter()
            .filter(|c| c.requests > 0)
            .count() as u64
    );
}

#[tokio::test]
async fn a_response_dropped_before_its_end_closes_its_h1_connection_at_once() {
    let fixture = Fixture::new();
    let server = fixture.server(h1());
    let (client, token) = (fixture.client(), fixture.token("a"));
    let stream = fetch(&client, &format!("{}/stream", server.origin()), &token)
        .await
        .unwrap();
    drop(stream);
    server.closed(1).await;
    while client.stats().connections_closed.is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        client.stats().connections_closed,
        [(CloseReason::Cancelled, 1)].into()
    );
}

#[tokio::test]
async fn dropping_the_client_closes_its_connections() {
    let fixture = Fixture::new();
    for alpn in [Alpn::Http1, Alpn::Http2] {
        let server = fixture.server(CyclingOptions::alpn(alpn));
        let client = fixture.client();
        ok(&client, &server.origin(), &fixture.token("a")).await;
        drop(client);
        server.closed(1).await;
    }
}

#[tokio::test]
async fn a_cancelled_request_leaves_the_pool_consistent() {
    let fixture = Fixture::new();
    for alpn in [Alpn::Http1, Alpn::Http2] {
        let server = fixture.server(CyclingOptions::alpn(alpn));
        let (client, token, url) = (fixture.client(), fixture.token("a"), server.origin());
        for polls in 1..=40 {
            // Dropped at each stage: waiting for a connection, signing, writing, reading.
            let mut call = Box::pin(async {
                text(fetch(&client, &url, &token).await?).await;
                Ok::<_, Error>(())
            });
            for _ in 0..polls {
                if std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx)))
                    .await
                    .is_ready()
                {
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(call);
        }
        ok(&client, &url, &token).await;
        let totals = client.stats().totals;
        assert_eq!(totals.requests, 41);
        assert_eq!(
            totals.answered + totals.failed + totals.may_have_been_processed,
            41
        );
    }
}

#[tokio::test]
async fn plaintext_is_refused_unless_it_is_loopback_and_allowed() {
    let fixture = Fixture::new();
    let closed_by_default = fetch(
        &fixture.client(),
        "http://127.0.0.1:1/",
        &fixture.token("a"),
    )
    .await
    .unwrap_err();
    assert_eq!(closed_by_default.kind(), ErrorKind::PlaintextRefused);

    let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", tcp.local_addr().unwrap());
    let served = tokio::spawn(async move {
        axum::serve(tcp, axum::Router::new().fallback(|| async { "ok:" })).await
    });
    let client = fixture
        .builder()
        .allow_plaintext_on_loopback()
        .build()
        .unwrap();
    let remote = fetch(&client, "http://192.0.2.1/", &fixture.token("a"))
        .await
        .unwrap_err();
    assert_eq!(remote.kind(), ErrorKind::PlaintextRefused);
    let bound = fetch(&client, &url, &fixture.token("a")).await.unwrap_err();
    assert_eq!(
        bound.kind(),
        ErrorKind::PlaintextRefused,
        "a session-bound token has no session to be bound to: {bound}"
    );
    ok(&client, &url, &crate::fixture::jwt("plain", None)).await;
    served.abort();
}

#[tokio::test]
async fn a_request_for_http2_only_is_never_written_to_a_connection_of_another_version() {
    let fixture = Fixture::new();
    let for_http2 = |url: &str| {
        let request = Request::get(url).extension(Http2Only);
        request.body(Full::<Bytes>::default()).unwrap()
    };
    let [h1, h2] =
        [Alpn::Http1, Alpn::Http2].map(|alpn| fixture.server(CyclingOptions::alpn(alpn)));
    let plain = PlainServer::start(Router::new());
    let plain_url = plain.origin();
    let client = |http| {
        let builder = fixture
            .builder()
            .http_versions(http)
            .allow_plaintext_on_loopback();
        builder.build().unwrap()
    };
    for (http, url, why) in [
        (HttpVersions::Auto, h1.origin(), "did not choose h2 by ALPN"),
        (
            HttpVersions::Http1,
            h1.origin(),
            "this client offers nothing else",
        ),
        (
            HttpVersions::Auto,
            plain_url.clone(),
            "unless it is built for HTTP/2 only",
        ),
    ] {
        let client = client(http);
        let error = client.send(for_http2(&url)).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.fault()),
            (ErrorKind::HttpVersion, Fault::Peer),
            "{error}"
        );
        assert!(error.to_string().contains(why), "{error}");
        assert!(!error.may_have_been_processed());
        assert_eq!(client.stats().totals.answered, 0);
    }
    assert_eq!(fixture.requests.all().len(), 0, "nothing was written");

    for (http, url) in [
        (HttpVersions::Auto, h2.origin()),
        (HttpVersions::Http2, plain_url),
    ] {
        assert!(client(http).send(for_http2(&url)).await.is_ok(), "{http:?}");
    }

    // The connection that it was not written to is still used.
    let (client, opened) = (fixture.client(), h1.counts().opened);
    assert!(client.send(for_http2(&h1.origin())).await.is_err());
    ok(&client, &h1.origin(), &fixture.token("a")).await;
    assert_eq!(h1.counts().opened, opened + 1);
}

/// A server that does not need the rest of a request may reset its stream after a complete response
/// (RFC 9113 §8.1). A server that resets it within a response has not answered, whatever error code
/// it sends. hyper does not report which of the two happened; the first is only possible if the
/// request had not been sent completely.
#[tokio::test]
async fn a_stream_that_is_reset_without_error_has_ended_only_if_its_request_was_cut_short() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut connection = h2::server::handshake(listener.accept().await.unwrap().0)
            .await
            .unwrap();
        let mut ping = connection.ping_pong().unwrap();
        let mut unread = Vec::new();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            unread.push(request.into_body());
            let mut stream = respond
                .send_response(http::Response::new(()), false)
                .unwrap();
            stream
                .send_data(Bytes::from_static(b"answer"), false)
                .unwrap();
            // The frames have been sent when the PING is acknowledged; a reset would discard them.
            let settled = ping.ping(h2::Ping::opaque());
            tokio::pin!(settled);
            tokio::select! {
                _ = &mut settled => {}
                _ = std::future::poll_fn(|cx| connection.poll_closed(cx)) => return,
            }
            stream.send_reset(h2::Reason::NO_ERROR);
        }
    });
    let client = bowline_http_client::Client::builder()
        .http_versions(HttpVersions::Http2)
        .allow_plaintext_on_loopback()
        .build()
        .unwrap();
    // More than a stream's window, so that it is never all sent.
    for (bytes, ends) in [(1 << 20, true), (10, false)] {
        let request = Request::post(&url)
            .body(Full::new(Bytes::from(vec![0; bytes])))
            .unwrap();
        let response = client.send(request).await.unwrap();
        let read = http_body_util::BodyExt::collect(response.into_body()).await;
        match read {
            Ok(body) => assert!(ends && body.to_bytes() == "answer"),
            Err(e) => assert!(!ends && e.kind() == ErrorKind::Protocol, "{e}"),
        }
    }
    assert_eq!(client.stats().connections_opened, 1);
}

/// CL-9: a resumed handshake does not say whether its server asks for a certificate, and where an
/// origin has given both answers the ticket does not either: no session of it is resumed.
#[tokio::test]
async fn an_origin_that_asks_sometimes_is_not_resumed() {
    let fixture = Fixture::new();
    let options = TlsOptions::alpn(Alpn::Http1);
    let config = |auth| options.server(&fixture.pki, &fixture.pki.localhost(), auth);
    let asks = config(ClientAuth::Required);
    // Takes no tickets and gives none.
    let mut does_not_ask = Arc::unwrap_or_clone(config(ClientAuth::None));
    does_not_ask.send_tls13_tickets = 0;
    does_not_ask.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    does_not_ask.ticketer = Arc::new(NoTickets);
    let does_not_ask = Arc::new(does_not_ask);
    let server = RawServer::bind(asks.clone()).await;
    let client = fixture.client();
    let (bound, plain) = (fixture.token("a"), jwt("b", None));
    let url = server.origin();
    let mut calls = 0;
    for (config, token) in [
        (&asks, &bound),
        (&does_not_ask, &plain),
        (&asks, &bound),
        (&asks, &bound),
    ] {
        let serve = async {
            let mut connection = server.accept_with(config.clone()).await;
            connection.read().await;
            connection.answer().await;
        };
        join(serve, ok(&client, &url, token)).await;
        calls += 1;
        while client.stats().connections_closed.values().sum::<u64>() < calls {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(client.stats().connections_resumed, 0);
}

#[derive(Debug)]
struct NoTickets;

impl rustls::server::ProducesTickets for NoTickets {
    fn enabled(&self) -> bool {
        false
    }

    fn lifetime(&self) -> u32 {
        0
    }

    fn encrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn decrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}
