//! Every wait ends by a limit of this client's, with an error that names it (K5). The limits are
//! short here; the times that were measured are printed, and decide nothing.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use bowline_http_client::{Client, Error, ErrorKind, Proxies, Step, Timeouts};
use bowline_testkit::net::{OwnedTask, accept_loop, loopback};
use bowline_testkit::peers::{CyclingOptions, H2Wire, MisbehavingPeer, Misbehaviour};
use bowline_testkit::tls::Alpn;
use bytes::Bytes;
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use tokio::io::AsyncReadExt;

use crate::fixture::raw_server::{RawConnection, RawServer};
use crate::fixture::slow_key::soon;
use crate::fixture::{Fixture, fetch, jwt, post};

/// SETTINGS_MAX_CONCURRENT_STREAMS (RFC 9113 §6.5.2).
const MAX_STREAMS: u16 = 0x3;

/// SETTINGS_INITIAL_WINDOW_SIZE.
const INITIAL_WINDOW: u16 = 0x4;

const LIMIT: Duration = Duration::from_millis(600);

fn client(fixture: &Fixture, timeouts: Timeouts) -> Client {
    fixture.builder().timeouts(timeouts).build().unwrap()
}

/// The error of a call that must fail, and a line that says after how long it did.
#[allow(clippy::print_stdout, reason = "the measured times")]
async fn fails<T>(wait: &str, call: impl Future<Output = Result<T, Error>>) -> Error {
    let started = Instant::now();
    let error = soon(call).await.err().expect("nothing answers");
    println!("{wait}: ended after {:?}: {error}", started.elapsed());
    error
}

fn assert_names(error: &Error, step: Step, name: &str) {
    assert_eq!(error.kind(), ErrorKind::Timeout(step), "{error}");
    assert!(error.to_string().contains(name), "{error}");
}

/// The kernel drops all that arrives for this socket from now on, and so acknowledges nothing: a
/// peer that has vanished, or whose way back is cut.
#[cfg(target_os = "linux")]
fn vanish(connection: &RawConnection) {
    const RETURN: u16 = 0x06;
    let drop_all = [socket2::SockFilter::new(RETURN, 0, 0, 0)];
    let (tcp, _) = connection.0.get_ref();
    socket2::SockRef::from(tcp)
        .attach_filter(&drop_all)
        .unwrap();
}

/// The response's head has no limit unless the caller sets one. A peer that has vanished is noticed
/// all the same, without a PING: by TCP keep-alive if it has acknowledged the request, by
/// `TCP_USER_TIMEOUT` if it has not.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_that_never_comes_from_a_dead_peer_ends_by_the_dead_peers_limit() {
    for (alpn, is_request_acknowledged) in [
        (Alpn::Http1, true),
        (Alpn::Http2, true),
        (Alpn::Http1, false),
        (Alpn::Http2, false),
    ] {
        let fixture = Fixture::new();
        let server = RawServer::alpn(&fixture.pki, alpn).await;
        let mut timeouts = Timeouts::default();
        timeouts.dead_peer = Duration::from_secs(2);
        let client = std::sync::Arc::new(client(&fixture, timeouts));
        let (caller, url) = (client.clone(), server.origin());
        let call = tokio::spawn(async move {
            // Nothing that is repeated by itself.
            let token = jwt("plain", None);
            let call = post(&caller, &url, &token, "body");
            fails(&format!("dead peer, {alpn:?}"), call).await
        });
        let mut connection = soon(server.accept()).await;
        if is_request_acknowledged {
            // The request is the first thing that a client sends after the handshake.
            let mut byte = [0; 64];
            let read = soon(connection.0.read(&mut byte)).await.unwrap();
            assert!(read > 0);
        }
        vanish(&connection);
        let error = soon(call).await.unwrap();
        assert_eq!(error.kind(), ErrorKind::MayHaveBeenProcessed, "{error}");
        assert!(error.to_string().contains("dead_peer"), "{error}");
    }
}

/// A body in parts of 13,107 bytes, five of which fill a window of 65,535 to the last byte.
fn parts(parts: usize) -> impl http_body::Body<Data = Bytes, Error = Infallible> + Send + 'static {
    let part = || Ok(Frame::data(Bytes::from(vec![b'x'; 13_107])));
    StreamBody::new(futures_util::stream::iter((0..parts).map(move |_| part())))
}

async fn upload<B>(
    client: &Client,
    url: &str,
    body: B,
) -> Result<http::Response<bowline_http_client::Body>, Error>
where
    B: http_body::Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let request = http::Request::post(url).body(body).unwrap();
    client.send(request).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_the_peer_takes_nothing_of_ends_by_its_own_limit() {
    let mut timeouts = Timeouts::default();
    timeouts.request_body = LIMIT;
    // RFC 9113 §6.5.2: the window that each stream begins with. The server opens no other.
    for (wait, window) in [
        ("stream window 65,535", 65_535),
        ("stream window 0", 0),
        ("connection window", 1 << 24),
    ] {
        let fixture = Fixture::new();
        let server = RawServer::h2(&fixture.pki).await;
        let url = server.origin();
        let serving = tokio::spawn(async move {
            let settings = [(INITIAL_WINDOW, window)];
            let connection = server.accept().await.0;
            let mut wire = H2Wire::accept_with(connection, &settings).await.unwrap();
            // It reads, answers nothing and opens no window.
            while wire.request().await.is_ok() {}
        });
        let client = client(&fixture, timeouts);
        let whole = Full::new(Bytes::from(vec![b'x'; 1 << 20]));
        for error in [
            fails(wait, upload(&client, &url, whole)).await,
            fails(wait, upload(&client, &url, parts(6))).await,
        ] {
            assert_names(&error, Step::RequestBody, "request_body");
            assert!(error.may_have_been_processed());
        }
        drop(client);
        soon(serving).await.unwrap();
    }

    let fixture = Fixture::new();
    for alpn in [Alpn::Http1, Alpn::Http2] {
        let peer = MisbehavingPeer::start_alpn(&fixture.pki, Misbehaviour::NeverReads, alpn);
        let client = client(&fixture, timeouts);
        let wait = format!("closed socket, {alpn:?}");
        let whole = Full::new(Bytes::from(vec![b'x'; 32 << 20]));
        let error = fails(&wait, upload(&client, &peer.origin(), whole)).await;
        assert_names(&error, Step::RequestBody, "request_body");
    }
}

/// Its caller has all the time that it wants.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_its_own_caller_delays_has_no_limit() {
    let fixture = Fixture::new();
    for alpn in [Alpn::Http1, Alpn::Http2] {
        let server = fixture.unprotected(CyclingOptions::alpn(alpn));
        let mut timeouts = Timeouts::default();
        timeouts.request_body = Duration::from_millis(20);
        let client = client(&fixture, timeouts);
        // The beginning fills the first window of a stream to the last byte.
        let slowly = futures_util::stream::unfold(0, |part| async move {
            if part >= 5 {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            let data = Bytes::from(vec![b'x'; 13_107]);
            (part < 8).then_some((Ok(Frame::data(data)), part + 1))
        });
        let response = soon(upload(&client, &server.origin(), StreamBody::new(slowly))).await;
        let text = crate::fixture::text(response.unwrap()).await;
        assert_eq!(text.len(), "ok:".len() + 8 * 13_107);
    }
}

/// RFC 9113 §5.1.2: 0 is not special, it allows no stream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_allows_no_streams_for_good_ends_by_the_pools_limit() {
    let fixture = Fixture::new();
    let server = RawServer::h2(&fixture.pki).await;
    let url = server.origin();
    tokio::spawn(async move {
        loop {
            let connection = server.accept().await;
            tokio::spawn(async move {
                let settings = [(MAX_STREAMS, 0)];
                let mut wire = H2Wire::accept_with(connection.0, &settings).await?;
                // What was sent before the SETTINGS came is refused.
                loop {
                    let stream = wire.request().await?;
                    wire.refuse(stream).await?;
                }
                #[allow(unreachable_code)]
                std::io::Result::Ok(())
            });
        }
    });
    let mut timeouts = Timeouts::default();
    // The handshake has to end within it, on a busy machine too.
    timeouts.pool = 4 * LIMIT;
    // A token that needs a proof leaves the server time to show its limit before the request is
    // written: then it lies in hyper's queue.
    for token in [jwt("plain", None), fixture.token("a")] {
        let client = client(&fixture, timeouts);
        // The first finds no connection, the second one that has shown its limit.
        for wait in ["no streams, new connection", "no streams, open connection"] {
            let error = fails(wait, fetch(&client, &url, &token)).await;
            assert_names(&error, Step::Pool, "SETTINGS_MAX_CONCURRENT_STREAMS");
            assert!(!error.may_have_been_processed(), "{error}");
        }
        assert!(
            client.stats().connections_opened < 6,
            "{:?}",
            client.stats()
        );
    }
}

/// More requests than the limit, assigned before it was known. 100 is also what hyper is told to
/// assume until the peer's SETTINGS have come; 127 was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_beyond_the_limit_of_streams_get_a_second_connection() {
    for limit in [100, 127] {
        second_connection(limit).await;
    }
}

async fn second_connection(limit: u32) {
    let fixture = Fixture::new();
    let server = RawServer::h2(&fixture.pki).await;
    let client = std::sync::Arc::new(fixture.client());
    let (url, token) = (server.origin(), fixture.token("a"));
    let calls: Vec<_> = (0..limit + 3)
        .map(|_| {
            let (client, url, token) = (client.clone(), url.clone(), token.clone());
            tokio::spawn(async move { fetch(&client, &url, &token).await })
        })
        .collect();
    let settings = [(MAX_STREAMS, limit)];
    let first = soon(server.accept()).await.0;
    let mut first = H2Wire::accept_with(first, &settings).await.unwrap();
    // It answers nothing before the second connection has come.
    let reading = tokio::spawn(async move {
        let mut unanswered = Vec::new();
        while unanswered.len() + 1 < limit as usize {
            unanswered.push(first.request().await.unwrap());
        }
        (first, unanswered)
    });
    let second = soon(server.accept()).await.0;
    let mut second = H2Wire::accept_with(second, &settings).await.unwrap();
    for _ in 0..4 {
        let stream = soon(second.request()).await.unwrap();
        second.answer(stream, false).await.unwrap();
    }
    let (mut first, unanswered) = soon(reading).await.unwrap();
    for stream in unanswered {
        first.answer(stream, false).await.unwrap();
    }
    for call in calls {
        assert_eq!(soon(call).await.unwrap().unwrap().status(), 200);
    }
    assert_eq!(client.stats().connections_opened, 2);
}

/// A limit of 0 that is raised in time is only a delay, whether the request lies in hyper's queue
/// or in the pool's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_become_allowed_are_used_at_once() {
    let fixture = Fixture::new();
    let server = RawServer::h2(&fixture.pki).await;
    let client = std::sync::Arc::new(fixture.client());
    let url = server.origin();
    let call = |name: &str| {
        let (client, url, token) = (client.clone(), url.clone(), fixture.token(name));
        tokio::spawn(async move { fetch(&client, &url, &token).await })
    };
    let first = call("a");
    let settings = [(MAX_STREAMS, 0)];
    let mut wire = H2Wire::accept_with(soon(server.accept()).await.0, &settings)
        .await
        .unwrap();
    let second = call("b");
    // At most one request was sent before the limit came.
    wire.settings(&[(MAX_STREAMS, 10)]).await.unwrap();
    for _ in 0..2 {
        let stream = soon(wire.request()).await.unwrap();
        wire.answer(stream, false).await.unwrap();
    }
    for call in [first, second] {
        assert_eq!(soon(call).await.unwrap().unwrap().status(), 200);
    }
    assert!(client.stats().connections_opened <= 2);
}

/// A listener that accepts and says nothing, not even TLS.
fn silent() -> (std::net::SocketAddr, OwnedTask) {
    let tcp = loopback();
    let address = tcp.local_addr().unwrap();
    let accepting = accept_loop(tcp, |mut socket| async move {
        let _ = tokio::io::copy(&mut socket, &mut tokio::io::sink()).await;
    });
    (address, accepting)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_that_never_ends_and_a_proxy_that_says_nothing_end_by_their_limits() {
    let fixture = Fixture::new();
    let (address, _accepting) = silent();
    let mut timeouts = Timeouts::default();
    timeouts.tls_handshake = LIMIT;
    timeouts.proxy = LIMIT;
    let token = jwt("plain", None);

    let direct = client(&fixture, timeouts);
    let url = format!("https://{address}/");
    let error = fails("TLS handshake", fetch(&direct, &url, &token)).await;
    assert_names(&error, Step::TlsHandshake, "tls_handshake");

    let builder = fixture.builder().timeouts(timeouts);
    let proxies = Proxies::https(&address.to_string(), "");
    let proxied = builder.proxies(proxies).build().unwrap();
    let url = "https://server.example/";
    let error = fails("proxy", fetch(&proxied, url, &token)).await;
    assert_names(&error, Step::Proxy, "proxy");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_server_that_does_not_answer_ends_by_the_callers_own_limit() {
    let fixture = Fixture::new();
    for alpn in [Alpn::Http1, Alpn::Http2] {
        let peer =
            MisbehavingPeer::start_alpn(&fixture.pki, Misbehaviour::SilentAfterHandshake, alpn);
        let mut timeouts = Timeouts::default();
        timeouts.response = Some(LIMIT);
        let (client, token) = (client(&fixture, timeouts), jwt("plain", None));
        let url = peer.origin();
        let call = post(&client, &url, &token, "body");
        let error = fails(&format!("response, {alpn:?}"), call).await;
        assert_names(&error, Step::Response, "response");
    }
}
