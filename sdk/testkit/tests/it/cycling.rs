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

const IDLE: Duration = Duration::from_millis(100);

/// What a handler waits for before it answers `/wait`, and `/half` before it ends its body.
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

struct Lab {
    pki: Pki,
    identity: Leaf,
    gate: Gate,
    server: CyclingServer,
}

impl Lab {
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
}

const BOTH: [Alpn; 2] = [Alpn::Http1, Alpn::Http2];

#[tokio::test]
async fn a_connection_without_a_cycle_stays_and_counts() {
    for alpn in BOTH {
        let lab = Lab::new(alpn, Cycle::default());
        let mut client = lab.connect().await;
        for _ in 0..5 {
            assert_eq!(client.fetch("/").await.unwrap().body(), "hello");
        }
        let counts = lab.server.counts();
        assert_eq!((counts.opened, counts.full(), counts.resumed), (1, 1, 0));
        assert_eq!((counts.requests, counts.closed, counts.open()), (5, 0, 1));
        assert_eq!(counts.connections[0].requests, 5);
        assert_eq!(counts.connections[0].h2, alpn == Alpn::Http2);
        drop(client);
        lab.server.closed(1).await;
    }
}

#[tokio::test]
async fn h1_says_connection_close_on_the_last_response_and_closes() {
    let cycle = Cycle {
        max_responses: Some(3),
        ..Cycle::default()
    };
    let lab = Lab::new(Alpn::Http1, cycle);
    let mut client = lab.connect().await;
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
    lab.server.closed(1).await;
    assert_eq!(lab.server.counts().connections[0].requests, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2_says_goaway_before_the_last_response_so_that_no_request_is_one_too_many() {
    let cycle = Cycle {
        max_responses: Some(2),
        ..Cycle::default()
    };
    let lab = Lab::new(Alpn::Http2, cycle);
    let tls = lab.tls();
    // Often, because what would fail here is a race.
    for round in 1..=50 {
        let (mut sender, connection) = bare_h2(&tls, lab.server.addr()).await;
        for is_last in [false, true] {
            let request = http::Request::get("https://localhost/").body(()).unwrap();
            let (response, _) = sender.send_request(request, true).unwrap();
            assert_eq!(soon(response).await.unwrap().status(), 200);
            let ready = soon(poll_fn(|context| sender.poll_ready(context))).await;
            assert_eq!(ready.is_err(), is_last, "round {round}");
        }
        // However: the server may be gone before the client has said its own farewell.
        drop(sender);
        let _ = soon(connection).await.unwrap();
    }
    lab.server.closed(50).await;
    let counts = lab.server.counts();
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
async fn h2_answers_the_requests_that_came_before_the_farewell() {
    let cycle = Cycle {
        max_responses: Some(1),
        ..Cycle::default()
    };
    let lab = Lab::new(Alpn::Http2, cycle);
    let (mut sender, connection) = bare_h2(&lab.tls(), lab.server.addr()).await;
    let request = || {
        http::Request::get("https://localhost/wait")
            .body(())
            .unwrap()
    };
    let (first, _) = sender.send_request(request(), true).unwrap();
    let (second, _) = sender.send_request(request(), true).unwrap();
    lab.server.received(2).await;

    lab.gate.open.notify_one();
    // The streams take their turns: whichever is answered, the farewell came before it.
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
    lab.gate.open.notify_one();
    assert_eq!(soon(other).await.unwrap().status(), 200);
    drop(sender);
    let _ = soon(connection).await.unwrap();
}

/// A client that knows of a GOAWAY as soon as it has read it, which hyper's does not.
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
        let lab = Lab::new(
            alpn,
            Cycle {
                idle: Some(IDLE),
                ..Cycle::default()
            },
        );
        let mut client = lab.connect().await;
        client.fetch("/").await.unwrap();
        client.ended().await.unwrap();
        lab.server.closed(1).await;
    }
}

#[tokio::test]
async fn a_connection_that_never_says_a_word_is_idle_too() {
    for (alpn, close) in [
        (Alpn::Http1, Ok(0)),
        // With HTTP/2 no farewell can be said before the client has begun, so the connection is
        // cut.
        (Alpn::Http2, Err(ErrorKind::UnexpectedEof)),
    ] {
        let lab = Lab::new(
            alpn,
            Cycle {
                idle: Some(IDLE),
                ..Cycle::default()
            },
        );
        let mut silent = client::connect(&lab.tls(), lab.server.addr())
            .await
            .unwrap();
        lab.server.closed(1).await;
        let mut said = Vec::new();
        let end = silent.read_to_end(&mut said).await;
        assert_eq!(end.map(|_| 0).map_err(|error| error.kind()), close);
    }
}

#[tokio::test]
async fn a_connection_with_an_unanswered_request_is_not_idle() {
    let lab = Lab::new(
        Alpn::Http1,
        Cycle {
            idle: Some(IDLE),
            ..Cycle::default()
        },
    );
    let mut client = lab.connect().await;
    let response = tokio::spawn(async move { (client.fetch("/wait").await, client) });
    soon(lab.gate.entered.notified()).await;
    // A slow machine makes it longer, and the test stricter.
    tokio::time::sleep(3 * IDLE).await;
    lab.gate.open.notify_one();
    let (response, client) = response.await.unwrap();
    let response = response.unwrap();
    assert_eq!(response.body(), "at last");
    assert_eq!(
        response.headers().get("connection"),
        None,
        "no farewell was said"
    );
    client.ended().await.unwrap();
}

#[tokio::test]
async fn a_connection_with_an_unfinished_response_is_not_idle() {
    let lab = Lab::new(
        Alpn::Http2,
        Cycle {
            idle: Some(IDLE),
            ..Cycle::default()
        },
    );
    let mut client = lab.connect().await;
    let half = soon(client.send(client::get("/half"))).await.unwrap();
    soon(lab.gate.entered.notified()).await;
    tokio::time::sleep(3 * IDLE).await;
    assert_eq!(
        client
            .fetch("/")
            .await
            .expect("no farewell was said")
            .body(),
        "hello"
    );
    lab.gate.open.notify_one();
    assert_eq!(
        soon(half.into_body().collect()).await.unwrap().to_bytes(),
        "one two"
    );
    client.ended().await.unwrap();
}

#[tokio::test]
async fn a_connection_ends_at_its_age_though_it_is_busy_but_finishes_what_it_began() {
    for alpn in BOTH {
        let lab = Lab::new(
            alpn,
            Cycle {
                max_age: Some(IDLE),
                ..Cycle::default()
            },
        );
        let mut client = lab.connect().await;
        let response = tokio::spawn(async move { (client.fetch("/wait").await, client) });
        soon(lab.gate.entered.notified()).await;
        tokio::time::sleep(2 * IDLE).await;
        lab.gate.open.notify_one();
        let (response, mut client) = response.await.unwrap();
        assert_eq!(response.unwrap().body(), "at last");
        client.fetch("/").await.unwrap_err();
        client.ended().await.unwrap();
    }
}

#[tokio::test]
async fn retiring_ends_idle_connections_and_lets_busy_ones_finish() {
    for alpn in BOTH {
        let lab = Lab::new(alpn, Cycle::default());
        let (mut idle, mut busy) = (lab.connect().await, lab.connect().await);
        idle.fetch("/").await.unwrap();
        let response = tokio::spawn(async move { (busy.fetch("/half").await, busy) });
        soon(lab.gate.entered.notified()).await;

        lab.server.retire_all();
        idle.ended().await.unwrap();
        lab.server.closed(1).await;
        lab.gate.open.notify_one();
        let (response, busy) = response.await.unwrap();
        assert_eq!(response.unwrap().body(), "one two");
        busy.ended().await.unwrap();
        lab.server.closed(2).await;

        assert_eq!(
            lab.connect().await.fetch("/").await.unwrap().body(),
            "hello"
        );
    }
}

#[tokio::test]
async fn cutting_breaks_a_response_off() {
    for alpn in BOTH {
        let lab = Lab::new(alpn, Cycle::default());
        let mut client = lab.connect().await;
        let mut body = client.send(client::get("/half")).await.unwrap().into_body();
        let first = soon(body.frame())
            .await
            .unwrap()
            .unwrap()
            .into_data()
            .unwrap();
        assert_eq!(first, "one ");

        lab.server.cut_all();
        soon(body.frame()).await.unwrap().unwrap_err();
        lab.server.closed(1).await;

        assert_eq!(
            lab.connect().await.fetch("/").await.unwrap().body(),
            "hello"
        );
    }
}

/// That GOAWAY arrives before the end, bowline's client says: `sdk/a2a/tests/it/long_task/cuts.rs`.
#[tokio::test]
async fn sending_connections_away_breaks_a_response_off() {
    for alpn in BOTH {
        let lab = Lab::new(alpn, Cycle::default());
        let mut client = lab.connect().await;
        let mut body = client.send(client::get("/half")).await.unwrap().into_body();
        soon(body.frame()).await.unwrap().unwrap();

        lab.server.go_away_all();
        soon(body.frame()).await.unwrap().unwrap_err();
        lab.server.closed(1).await;

        assert_eq!(
            lab.connect().await.fetch("/").await.unwrap().body(),
            "hello"
        );
    }
}

#[tokio::test]
async fn dropping_the_server_ends_its_connections() {
    for alpn in BOTH {
        let lab = Lab::new(alpn, Cycle::default());
        let mut client = lab.connect().await;
        client.fetch("/").await.unwrap();
        drop(lab.server);
        let _ = client.ended().await;
    }
}

#[tokio::test]
async fn every_request_carries_the_facts_of_its_connection() {
    for alpn in BOTH {
        let lab = Lab::new(alpn, Cycle::default());
        let (mut one, mut two) = (lab.connect().await, lab.connect().await);
        let first = one.fetch("/who").await.unwrap().into_body();
        assert_eq!(first, one.fetch("/who").await.unwrap().into_body());
        assert_ne!(first, two.fetch("/who").await.unwrap().into_body());
        let id = lab.server.counts().connections[0].id;
        assert_eq!(first, format!("{id} {}", lab.identity.thumbprint()));
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
    let told = Http::connect(&tls, server.addr())
        .await
        .fetch("/")
        .await
        .unwrap()
        .into_body();
    assert_eq!(told, server.origin());
    assert_eq!(told, format!("https://localhost:{}", server.addr().port()));
}

#[tokio::test]
async fn client_certificates_are_treated_as_the_options_say() {
    let with = |client_auth| {
        Lab::with(CyclingOptions {
            client_auth,
            ..CyclingOptions::default()
        })
    };
    let anonymous = |lab: &Lab| TlsOptions::default().client(&lab.pki, None);

    let lab = with(ClientAuth::None);
    assert!(
        lab.connect()
            .await
            .fetch("/who")
            .await
            .unwrap()
            .body()
            .ends_with(b" ")
    );
    let lab = with(ClientAuth::Optional);
    let mut client = Http::connect(&anonymous(&lab), lab.server.addr()).await;
    assert!(client.fetch("/who").await.unwrap().body().ends_with(b" "));
    assert!(
        !lab.connect()
            .await
            .fetch("/who")
            .await
            .unwrap()
            .body()
            .ends_with(b" ")
    );
    let lab = with(ClientAuth::Required);
    // In TLS 1.3 the client learns of it after its own end of the handshake.
    let _ = client::connect(&anonymous(&lab), lab.server.addr()).await;
    lab.server
        .until("a failed handshake", |c| c.failed == 1)
        .await;
    assert_eq!(lab.server.counts().opened, 0);
}

#[tokio::test]
async fn sessions_resume_only_where_the_options_allow_it() {
    for resumption in [true, false] {
        let lab = Lab::with(CyclingOptions {
            resumption,
            ..CyclingOptions::default()
        });
        let tls = lab.tls();
        for _ in 0..2 {
            // The answer comes after the tickets.
            Http::connect(&tls, lab.server.addr())
                .await
                .fetch("/")
                .await
                .unwrap();
        }
        assert_eq!(lab.server.counts().resumed, u64::from(resumption));
    }
}
