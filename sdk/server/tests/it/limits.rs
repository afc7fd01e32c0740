//! The limits on connections, under `serve` and under `axum::serve`.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::any;
use bowline_server::{
    Acceptor, ClientAuth, CloseReason, Connection, ConnectionLimits, Limit, Listener, PeerFacts,
    ServeOptions, ServerEvent, serve_connection,
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::fixture::*;

const ALPN: [&str; 2] = ["h2", "http/1.1"];
const HOUR: Duration = Duration::from_secs(3600);

type Events = Arc<Mutex<Vec<ServerEvent>>>;

/// A server in memory, so that a paused clock decides nothing by chance.
struct Memory {
    fixture: Fixture,
    acceptor: Acceptor,
    limits: ConnectionLimits,
    events: Events,
}

impl Memory {
    fn new() -> Self {
        Self::with(ConnectionLimits::default())
    }

    fn with(limits: ConnectionLimits) -> Self {
        let fixture = Fixture::new();
        let events = Events::default();
        let log = events.clone();
        let acceptor = Acceptor::new(fixture.tls().build().unwrap())
            .observer(move |event: &ServerEvent| log.lock().unwrap().push(*event));
        Self {
            fixture,
            acceptor,
            limits,
            events,
        }
    }

    /// A connection that is served with `router`.
    async fn connect(&self, alpn: &str, router: Router) -> TlsStream<DuplexStream> {
        let (near, far) = duplex(16 * 1024);
        let (acceptor, limits) = (self.acceptor.clone(), self.limits.clone());
        tokio::spawn(async move {
            let (stream, facts) = acceptor.accept(far).await.unwrap();
            let connection = Connection::new(stream, facts, &limits);
            let never = std::future::pending();
            serve_connection(connection, router, &ServeOptions::default(), never).await;
        });
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(self.fixture.client(alpn))
            .connect(name, near)
            .await
            .unwrap()
    }

    /// How often this limit was reached.
    fn reached(&self, wanted: Limit) -> usize {
        let events = self.events.lock().unwrap();
        let limits = events.iter().filter(
            |event| matches!(event, ServerEvent::LimitReached { limit, .. } if *limit == wanted),
        );
        limits.count()
    }

    fn closed(&self) -> Vec<CloseReason> {
        let events = self.events.lock().unwrap();
        let reasons = events.iter().filter_map(|event| match event {
            ServerEvent::ConnectionClosed { reason, .. } => Some(*reason),
            _ => None,
        });
        reasons.collect()
    }
}

/// `/` answers at once, `/stream` with what the test sends, `/flood` with parts without end.
fn routes() -> (Router, mpsc::UnboundedSender<&'static str>) {
    let (events, source) = mpsc::unbounded_channel();
    let source = Arc::new(tokio::sync::Mutex::new(source));
    let stream = move || {
        let source = source.clone();
        async move {
            let parts = stream::unfold(source, |source| async move {
                let part = source.lock().await.recv().await?;
                Some((Ok::<_, Infallible>(Bytes::from(part)), source))
            });
            Response::new(Body::from_stream(parts))
        }
    };
    let flood = async || {
        let parts = stream::repeat(Bytes::from(vec![7; 8 * 1024]));
        Response::new(Body::from_stream(parts.map(Ok::<_, Infallible>)))
    };
    let router = Router::new()
        .route("/", any(async || "\"here\""))
        .route("/stream", any(stream))
        .route("/flood", any(flood));
    (router, events)
}

fn get(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("https://localhost{path}"))
        .body(Empty::new())
        .unwrap()
}

/// With a window of this size for each stream.
async fn h2<IO: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: TlsStream<IO>,
    window: u32,
) -> (
    http2::SendRequest<Empty<Bytes>>,
    tokio::task::JoinHandle<()>,
) {
    let (sender, driver) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(window)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    (sender, tokio::spawn(async { drop(driver.await) }))
}

/// Reads until the body fails.
async fn rest(body: Incoming) -> Result<usize, hyper::Error> {
    Ok(body.collect().await?.to_bytes().len())
}

#[tokio::test(start_paused = true)]
async fn an_event_stream_that_is_silent_for_an_hour_lives() {
    for alpn in ALPN {
        let server = Memory::new();
        let (router, events) = routes();
        let stream = server.connect(alpn, router).await;
        let response = if alpn == "h2" {
            h2(stream, 65_535)
                .await
                .0
                .send_request(get("/stream"))
                .await
        } else {
            let (mut sender, driver) = http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(driver);
            sender.send_request(get("/stream")).await
        };
        let mut body = response.unwrap().into_body();
        tokio::time::sleep(HOUR).await;
        events.send("event").unwrap();
        let event = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(event, "event", "{alpn}");
        assert_eq!(server.reached(Limit::StalledResponse), 0);
    }
}

/// The other streams of the connection are not touched.
#[tokio::test(start_paused = true)]
async fn a_stream_whose_window_is_closed_is_reset_after_a_minute() {
    let server = Memory::new();
    let (router, events) = routes();
    let stream = server.connect("h2", router).await;
    let (mut sender, driver) = h2(stream, 4).await;
    let silent = sender.send_request(get("/stream")).await.unwrap();
    let flood = sender.send_request(get("/flood")).await.unwrap();
    let begun = Instant::now();
    // Its first four bytes have come, and nobody reads them.
    while server.reached(Limit::StalledResponse) == 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(begun.elapsed() < HOUR);
    }
    let after = begun.elapsed();
    assert!(
        (60_000..60_300).contains(&after.as_millis()),
        "after {after:?}"
    );
    let error = rest(flood.into_body()).await.unwrap_err();
    assert!(format!("{error:?}").contains("CANCEL"), "{error:?}");

    let answer = sender.send_request(get("/")).await.unwrap();
    assert_eq!(rest(answer.into_body()).await.unwrap(), 6);
    events.send("abcd").unwrap();
    drop(events);
    assert_eq!(rest(silent.into_body()).await.unwrap(), 4);
    assert_eq!(server.reached(Limit::StalledResponse), 1);
    assert!(!driver.is_finished());
}

/// The clock runs only while something is ready.
#[tokio::test(start_paused = true)]
async fn a_closed_window_alone_stalls_nothing() {
    let server = Memory::new();
    let (router, events) = routes();
    let stream = server.connect("h2", router).await;
    let (mut sender, _driver) = h2(stream, 4).await;
    let response = sender.send_request(get("/stream")).await.unwrap();
    events.send("four").unwrap();
    tokio::time::sleep(HOUR).await;
    assert_eq!(server.reached(Limit::StalledResponse), 0);
    let ready = Instant::now();
    events.send("more").unwrap();
    while server.reached(Limit::StalledResponse) == 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(ready.elapsed() < HOUR);
    }
    assert!((60_000..60_300).contains(&ready.elapsed().as_millis()));
    drop(response);
}

/// hyper has passed on all of it and forgotten the request; the peer's window takes one byte.
#[tokio::test(start_paused = true)]
async fn the_rest_of_a_response_that_is_complete_for_the_service_is_reset_too() {
    let server = Memory::new();
    let stream = server.connect("h2", routes().0).await;
    let (mut sender, _driver) = h2(stream, 1).await;
    let response = sender.send_request(get("/")).await.unwrap();
    let begun = Instant::now();
    while server.reached(Limit::StalledResponse) == 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(begun.elapsed() < HOUR);
    }
    assert!((60_000..60_300).contains(&begun.elapsed().as_millis()));
    drop(response);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_stops_reading_loses_its_connection_after_a_minute() {
    for alpn in ALPN {
        let server = Memory::new();
        let mut stream = server.connect(alpn, routes().0).await;
        if alpn == "h2" {
            // Preface, SETTINGS with the largest window, a window of the connection as large, and
            // a request for /flood (RFC 7541 appendix C.4.1, with another path).
            let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
            bytes.extend(b"\0\0\x06\x04\0\0\0\0\0\0\x04\x7f\xff\xff\xff");
            bytes.extend(b"\0\0\x04\x08\0\0\0\0\0\x7f\x00\x00\x00");
            let fields = b"\x82\x87\x04\x06/flood\x41\x09localhost";
            bytes.extend([0, 0, fields.len() as u8, 1, 5, 0, 0, 0, 1]);
            bytes.extend(fields);
            stream.write_all(&bytes).await.unwrap();
        } else {
            stream
                .write_all(b"GET /flood HTTP/1.1\r\nhost: localhost\r\n\r\n")
                .await
                .unwrap();
        }
        stream.flush().await.unwrap();
        let begun = Instant::now();
        while server.closed().is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(begun.elapsed() < HOUR, "{alpn}");
        }
        // What is written at the end may take as long again.
        let took = begun.elapsed().as_secs();
        assert!((60..=125).contains(&took), "{alpn}: {took} s");
        assert_eq!(server.closed(), [CloseReason::Stalled], "{alpn}");
        drop(stream);
    }
}

/// It takes a little every fifty seconds.
#[tokio::test(start_paused = true)]
async fn a_slow_reader_keeps_its_connection() {
    let server = Memory::new();
    let mut stream = server.connect("http/1.1", routes().0).await;
    stream
        .write_all(b"GET /flood HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut part = vec![0; 20 * 1024];
    for _ in 0..50 {
        stream.read_exact(&mut part).await.unwrap();
        tokio::time::sleep(Duration::from_secs(50)).await;
    }
    assert!(server.closed().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_maximum_age_is_an_option_and_drains() {
    for (age, lives) in [(None, true), (Some(HOUR), false)] {
        let mut limits = ConnectionLimits::default();
        limits.max_connection_age = age;
        let server = Memory::with(limits);
        let (router, _events) = routes();
        let stream = server.connect("h2", router).await;
        let (mut sender, driver) = h2(stream, 65_535).await;
        for _ in 0..62 {
            if let Ok(answer) = sender.send_request(get("/")).await {
                assert_eq!(rest(answer.into_body()).await.unwrap(), 6);
            }
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        assert_eq!(!driver.is_finished(), lives);
        assert_eq!(server.reached(Limit::Age), usize::from(!lives));
    }
}

/// Under either server: nothing is sent, or an h2 preface, or half a head.
#[tokio::test]
async fn under_axum_serve_too_a_connection_without_a_request_is_closed_after_thirty_seconds() {
    for alpn in ALPN {
        for bytes in [
            &b""[..],
            b"GET / HTTP/1.1\r\nhost: ",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        ] {
            let server = Axum::start(ConnectionLimits::default()).await;
            let mut stream = tls(server.addr, &server.fixture.client(alpn))
                .await
                .unwrap();
            stream.write_all(bytes).await.unwrap();
            stream.flush().await.unwrap();
            within(server.opened.notified()).await;
            server.pass(Duration::from_secs(31)).await;
            let mut rest = Vec::new();
            let _ = within(stream.read_to_end(&mut rest)).await;
            assert_eq!(server.limits(), [Limit::FirstRequest], "{alpn}");
        }
    }
}

#[tokio::test]
async fn under_axum_serve_too_an_idle_connection_is_closed_and_an_open_event_stream_is_not() {
    for alpn in ALPN {
        let server = Axum::start(ConnectionLimits::default()).await;
        let mut idle = HttpConnection::connect(server.addr, &server.fixture.client(alpn)).await;
        let request = Request::get("/").body(Empty::new()).unwrap();
        assert_eq!(idle.send(request).await.unwrap().body, "here");
        let mut open = tls(server.addr, &server.fixture.client("http/1.1"))
            .await
            .unwrap();
        open.write_all(b"GET /stream HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .await
            .unwrap();
        let mut head = [0; 15];
        within(open.read_exact(&mut head)).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200 OK");
        server.pass(Duration::from_secs(301)).await;
        within(idle.ended).await.unwrap();
        server.pass(HOUR).await;
        server.events.send("event").unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"event\r\n") {
            within(open.read_buf(&mut seen)).await.unwrap();
        }
        assert_eq!(server.limits(), [Limit::Idle], "{alpn}");
    }
}

#[tokio::test]
async fn under_axum_serve_too_a_stream_whose_window_is_closed_is_reset() {
    let server = Axum::start(ConnectionLimits::default()).await;
    let stream = tls(server.addr, &server.fixture.client("h2"))
        .await
        .unwrap();
    let (mut sender, driver) = h2(stream, 4).await;
    let flood = within(sender.send_request(get("/flood"))).await.unwrap();
    // Another answer shows that what there was room for has been sent.
    let answer = within(sender.send_request(get("/stream"))).await.unwrap();
    server.pass(Duration::from_secs(61)).await;
    let error = within(rest(flood.into_body())).await.unwrap_err();
    assert!(format!("{error:?}").contains("CANCEL"), "{error:?}");
    assert_eq!(server.limits(), [Limit::StalledResponse]);
    server.events.send("abc").unwrap();
    let mut body = answer.into_body();
    let event = within(body.frame()).await.unwrap().unwrap();
    assert_eq!(event.into_data().unwrap(), "abc");
    assert!(!driver.is_finished());
}

#[tokio::test]
async fn under_either_server_the_number_of_connections_is_limited() {
    let mut limits = ConnectionLimits::default();
    limits.max_connections = 5;
    let server = Axum::start(limits).await;
    let config = server.fixture.client("h2");
    let mut open = Vec::new();
    for _ in 0..5 {
        open.push(HttpConnection::connect(server.addr, &config).await);
    }
    // All are younger than ten seconds, so the next one is closed before its handshake.
    assert!(tls(server.addr, &config).await.is_err());
    assert_eq!(server.limits(), [Limit::Full]);
    server.pass(Duration::from_secs(11)).await;
    let mut new = HttpConnection::connect(server.addr, &config).await;
    let request = Request::get("/").body(Empty::new()).unwrap();
    assert_eq!(new.send(request).await.unwrap().body, "here");
    // The idlest is the first.
    within(open.remove(0).ended).await.unwrap();
    assert_eq!(server.limits(), [Limit::Full, Limit::Evicted]);
}

/// A fleet of one SPIFFE ID, or behind one TCP balancer.
#[tokio::test]
async fn below_four_fifths_five_hundred_clients_of_one_identity_at_once_are_all_served() {
    let mut limits = ConnectionLimits::default();
    limits.max_connections = 700;
    let server = Axum::start(limits).await;
    let clients: Vec<_> = (0..500)
        .map(|_| {
            let (addr, config) = (server.addr, server.fixture.client("h2"));
            tokio::spawn(async move {
                let mut one = HttpConnection::connect(addr, &config).await;
                let request = Request::get("/").body(Empty::new()).unwrap();
                (one.send(request).await.unwrap().status, one)
            })
        })
        .collect();
    let mut open = Vec::new();
    for client in clients {
        let (status, one) = within(client).await.unwrap();
        assert_eq!(status, 200);
        open.push(one);
    }
    assert_eq!(server.limits(), []);
}

/// `axum::serve` on loopback.
struct Axum {
    fixture: Fixture,
    addr: std::net::SocketAddr,
    events: mpsc::UnboundedSender<&'static str>,
    seen: Events,
    opened: Arc<Notify>,
}

impl Axum {
    async fn start(limits: ConnectionLimits) -> Self {
        let fixture = Fixture::new();
        let (seen, opened) = (Events::default(), Arc::<Notify>::default());
        let (log, tell) = (seen.clone(), opened.clone());
        let auth = ClientAuth::Optional(fixture.ca.roots().into());
        let acceptor = Acceptor::new(fixture.tls_with(auth).build().unwrap()).observer(
            move |event: &ServerEvent| {
                log.lock().unwrap().push(*event);
                if matches!(event, ServerEvent::ConnectionOpened { .. }) {
                    tell.notify_one();
                }
            },
        );
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listener = Listener::with_limits(tcp, acceptor, limits).unwrap();
        let addr = listener.local_addr();
        let (router, events) = routes();
        let app = router.into_make_service_with_connect_info::<PeerFacts>();
        tokio::spawn(axum::serve(listener, app).into_future());
        Self {
            fixture,
            addr,
            events,
            seen,
            opened,
        }
    }

    /// Lets this time pass, without waiting for it.
    async fn pass(&self, time: Duration) {
        tokio::time::pause();
        tokio::time::advance(time).await;
        tokio::time::resume();
    }

    fn limits(&self) -> Vec<Limit> {
        let seen = self.seen.lock().unwrap();
        let limits = seen.iter().filter_map(|event| match event {
            ServerEvent::LimitReached { limit, .. } => Some(*limit),
            _ => None,
        });
        limits.collect()
    }
}
