//! The pool's limits, its choice of connections, and sending again (CL-7), on real connections.

use std::sync::Arc;
use std::time::Duration;

use crate::fixture::raw_server::RawServer;
use crate::fixture::{Fixture, fetch, ok, post, text};
use axum::Router;
use axum::extract::Request;
use bowline_http_client::{
    Cause, Client, CloseReason, ErrorKind, Limits, Repeatable, Step, Timeouts,
};
use bowline_testkit::peers::{CyclingOptions, CyclingServer, H2Wire};
use bowline_testkit::tls::Alpn;
use bytes::Bytes;
use futures_util::future::{join, join_all};
use http_body_util::Full;
use tokio::sync::Barrier;

fn h1() -> CyclingOptions {
    CyclingOptions::alpn(Alpn::Http1)
}

fn limited(fixture: &Fixture, limits: Limits) -> Client {
    fixture.builder().limits(limits).build().unwrap()
}

/// Waits until the client has noticed the end of `n` connections, and returns the reasons.
async fn closed(client: &Client, n: u64) -> Vec<(CloseReason, u64)> {
    loop {
        let closed = client.stats().connections_closed;
        if closed.values().sum::<u64>() >= n {
            return closed.into_iter().collect();
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn no_more_connections_than_allowed_and_every_request_is_answered() {
    let fixture = Fixture::new();
    let server = fixture.server(h1());
    let mut limits = Limits::default();
    limits.per_origin = 2;
    let client = limited(&fixture, limits);
    let (token, url) = (fixture.token("a"), server.origin());
    join_all((0..50).map(|_| ok(&client, &url, &token))).await;
    assert!(server.counts().opened <= 2, "{:?}", server.counts());
    assert_eq!(client.stats().totals.answered, 50);
}

#[tokio::test]
async fn origins_share_the_total_limit() {
    let fixture = Fixture::new();
    let servers = [
        fixture.server(h1()),
        fixture.server(CyclingOptions::default()),
        fixture.server(h1()),
    ];
    let mut limits = Limits::default();
    limits.in_all = 1;
    let client = limited(&fixture, limits);
    let token = fixture.token("a");
    for _ in 0..3 {
        let calls = servers.iter().map(|server| {
            let (client, token, url) = (&client, &token, server.origin());
            async move { ok(client, &url, token).await }
        });
        join_all(calls).await;
    }
    let stats = client.stats();
    assert_eq!(stats.totals.answered, 9);
    assert!(
        stats.connections_closed.contains_key(&CloseReason::Evicted),
        "{stats:?}"
    );
}

#[tokio::test]
async fn idle_and_old_connections_are_closed_and_the_next_proof_names_the_reason() {
    let fixture = Fixture::new();
    let soon = Duration::from_millis(20);
    for alpn in [Alpn::Http1, Alpn::Http2] {
        let (mut idle, mut age) = (Limits::default(), Limits::default());
        idle.idle = soon;
        age.age = Some(soon);
        // Else the request would be likely to find a successor.
        age.ahead = false;
        for (limits, reason) in [(idle, CloseReason::Idle), (age, CloseReason::Age)] {
            let server = fixture.server(CyclingOptions::alpn(alpn));
            let client = limited(&fixture, limits);
            let (token, url) = (fixture.token("a"), server.origin());
            ok(&client, &url, &token).await;
            server.closed(1).await;
            assert_eq!(closed(&client, 1).await, [(reason, 1)], "{alpn:?}");
            ok(&client, &url, &token).await;
            assert_eq!(
                client.stats().totals.after,
                [(reason, 1)].into(),
                "{alpn:?}"
            );
        }
    }
}

#[tokio::test]
async fn the_servers_keep_alive_time_out_is_honoured() {
    let fixture = Fixture::new();
    let answer = || async { ([("keep-alive", "timeout=1, max=100")], "ok:") };
    let server = CyclingServer::start(&fixture.pki, h1(), Router::new().fallback(answer));
    let client = fixture.client();
    ok(&client, &server.origin(), &fixture.token("a")).await;
    // One second less than the server's second: at once, and long before our own limit.
    server.closed(1).await;
    assert_eq!(closed(&client, 1).await, [(CloseReason::Idle, 1)]);
}

#[tokio::test]
async fn a_second_h2_connection_is_opened_at_the_peers_stream_limit() {
    let fixture = Fixture::new();
    let all = Arc::new(Barrier::new(4));
    let waits = all.clone();
    let handler = move |request: Request| {
        let all = waits.clone();
        async move {
            if request.uri().path() == "/wait" {
                all.wait().await;
            }
            "ok:"
        }
    };
    // Two requests for each: the third stream stays free.
    let options = CyclingOptions {
        max_streams: 3,
        ..CyclingOptions::default()
    };
    let server = CyclingServer::start(&fixture.pki, options, Router::new().fallback(handler));
    let (client, token) = (fixture.client(), fixture.token("a"));
    // The client now knows the peer's SETTINGS.
    for _ in 0..2 {
        ok(&client, &server.origin(), &token).await;
    }
    let url = format!("{}/wait", server.origin());
    // Four at once, or the barrier never opens.
    join_all((0..4).map(|_| ok(&client, &url, &token))).await;
    assert_eq!(server.counts().opened, 2);
    assert_eq!(
        client.stats().totals.causes,
        [(Cause::First, 1), (Cause::Parallel, 1)].into()
    );
}

#[tokio::test]
async fn the_idle_connection_that_holds_the_proof_is_chosen() {
    let fixture = Fixture::new();
    let server = fixture.server(h1());
    let client = fixture.client();
    let (a, b, url) = (fixture.token("a"), fixture.token("b"), server.origin());
    // Two connections, one token each: the first is busy with its stream while the second is
    // opened.
    let stream = fetch(&client, &format!("{url}/slow"), &a).await.unwrap();
    ok(&client, &url, &b).await;
    text(stream).await;
    for _ in 0..5 {
        ok(&client, &url, &b).await;
        ok(&client, &url, &a).await;
    }
    let stats = client.stats();
    assert_eq!(
        (stats.connections_opened, stats.totals.signatures()),
        (2, 2)
    );
}

#[tokio::test]
async fn a_request_that_may_have_been_processed_is_sent_again_only_if_that_is_safe() {
    let fixture = Fixture::new();
    for alpn in [Alpn::Http1, Alpn::Http2] {
        for (method, repeatable, arrivals) in
            [("POST", false, 1), ("GET", false, 2), ("POST", true, 2)]
        {
            let handler = || async { std::future::pending::<&'static str>().await };
            let options = CyclingOptions::alpn(alpn);
            let server =
                CyclingServer::start(&fixture.pki, options, Router::new().fallback(handler));
            let client = fixture.client();
            let mut request = http::Request::builder()
                .method(method)
                .uri(server.origin())
                .extension(fixture.token("a"))
                .body(Full::new(Bytes::from_static(b"pay")))
                .unwrap();
            if repeatable {
                request.extensions_mut().insert(Repeatable);
            }
            let cutting = async {
                for n in 1..=arrivals {
                    server.received(n).await;
                    server.cut_all();
                }
            };
            let (result, ()) = join(client.send(request), cutting).await;
            let error = result.unwrap_err();
            assert_eq!(
                error.kind(),
                ErrorKind::MayHaveBeenProcessed,
                "{alpn:?} {method}: {error}"
            );
            assert_eq!(server.counts().requests, arrivals, "{alpn:?} {method}");
            let totals = client.stats().totals;
            assert_eq!((totals.requests, totals.may_have_been_processed), (1, 1));
            assert_eq!(
                totals.signatures(),
                arrivals,
                "each attempt has the proof of its own connection"
            );
        }
    }
}

/// The second attempt cannot be sent; that says nothing about the first.
#[tokio::test]
async fn a_request_stays_possibly_processed_whatever_the_outcome_of_its_second_attempt() {
    let fixture = Fixture::new();
    for alpn in [Alpn::Http1, Alpn::Http2] {
        let handler = || async { std::future::pending::<&'static str>().await };
        let options = CyclingOptions::alpn(alpn);
        let server = CyclingServer::start(&fixture.pki, options, Router::new().fallback(handler));
        let (client, url, token) = (fixture.client(), server.origin(), fixture.token("a"));
        let going = async move {
            server.received(1).await;
            drop(server);
        };
        let (result, ()) = join(fetch(&client, &url, &token), going).await;
        let error = result.unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::MayHaveBeenProcessed,
            "{alpn:?}: {error}"
        );
        let totals = client.stats().totals;
        assert_eq!((totals.requests, totals.may_have_been_processed), (1, 1));
    }
}

#[tokio::test]
async fn a_refused_stream_is_unprocessed_and_sent_again_whatever_its_method() {
    let fixture = Fixture::new();
    let server = RawServer::h2(&fixture.pki).await;
    let (client, token, url) = (fixture.client(), fixture.token("a"), server.origin());
    let serve = async {
        let mut h2 = h2::server::handshake(server.accept().await.0)
            .await
            .unwrap();
        let mut arrivals = 0;
        while let Some(Ok((mut request, mut respond))) = h2.accept().await {
            arrivals += 1;
            if arrivals == 1 {
                respond.send_reset(h2::Reason::REFUSED_STREAM);
                continue;
            }
            tokio::spawn(async move {
                let mut stream = respond
                    .send_response(http::Response::new(()), false)
                    .unwrap();
                let mut body = b"ok:".to_vec();
                while let Some(Ok(data)) = request.body_mut().data().await {
                    body.extend(data);
                }
                stream.send_data(body.into(), true).unwrap();
            });
        }
    };
    let call = async { text(post(&client, &url, &token, "pay").await.unwrap()).await };
    tokio::select! {
        () = serve => panic!("the connection ended"),
        answer = call => assert_eq!(answer, "ok:pay"),
    }
    let totals = client.stats().totals;
    assert_eq!((totals.answered, totals.signatures()), (1, 1));
}

#[tokio::test]
async fn a_body_can_be_drained_in_the_background_and_its_connection_is_reused() {
    let fixture = Fixture::new();
    let server = fixture.server(h1());
    // One connection: the next request waits until it is returned or closed.
    let mut limits = Limits::default();
    limits.per_origin = 1;
    let client = limited(&fixture, limits);
    let (token, url) = (fixture.token("a"), server.origin());
    for _ in 0..5 {
        let response = fetch(&client, &format!("{url}/slow"), &token)
            .await
            .unwrap();
        response.into_body().drain_in_background();
        ok(&client, &url, &token).await;
    }
    assert_eq!(
        (server.counts().opened, client.stats().totals.signatures()),
        (1, 1)
    );
}

#[tokio::test]
async fn a_request_that_waits_too_long_for_a_connection_says_so() {
    let fixture = Fixture::new();
    let server = fixture.server(h1());
    let mut timeouts = Timeouts::default();
    timeouts.pool = Duration::from_millis(50);
    let mut limits = Limits::default();
    limits.per_origin = 1;
    let client = fixture
        .builder()
        .limits(limits)
        .timeouts(timeouts)
        .build()
        .unwrap();
    let (token, url) = (fixture.token("a"), server.origin());
    // Opened, or free again, soon, but perhaps not within this client's short time-out.
    let served = async |path: &str| loop {
        match fetch(&client, &format!("{url}{path}"), &token).await {
            Ok(response) => return response,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Timeout(Step::Pool), "{error}"),
        }
    };
    let stream = served("/stream").await;
    let error = fetch(&client, &url, &token).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout(Step::Pool), "{error}");
    assert!(error.is_worth_another_try());
    drop(stream);
    served("/").await;
}

#[tokio::test]
async fn an_h2_connection_that_does_not_acknowledge_a_ping_is_closed() {
    let fixture = Fixture::new();
    let server = RawServer::h2(&fixture.pki).await;
    // Off by default.
    let builder = fixture.builder().ping(Duration::from_secs(30));
    let client = builder.build().unwrap();
    let (url, token) = (server.origin(), fixture.token("a"));
    // Answers one request, and reads nothing from then on.
    let one_answer = async || {
        let mut peer = H2Wire::accept(server.accept().await.0).await.unwrap();
        let stream = peer.request().await.unwrap();
        peer.answer(stream, false).await.unwrap();
        peer
    };
    let (answer, _silent) = join(fetch(&client, &url, &token), one_answer()).await;
    assert_eq!(text(answer.unwrap()).await, "");

    // On a silent connection only time-outs can happen, so the test can pause the clock.
    tokio::time::pause();
    let started = tokio::time::Instant::now();
    while client.stats().connections_closed.is_empty() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let seconds = started.elapsed().as_secs();
    tokio::time::resume();
    assert!(
        (39..45).contains(&seconds),
        "30 s, and 10 s for the answer: {seconds}"
    );
    let (answer, _peer) = join(fetch(&client, &url, &token), one_answer()).await;
    assert_eq!(text(answer.unwrap()).await, "");
    assert_eq!(client.stats().totals.causes[&Cause::Reconnect], 1);
}
