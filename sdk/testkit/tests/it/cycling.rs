use std::future::poll_fn;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::routing::get;
use axum::{Extension, Router};
use bowline_server::ConnectionFacts;
use bowline_testkit::peers::{Cycle, CyclingOptions, CyclingServer};
use bowline_testkit::pki::{KeyKind, Leaf, Pki};
use bowline_testkit::tls::{Alpn, ClientAuth, TlsOptions};
use bytes::Bytes;
use futures_util::future::{Either, select};
use http_body_util::BodyExt;
use rustls::ClientConfig;
use tokio::io::AsyncReadExt;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::client::{self, Http, soon};

/// Long enough for a request to arrive on a busy machine.
const IDLE: Duration = Duration::from_secs(1);

/// Ends idle connections.
const IDLE_CYCLE: Cycle = Cycle {
    max_responses: None,
    max_age: None,
    idle: Some(IDLE),
};

/// A handler waits for it before it answers `/wait`; `/half` waits before it ends its body.
#[derive(Clone, Default)]
struct Gate {
    entered: Arc<Notify>,
    open: Arc<Notify>,
}

fn routes(gate: Gate) -> Router {
    Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/who", get(who))
        .route("/wait", get(wait))
        .route("/half", get(half))
        .with_state(gate)
}

async fn who(Extension(facts): Extension<Arc<ConnectionFacts>>) -> String {
    let certificate = facts.certificate().map(|c| c.thumbprint().to_string());
    format!("{} {}", facts.id(), certificate.unwrap_or_default())
}

async fn wait(State(gate): State<Gate>) -> &'static str {
    gate.entered.notify_one();
    gate.open.notified().await;
    "at last"
}

async fn half(State(gate): State<Gate>) -> Body {
    let parts = futures_util::stream::unfold(0, move |part| {
        let gate = gate.clone();
        async move {
            match part {
                0 => Some((Ok::<_, std::io::Error>(Bytes::from_static(b"one ")), 1)),
                1 => {
                    gate.entered.notify_one();
                    gate.open.notified().await;
                    Some((Ok(Bytes::from_static(b"two")), 2))
                }
                _ => None,
            }
        }
    });
    Body::from_stream(parts)
}

struct Fixture {
    pki: Pki,
    identity: Leaf,
    gate: Gate,
    server: CyclingServer,
}

impl Fixture {
    fn new(alpn: Alpn, cycle: Cycle) -> Self {
        Self::with(CyclingOptions {
            cycle,
            alpn,
            ..CyclingOptions::default()
        })
    }

    fn with(options: CyclingOptions) -> Self {
        let pki = Pki::new();
        let gate = Gate::default();
        Self {
            identity: pki.client("agent", KeyKind::P256),
            server: CyclingServer::start(&pki, options, routes(gate.clone())),
            gate,
            pki,
        }
    }

    fn tls(&self) -> Arc<ClientConfig> {
        TlsOptions::default().client(&self.pki, Some(&self.identity))
    }

    async fn connect(&self) -> Http {
        Http::connect(&self.tls(), self.server.addr()).await
    }

    async fn accepts_new_connections(&self) {
        let mut client = self.connect().await;
        assert_eq!(client.fetch("/").await.unwrap().body(), "hello");
    }

    /// The end of `/who` on a new connection: the thumbprint of the client's certificate, or empty.
    async fn certificate_seen(&self, tls: &Arc<ClientConfig>) -> String {
        let mut client = Http::connect(tls, self.server.addr()).await;
        let answer = client.fetch("/who").await.unwrap().into_body();
        let text = String::from_utf8(answer.to_vec()).unwrap();
        text.split_once(' ').unwrap().1.to_owned()
    }
}

const BOTH: [Alpn; 2] = [Alpn::Http1, Alpn::Http2];

#[tokio::test]
async fn a_connection_without_a_cycle_stays_and_counts() {
    for alpn in BOTH {
        let fixture = Fixture::new(alpn, Cycle::default());
        let mut client = fixture.connect().await;
        for _ in 0..5 {
            assert_eq!(client.fetch("/").await.unwrap().body(), "hello");
        }
        let counts = fixture.server.counts();
        assert_eq!((counts.opened, counts.full(), counts.resumed), (1, 1, 0));
        assert_eq!((counts.requests, counts.closed, counts.open()), (5, 0, 1));
        assert_eq!(counts.connections[0].requests, 5);
        assert_eq!(counts.connections[0].h2, alpn == Alpn::Http2);
        drop(client);
        fixture.server.closed(1).await;
    }
}

#[tokio::test]
async fn h1_says_connection_close_on_the_last_response_and_closes() {
    let cycle = Cycle {
        max_responses: Some(3),
        ..Cycle::default()
    };
    let fixture = Fixture::new(Alpn::Http1, cycle);
    let mut client = fixture.connect().await;
    for last in [false, false, true] {
        let response = client.fetch("/").await.unwrap();
        assert_eq!(
            response
                .headers()
                .get("connection")
                .is_some_and(|c| c == "close"),
            last
        );
    }
    client.ended().await.unwrap();
    fixture.server.closed(1).await;
    assert_eq!(fixture.server.counts().connections[0].requests, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2_says_goaway_before_the_last_response_so_that_no_request_is_one_too_many() {
    let cycle = Cycle {
        max_responses: Some(2),
        ..Cycle::default()
    };
    let fixture = Fixture::new(Alpn::Http2, cycle);
    let tls = fixture.tls();
    // Many rounds, because a failure here would be a race.
    for round in 1..=50 {
        let (mut sender, connection) = bare_h2(&tls, fixture.server.addr()).await;
        for is_last in [false, true] {
            let request = http::Request::get("https://localhost/").body(()).unwrap();
            let (response, _) = sender.send_request(request, true).unwrap();
            assert_eq!(soon(response).await.unwrap().status(), 200);
            let ready = soon(poll_fn(|context| sender.poll_ready(context))).await;
            assert_eq!(ready.is_err(), is_last, "round {round}");
        }
        // Any result: the server may close before the client has sent its own GOAWAY.
        drop(sender);
        let _ = soon(connection).await.unwrap();
    }
    fixture.server.closed(50).await;
    let counts = fixture.server.counts();
    assert!(
        counts
            .connections
            .iter()
            .all(|connection| connection.requests == 2)
    );
    assert!(counts.resumed > 0, "one configuration, so sessions resume");
    assert_eq!(counts.full() + counts.resumed, 50);
}

#[tokio::test]
async fn h2_answers_the_requests_that_came_before_goaway() {
    let cycle = Cycle {
        max_responses: Some(1),
        ..Cycle::default()
    };
    let fixture = Fixture::new(Alpn::Http2, cycle);
    let (mut sender, connection) = bare_h2(&fixture.tls(), fixture.server.addr()).await;
    let request = || {
        http::Request::get("https://localhost/wait")
            .body(())
            .unwrap()
    };
    let (first, _) = sender.send_request(request(), true).unwrap();
    let (second, _) = sender.send_request(request(), true).unwrap();
    fixture.server.received(2).await;

    fixture.gate.open.notify_one();
    // Either stream may be answered first: GOAWAY came before it.
    let (answered, other) = match select(first, second).await {
        Either::Left(done) => done,
        Either::Right(done) => done,
    };
    assert_eq!(answered.unwrap().status(), 200);
    assert!(
        soon(poll_fn(|context| sender.poll_ready(context)))
            .await
            .is_err()
    );
    fixture.gate.open.notify_one();
    assert_eq!(soon(other).await.unwrap().status(), 200);
    drop(sender);
    let _ = soon(connection).await.unwrap();
}

/// A client that reports a GOAWAY as soon as it has read it; hyper's does not.
async fn bare_h2(
    tls: &Arc<ClientConfig>,
    addr: SocketAddr,
) -> (
    h2::client::SendRequest<Bytes>,
    JoinHandle<Result<(), h2::Error>>,
) {
    let stream = client::connect(tls, addr).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    (soon(sender.ready()).await.unwrap(), connection)
}

#[tokio::test]
async fn an_idle_connection_is_closed_by_the_server() {
    for alpn in BOTH {
        let fixture = Fixture::new(alpn, IDLE_CYCLE);
        let mut client = fixture.connect().await;
        client.fetch("/").await.unwrap();
        client.ended().await.unwrap();
        fixture.server.closed(1).await;
    }
}

#[tokio::test]
async fn a_connection_that_sends_nothing_is_idle_too() {
    for (alpn, close) in [
        (Alpn::Http1, Ok(0)),
        // In HTTP/2 the server cannot send GOAWAY before the client has begun, so it cuts the
        // connection.
        (Alpn::Http2, Err(ErrorKind::UnexpectedEof)),
    ] {
        let fixture = Fixture::new(alpn, IDLE_CYCLE);
        let mut silent = client::connect(&fixture.tls(), fixture.server.addr())
            .await
            .unwrap();
        fixture.server.closed(1).await;
        let mut received = Vec::new();
        let end = silent.read_to_end(&mut received).await;
        assert_eq!(end.map(|_| 0).map_err(|error| error.kind()), close);
    }
}

#[tokio::test]
async fn a_connection_with_an_unanswered_request_is_not_idle() {
    let fixture = Fixture::new(Alpn::Http1, IDLE_CYCLE);
    let mut client = fixture.connect().await;
    let response = tokio::spawn(async move { (client.fetch("/wait").await, client) });
    soon(fixture.gate.entered.notified()).await;
    // On a slow machine this is longer, which makes the test stricter.
    tokio::time::sleep(3 * IDLE).await;
    fixture.gate.open.notify_one();
    let (response, client) = response.await.unwrap();
    let response = response.unwrap();
    assert_eq!(response.body(), "at last");
    assert_eq!(
        response.headers().get("connection"),
        None,
        "the server has not begun to close"
    );
    client.ended().await.unwrap();
}

#[tokio::test]
async fn a_connection_with_an_unfinished_response_is_not_idle() {
    let fixture = Fixture::new(Alpn::Http2, IDLE_CYCLE);
    let mut client = fixture.connect().await;
    let half = soon(client.send(client::get("/half"))).await.unwrap();
    soon(fixture.gate.entered.notified()).await;
    tokio::time::sleep(3 * IDLE).await;
    assert_eq!(
        client
            .fetch("/")
            .await
            .expect("the server has not begun to close")
            .body(),
        "hello"
    );
    fixture.gate.open.notify_one();
    assert_eq!(
        soon(half.into_body().collect()).await.unwrap().to_bytes(),
        "one two"
    );
    client.ended().await.unwrap();
}

#[tokio::test]
async fn a_busy_connection_ends_at_its_age_but_finishes_its_response() {
    for alpn in BOTH {
        let fixture = Fixture::new(
            alpn,
            Cycle {
                max_age: Some(IDLE),
                ..Cycle::default()
            },
        );
        let mut client = fixture.connect().await;
        let response = tokio::spawn(async move { (client.fetch("/wait").await, client) });
        soon(fixture.gate.entered.notified()).await;
        tokio::time::sleep(2 * IDLE).await;
        fixture.gate.open.notify_one();
        let (response, mut client) = response.await.unwrap();
        assert_eq!(response.unwrap().body(), "at last");
        client.fetch("/").await.unwrap_err();
        client.ended().await.unwrap();
    }
}

#[tokio::test]
async fn retiring_ends_idle_connections_and_lets_busy_ones_finish() {
    for alpn in BOTH {
        let fixture = Fixture::new(alpn, Cycle::default());
        let (mut idle, mut busy) = (fixture.connect().await, fixture.connect().await);
        idle.fetch("/").await.unwrap();
        let response = tokio::spawn(async move { (busy.fetch("/half").await, busy) });
        soon(fixture.gate.entered.notified()).await;

        fixture.server.retire_all();
        idle.ended().await.unwrap();
        fixture.server.closed(1).await;
        fixture.gate.open.notify_one();
        let (response, busy) = response.await.unwrap();
        assert_eq!(response.unwrap().body(), "one two");
        busy.ended().await.unwrap();
        fixture.server.closed(2).await;

        fixture.accepts_new_connections().await;
    }
}

#[tokio::test]
async fn cutting_breaks_a_response_off() {
    breaks_a_response_off(CyclingServer::cut_all).await;
}

/// `sdk/a2a/tests/it/long_task/cuts.rs` shows that GOAWAY arrives before the end.
#[tokio::test]
async fn sending_connections_away_breaks_a_response_off() {
    breaks_a_response_off(CyclingServer::go_away_all).await;
}

/// After `command` the response ends in an error, and the server accepts new connections.
async fn breaks_a_response_off(command: fn(&CyclingServer)) {
    for alpn in BOTH {
        let fixture = Fixture::new(alpn, Cycle::default());
        let mut client = fixture.connect().await;
        let mut body = client.send(client::get("/half")).await.unwrap().into_body();
        let first = soon(body.frame()).await.unwrap().unwrap();
        assert_eq!(first.into_data().unwrap(), "one ");

        command(&fixture.server);
        soon(body.frame()).await.unwrap().unwrap_err();
        fixture.server.closed(1).await;

        fixture.accepts_new_connections().await;
    }
}

#[tokio::test]
async fn dropping_the_server_ends_its_connections() {
    for alpn in BOTH {
        let fixture = Fixture::new(alpn, Cycle::default());
        let mut client = fixture.connect().await;
        client.fetch("/").await.unwrap();
        drop(fixture.server);
        let _ = client.ended().await;
    }
}

#[tokio::test]
async fn every_request_carries_the_facts_of_its_connection() {
    for alpn in BOTH {
        let fixture = Fixture::new(alpn, Cycle::default());
        let (mut one, mut two) = (fixture.connect().await, fixture.connect().await);
        let first = one.fetch("/who").await.unwrap().into_body();
        assert_eq!(first, one.fetch("/who").await.unwrap().into_body());
        assert_ne!(first, two.fetch("/who").await.unwrap().into_body());
        let id = fixture.server.counts().connections[0].id;
        assert_eq!(first, format!("{id} {}", fixture.identity.thumbprint()));
    }
}

#[tokio::test]
async fn a_service_can_be_made_for_the_origin_that_it_is_served_at() {
    let pki = Pki::new();
    let server = CyclingServer::start_with(&pki, CyclingOptions::default(), |origin| {
        let origin = origin.to_owned();
        Router::new().route("/", get(|| async { origin }))
    });
    let tls = TlsOptions::default().client(&pki, Some(&pki.client("agent", KeyKind::P256)));
    let answer = Http::connect(&tls, server.addr())
        .await
        .fetch("/")
        .await
        .unwrap()
        .into_body();
    assert_eq!(answer, server.origin());
    assert_eq!(
        answer,
        format!("https://localhost:{}", server.addr().port())
    );
}

#[tokio::test]
async fn client_certificates_are_treated_as_the_options_say() {
    let with = |client_auth| {
        Fixture::with(CyclingOptions {
            client_auth,
            ..CyclingOptions::default()
        })
    };
    let anonymous = |fixture: &Fixture| TlsOptions::default().client(&fixture.pki, None);

    let fixture = with(ClientAuth::None);
    assert_eq!(fixture.certificate_seen(&fixture.tls()).await, "");
    let fixture = with(ClientAuth::Optional);
    assert_eq!(fixture.certificate_seen(&anonymous(&fixture)).await, "");
    assert_ne!(fixture.certificate_seen(&fixture.tls()).await, "");
    let fixture = with(ClientAuth::Required);
    // In TLS 1.3 the client learns of the failure after its own end of the handshake.
    let _ = client::connect(&anonymous(&fixture), fixture.server.addr()).await;
    fixture
        .server
        .until("a failed handshake", |c| c.failed == 1)
        .await;
    assert_eq!(fixture.server.counts().opened, 0);
}

#[tokio::test]
async fn sessions_resume_only_where_the_options_allow_it() {
    for resumption in [true, false] {
        let fixture = Fixture::with(CyclingOptions {
            resumption,
            ..CyclingOptions::default()
        });
        let tls = fixture.tls();
        for _ in 0..2 {
            // The answer comes after the tickets.
            Http::connect(&tls, fixture.server.addr())
                .await
                .fetch("/")
                .await
                .unwrap();
        }
        assert_eq!(fixture.server.counts().resumed, u64::from(resumption));
    }
}
