//! How connections end, and what does not end them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::routing::any;
use bowline_server::{
    Acceptor, CloseReason, Connection, ConnectionLimits, Listener, PeerFacts, ServeOptions,
    ServerEvent, serve_connection,
};
use futures_util::future::join_all;
use http::Request;
use http_body_util::Empty;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;

use crate::fixture::*;

const ALPN: [&str; 2] = ["h2", "http/1.1"];

/// Longer than any test takes.
const NEVER: Duration = Duration::from_secs(3600);

/// Options with which no time-out ends a connection.
fn without_timeouts(fixture: &Fixture) -> ServeOptions {
    let mut options = fixture.options();
    options.drain_timeout = NEVER;
    options
}

/// Limits with which no time-out ends a connection.
fn unlimited() -> ConnectionLimits {
    let mut limits = ConnectionLimits::default();
    limits.first_request_timeout = NEVER;
    limits.idle_timeout = NEVER;
    limits
}

#[tokio::test]
async fn rs_1_past_not_after_a_request_is_refused_and_the_connection_is_drained() {
    for alpn in ALPN {
        let fixture = Fixture::new();
        let listener = fixture.listener_with(fixture.tls(), unlimited()).await;
        let server = TestServer::start(
            listener,
            binding_report().layer(fixture.layer()),
            without_timeouts(&fixture),
        );
        let (token, key) = (fixture.token(), fixture.agent.proof_key());
        let mut connection = HttpConnection::connect(server.addr, &fixture.client(alpn)).await;
        let proof = connection.proof(&key, &token);
        connection.assert_passes(&token, &proof).await;

        fixture.clock.advance(20 * 365 * 24 * 60 * 60);
        connection
            .assert_refused(&token, Some(&proof), "RS-1")
            .await;
        within(connection.ended).await.unwrap();
    }
}

#[tokio::test]
async fn rs_1_at_not_after_a_connection_is_drained_even_if_it_is_idle_or_requests_public_paths_only()
 {
    for alpn in ALPN {
        for asks in [0, 3] {
            let fixture = Fixture::new();
            let closed = Arc::new(Mutex::new(Vec::new()));
            let (log, opened) = (closed.clone(), Arc::new(Notify::new()));
            let tell = opened.clone();
            let acceptor = Acceptor::new(fixture.tls().build().unwrap()).observer(
                move |event: &ServerEvent| match event {
                    ServerEvent::ConnectionOpened { .. } => tell.notify_one(),
                    ServerEvent::ConnectionClosed { reason, .. } => {
                        log.lock().unwrap().push(*reason)
                    }
                    _ => {}
                },
            );
            let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let listener = Listener::with_limits(tcp, acceptor, unlimited()).unwrap();
            let layer = fixture.layer().public_paths(["/"]);
            let server = TestServer::start(
                listener,
                binding_report().layer(layer),
                without_timeouts(&fixture),
            );
            let mut connection = HttpConnection::connect(server.addr, &fixture.client(alpn)).await;
            within(opened.notified()).await;
            for _ in 0..asks {
                let request = Request::get("/").body(Empty::new()).unwrap();
                assert_eq!(connection.send(request).await.unwrap().status, 200);
            }
            fixture.clock.advance(20 * 365 * 24 * 60 * 60);
            // The server reads the clock once a minute: let one minute pass.
            tokio::time::pause();
            tokio::time::advance(Duration::from_secs(61)).await;
            tokio::time::resume();
            within(connection.ended).await.unwrap();
            server.stop().await;
            assert_eq!(*closed.lock().unwrap(), [CloseReason::Certificate]);
        }
    }
}

#[tokio::test]
async fn rs_1_under_axum_serve_an_expired_connection_is_closed_even_without_requests() {
    for alpn in ALPN {
        let fixture = Fixture::new();
        let listener = fixture.listener(fixture.tls()).await;
        let addr = listener.local_addr();
        let router = binding_report().layer(fixture.layer().public_paths(["/"]));
        let app = router.into_make_service_with_connect_info::<PeerFacts>();
        tokio::spawn(axum::serve(listener, app).into_future());
        let mut connection = HttpConnection::connect(addr, &fixture.client(alpn)).await;
        let request = Request::get("/").body(Empty::new()).unwrap();
        assert_eq!(connection.send(request).await.unwrap().status, 200);
        fixture.clock.advance(20 * 365 * 24 * 60 * 60);
        // A minute until it is noticed, and half a minute for requests in flight.
        tokio::time::pause();
        for _ in 0..2 {
            tokio::time::advance(Duration::from_secs(61)).await;
            tokio::task::yield_now().await;
        }
        tokio::time::resume();
        within(connection.ended).await.unwrap();
    }
}

/// Otherwise a client with request-bound proofs would be refused on this connection forever.
#[tokio::test]
async fn rs_9_under_axum_serve_a_connection_whose_jti_quota_is_full_is_closed() {
    for alpn in ALPN {
        let fixture = Fixture::new();
        let closed = Arc::new(Mutex::new(Vec::new()));
        let log = closed.clone();
        let acceptor =
            Acceptor::new(fixture.tls().build().unwrap()).observer(move |event: &ServerEvent| {
                if let ServerEvent::ConnectionClosed { reason, .. } = event {
                    log.lock().unwrap().push(*reason);
                }
            });
        let listener = Listener::bind("127.0.0.1:0", acceptor).await.unwrap();
        let addr = listener.local_addr();
        let layer = fixture
            .layer()
            .origins(["https://localhost".parse().unwrap()]);
        let app = binding_report().layer(layer.jti_quota(1));
        let app = app.into_make_service_with_connect_info::<PeerFacts>();
        tokio::spawn(axum::serve(listener, app).into_future());
        let (token, key) = (fixture.token(), fixture.agent.proof_key());
        let mut connection = HttpConnection::connect(addr, &fixture.client(alpn)).await;
        let proof = connection.proof_for(&key, &token, "https://localhost/");
        connection.assert_passes(&token, &proof).await;
        let proof = connection.proof_for(&key, &token, "https://localhost/");
        connection
            .assert_refused(&token, Some(&proof), "RS-9")
            .await;
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(31)).await;
        tokio::time::resume();
        within(connection.ended).await.unwrap();
        let has_closed = async {
            while closed.lock().unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        within(has_closed).await;
        assert_eq!(*closed.lock().unwrap(), [CloseReason::JtiQuota], "{alpn}");
    }
}

#[tokio::test]
async fn stopping_lets_requests_in_flight_finish_and_then_ends() {
    for alpn in ALPN {
        let fixture = Fixture::new();
        let (arrived, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (tell, wait) = (arrived.clone(), go_on.clone());
        let slow = Router::new().route(
            "/",
            any(move || async move {
                tell.notify_one();
                wait.notified().await;
                "\"done\""
            }),
        );
        let server = TestServer::start(
            fixture.listener(fixture.tls()).await,
            slow,
            without_timeouts(&fixture),
        );
        let addr = server.addr;
        let mut connection = HttpConnection::connect(addr, &fixture.client(alpn)).await;
        let in_flight = tokio::spawn(async move {
            connection
                .send(Request::get("/").body(Empty::new()).unwrap())
                .await
        });
        within(arrived.notified()).await;

        let stopped = server.stop();
        // Wait until the server no longer listens.
        while tls(addr, &fixture.client(alpn)).await.is_ok() {}
        go_on.notify_one();
        assert_eq!(within(in_flight).await.unwrap().unwrap().body, "done");
        stopped.await;
    }
}

/// Else its client would send another request on a connection that is about to close.
#[tokio::test]
async fn a_response_that_is_ready_when_the_drain_begins_says_that_it_is_the_last() {
    let fixture = Fixture::new();
    let acceptor = Acceptor::new(fixture.tls().build().unwrap());
    // By chance either could be looked at first.
    for _ in 0..20 {
        let [arrived, go_on, stop] = [(); 3].map(|()| Arc::new(Notify::new()));
        let (tell, wait) = (arrived.clone(), go_on.clone());
        let slow = Router::new().fallback(async move || {
            tell.notify_one();
            wait.notified().await;
        });
        let (near, far) = duplex(16 * 1024);
        let (acceptor, options) = (acceptor.clone(), without_timeouts(&fixture));
        let stopped = stop.clone();
        let serving = tokio::spawn(async move {
            let (stream, facts) = acceptor.accept(far).await.unwrap();
            let connection = Connection::new(stream, facts, &unlimited());
            serve_connection(connection, slow, &options, stopped.notified()).await;
        });
        let connector = TlsConnector::from(fixture.client("http/1.1"));
        let name = "localhost".try_into().unwrap();
        let mut stream = within(connector.connect(name, near)).await.unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .await
            .unwrap();
        stream.flush().await.unwrap();
        within(arrived.notified()).await;
        // The task of the connection does not run between the two.
        go_on.notify_one();
        stop.notify_one();
        let mut answer = String::new();
        within(stream.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        within(serving).await.unwrap();
    }
}

/// A balancer may have led it here a moment before.
#[tokio::test]
async fn a_peer_that_was_connecting_when_the_server_stops_gets_its_handshake() {
    let fixture = Fixture::new();
    let server = fixture.start().await;
    let addr = server.addr;
    let sockets = join_all((0..20).map(|_| TcpStream::connect(addr))).await;
    let stopped = tokio::spawn(server.stop());
    // Until it listens no more.
    within(async { while TcpStream::connect(addr).await.is_ok() {} }).await;
    for socket in sockets {
        let connector = TlsConnector::from(fixture.client("h2"));
        let name = "localhost".try_into().unwrap();
        let handshake = within(connector.connect(name, socket.unwrap())).await;
        drop(handshake.unwrap());
    }
    within(stopped).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_never_sends_a_request_is_closed() {
    for alpn in ALPN {
        let fixture = Fixture::new();
        let mut limits = unlimited();
        limits.first_request_timeout = Duration::from_millis(20);
        let mut options = without_timeouts(&fixture);
        options.drain_timeout = Duration::from_millis(20);
        let server = TestServer::start(
            fixture.listener_with(fixture.tls(), limits).await,
            binding_report(),
            options,
        );
        // No bytes at all, and a request head that never ends.
        for bytes in [&b""[..], b"GET / HTTP/1.1\r\nhost: ", b"PRI * HTTP/2.0\r\n"] {
            let mut stream = tls(server.addr, &fixture.client(alpn)).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            let mut rest = Vec::new();
            // Closed with or without close_notify.
            let _ = within(stream.read_to_end(&mut rest)).await;
        }
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_properly() {
    for alpn in ALPN {
        let fixture = Fixture::new();
        let mut limits = unlimited();
        limits.idle_timeout = Duration::from_millis(20);
        let server = TestServer::start(
            fixture.listener_with(fixture.tls(), limits).await,
            binding_report(),
            without_timeouts(&fixture),
        );
        let mut connection = HttpConnection::connect(server.addr, &fixture.client(alpn)).await;
        let request = Request::get("/").body(Empty::new()).unwrap();
        assert_eq!(connection.send(request).await.unwrap().status, 200);
        within(connection.ended).await.unwrap();
    }
}

/// For a server of one's own. What a `CONNECT` has made of a connection is a request that goes on.
#[tokio::test]
async fn who_serves_a_connection_is_told_when_it_should_end() {
    const CONNECT: &[u8] = b"CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n";
    const ESTABLISHED: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";
    for tunnels in [true, false] {
        let fixture = Fixture::new();
        let mut listener = fixture
            .listener_with(fixture.tls(), ConnectionLimits::default())
            .await;
        let client = fixture.client("http/1.1");
        let (stream, mut connection) =
            tokio::join!(tls(listener.local_addr(), &client), listener.accept());
        let mut stream = stream.unwrap();
        let mut wanted = Box::pin(connection.end_wanted());
        if tunnels {
            stream.write_all(CONNECT).await.unwrap();
            let mut received = vec![0; CONNECT.len()];
            connection.read_exact(&mut received).await.unwrap();
            connection.write_all(ESTABLISHED).await.unwrap();
            connection.flush().await.unwrap();
        }
        tokio::time::pause();
        let limit = Duration::from_secs(3600);
        let ended = tokio::time::timeout(limit, wanted.as_mut()).await;
        match tunnels {
            true => assert!(ended.is_err(), "{ended:?}"),
            false => assert_eq!(ended, Ok(CloseReason::Idle)),
        }
        tokio::time::resume();
    }
}

#[tokio::test]
async fn peers_that_truncate_tls_or_break_framing_do_not_affect_others() {
    let fixture = Fixture::new();
    let server = fixture.start().await;
    for alpn in ALPN {
        for bytes in [
            &b""[..],
            b"GET / HT",
            b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00",
            b"\xff\xff\xff\xff",
        ] {
            let mut stream = tls(server.addr, &fixture.client(alpn)).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            stream.flush().await.unwrap();
            // Closes the TCP connection without close_notify.
            drop(stream.into_inner().0);
        }
        // Cut within a TLS record.
        let stream = tls(server.addr, &fixture.client(alpn)).await.unwrap();
        let (mut tcp, _) = stream.into_inner();
        tcp.write_all(b"\x17\x03\x03\x40\x00half a record")
            .await
            .unwrap();
        drop(tcp);
    }
    fixture.assert_is_served(&server).await;
    within(server.stop()).await;
}

#[tokio::test]
async fn oversized_and_malformed_headers_are_refused_and_the_server_keeps_working() {
    let fixture = Fixture::new();
    let server = fixture.start().await;
    let (token, key) = (fixture.token(), fixture.agent.proof_key());
    for alpn in ALPN {
        let mut connection = HttpConnection::connect(server.addr, &fixture.client(alpn)).await;
        let proof = connection.proof(&key, &token);
        let send = async |connection: &mut HttpConnection, fields: Vec<(&str, Vec<u8>)>| {
            let mut request = Request::get("/");
            for (name, value) in fields {
                request = request.header(name, value);
            }
            connection
                .send(request.body(Empty::new()).unwrap())
                .await
                .unwrap()
        };
        let (bearer, good) = (
            token.authorization().as_bytes().to_vec(),
            proof.as_str().as_bytes().to_vec(),
        );
        let mut oversized = good.clone();
        oversized.extend(vec![b'A'; 9 * 1024]);
        for (proofs, id) in [
            (vec![good.clone(), good.clone()], "RS-4"),
            (vec![oversized], "RS-5"),
            (vec![b"\xff\xfe.\x80.\x80".to_vec()], "RS-5"),
            (vec![b"...".to_vec()], "RS-5"),
        ] {
            let mut fields = vec![("authorization", bearer.clone())];
            fields.extend(
                proofs
                    .into_iter()
                    .map(|proof| ("session-binding-proof", proof)),
            );
            send(&mut connection, fields).await.assert_refused(id);
        }
        let garbled = vec![
            ("authorization", b"Bearer \xff\xff".to_vec()),
            ("session-binding-proof", good.clone()),
        ];
        send(&mut connection, garbled).await.assert_refused("RS-2");
        let twice = vec![
            ("authorization", bearer.clone()),
            ("authorization", bearer.clone()),
        ];
        send(&mut connection, twice).await.assert_refused("TK-0");
        // The connection still works.
        connection.assert_passes(&token, &proof).await;
    }
}
