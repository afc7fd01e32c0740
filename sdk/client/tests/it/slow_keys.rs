//! A slow key (an HSM, a token that a person must touch) delays only the requests that wait for its
//! signature.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::fixture::raw_server::{RawConnection, RawServer};
use crate::fixture::slow_key::{Gate, GatedKey, soon};
use crate::fixture::{Fixture, fetch, ok};
use bowline_http_client::{Client, ErrorKind, Identity, Limits, Step, Timeouts};
use bowline_testkit::peers::CyclingOptions;
use bowline_testkit::tls::Alpn;
use rustls::sign::{Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};
use tokio::sync::{Notify, watch};

fn gated(fixture: &Fixture) -> (Arc<Gate>, Identity) {
    let gate = Arc::new(Gate::default());
    let key = GatedKey::new(fixture.agent.signing_key(), gate.clone());
    (
        gate,
        Identity::new(fixture.agent.chain(), Arc::new(key)).unwrap(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn known_proofs_are_used_while_the_key_signs_another() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let (gate, identity) = gated(&fixture);
    let client = fixture.builder().identity(identity).build().unwrap();
    let (known, new, url) = (
        fixture.token("known"),
        fixture.token("new"),
        server.origin(),
    );
    ok(&client, &url, &known).await;

    gate.close();
    let waiting = spawn(&client, &url, &new);
    for _ in 0..50 {
        soon(ok(&client, &url, &known)).await;
    }
    assert!(!waiting.is_finished());
    gate.open();
    soon(waiting).await.unwrap();
    assert_eq!(client.stats().totals.signatures(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn known_connections_are_used_while_the_key_signs_a_handshake() {
    let fixture = Fixture::new();
    let (server, other) = (
        fixture.server(CyclingOptions::default()),
        fixture.server(CyclingOptions::default()),
    );
    let (gate, identity) = gated(&fixture);
    let client = fixture.builder().identity(identity).build().unwrap();
    let (token, url) = (fixture.token("a"), server.origin());
    ok(&client, &url, &token).await;

    gate.close();
    let waiting = spawn(&client, &other.origin(), &token);
    for _ in 0..50 {
        soon(ok(&client, &url, &token)).await;
    }
    assert!(!waiting.is_finished());
    gate.open();
    soon(waiting).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_key_that_does_not_sign_in_time_is_an_error_and_can_be_used_later() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let (gate, identity) = gated(&fixture);
    let mut timeouts = Timeouts::default();
    // Long enough for a key that signs at once, on a machine that is busy.
    timeouts.sign = Duration::from_secs(2);
    let client = fixture
        .builder()
        .identity(identity)
        .timeouts(timeouts)
        .build()
        .unwrap();
    let url = server.origin();
    ok(&client, &url, &fixture.token("a")).await;
    gate.close();
    let error = fetch(&client, &url, &fixture.token("b")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout(Step::Sign), "{error}");
    assert!(!error.may_have_been_processed());
    gate.open();
    // The late signature is kept.
    while client.stats().totals.signatures() < 2 {
        tokio::task::yield_now().await;
    }
    ok(&client, &url, &fixture.token("b")).await;
    assert_eq!(client.stats().totals.signatures(), 2);
}

/// A server that speaks HTTP/1.1 as a test says, and a client with a gated key.
async fn http1(limits: Limits) -> (Fixture, RawServer, Arc<Gate>, Client) {
    let fixture = Fixture::new();
    let server = RawServer::alpn(&fixture.pki, Alpn::Http1).await;
    let (gate, identity) = gated(&fixture);
    let builder = fixture.builder().identity(identity).limits(limits);
    let client = builder.build().unwrap();
    (fixture, server, gate, client)
}

/// HTTP/1.1: the request does not wait for a signature if a connection that is proved comes free.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_waits_for_a_signature_takes_a_proved_connection_that_comes_free() {
    let mut limits = Limits::default();
    // A connection comes back some time after its response has ended: nothing else is opened meanwhile.
    limits.per_origin = 2;
    let (fixture, server, gate, client) = http1(limits).await;
    let url = server.origin();
    let (known, other) = (fixture.token("known"), fixture.token("other"));

    let busy = spawn(&client, &url, &known);
    let mut proved = soon(server.accept()).await;
    soon(proved.read()).await;
    let elsewhere = spawn(&client, &url, &other);
    let mut unproved = soon(server.accept()).await;
    soon(serve(&mut unproved)).await;
    soon(elsewhere).await.unwrap();

    gate.close();
    let waiting = spawn(&client, &url, &known);
    // The connection that is free is not proved for its token, and now it signs.
    soon(gate.is_waited_for()).await;
    proved.answer().await;
    soon(busy).await.unwrap();
    soon(serve(&mut proved)).await;
    soon(waiting).await.unwrap();
    assert_eq!(client.stats().totals.signatures(), 2);

    gate.open();
    // What was signed meanwhile is kept: both connections are proved now.
    let signed = async {
        while client.stats().totals.signatures() < 3 {
            tokio::task::yield_now().await;
        }
    };
    soon(signed).await;
    let one = spawn(&client, &url, &known);
    let two = spawn(&client, &url, &known);
    soon(async { tokio::join!(proved.read(), unproved.read()) }).await;
    proved.answer().await;
    unproved.answer().await;
    soon(one).await.unwrap();
    soon(two).await.unwrap();
    let totals = client.stats().totals;
    assert_eq!((totals.signatures(), totals.abandoned), (3, 0));
    assert_eq!(client.stats().connections_opened, 2);
}

/// HTTP/1.1: where a request takes much less time than a signature, a connection is shared by the
/// requests whose proofs are signed, and each proof is signed once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_share_a_connection_while_their_proofs_are_signed() {
    let (fixture, server, gate, client) = http1(Limits::default()).await;
    let url = server.origin();

    // Handshake and proof take two seconds: twenty requests of less than 100 ms can share a connection.
    gate.takes(Duration::from_secs(1));
    let first = spawn(&client, &url, &fixture.token("first"));
    let mut connection = soon(server.accept()).await;
    soon(serve(&mut connection)).await;
    soon(first).await.unwrap();

    gate.close();
    // Else the runtime of a test that fails waits for the signatures.
    let _opened = gate.opened_at_the_end();
    let tokens = ["a", "b", "c", "d"].map(|name| fixture.token(name));
    let requests: Vec<_> = tokens
        .iter()
        .cycle()
        .take(20)
        .map(|token| spawn(&client, &url, token))
        .collect();
    soon(gate.is_waited_for_by(tokens.len())).await;
    gate.open();
    for _ in &requests {
        soon(serve(&mut connection)).await;
    }
    for request in requests {
        soon(request).await.unwrap();
    }
    let stats = client.stats();
    assert_eq!(stats.totals.signatures(), 1 + tokens.len() as u64);
    assert_eq!((stats.totals.answered, stats.totals.abandoned), (21, 0));
    assert_eq!(stats.connections_opened, 1);
}

/// The same beside an idle connection: no request has its proof signed for that one as well, because the
/// one that they shared comes free much sooner.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_share_a_connection_wait_for_it_rather_than_for_another_signature() {
    let (fixture, server, gate, client) = http1(Limits::default()).await;
    let url = server.origin();

    gate.takes(Duration::from_secs(1));
    let first = fixture.token("first");
    let both = [spawn(&client, &url, &first), spawn(&client, &url, &first)];
    let mut connections = [soon(server.accept()).await, soon(server.accept()).await];
    for connection in &mut connections {
        soon(connection.read()).await;
    }
    for connection in &mut connections {
        connection.answer().await;
    }
    for request in both {
        soon(request).await.unwrap();
    }

    let (hold, held) = watch::channel(true);
    let received = Arc::new(Notify::new());
    let serving = connections.map(|mut connection| {
        let (mut held, received) = (held.clone(), received.clone());
        tokio::spawn(async move {
            loop {
                connection.read().await;
                received.notify_one();
                held.wait_for(|held| !held).await.unwrap();
                connection.answer().await;
            }
        })
    });
    // One connection is in use while the proofs are signed, and idle when they are ready.
    let long = spawn(&client, &url, &first);
    soon(received.notified()).await;
    gate.close();
    let _opened = gate.opened_at_the_end();
    let tokens = ["a", "b", "c", "d"].map(|name| fixture.token(name));
    let before = gate.asked();
    let requests = tokens.each_ref().map(|token| spawn(&client, &url, token));
    soon(gate.is_waited_for_by(tokens.len())).await;
    hold.send(false).unwrap();
    soon(long).await.unwrap();
    hold.send(true).unwrap();
    gate.open();
    soon(received.notified()).await;
    // The others find the connection that they shared in use.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    hold.send(false).unwrap();
    for request in requests {
        soon(request).await.unwrap();
    }
    for serving in serving {
        serving.abort();
    }
    assert_eq!(gate.asked() - before, tokens.len());
    assert_eq!(client.stats().connections_opened, 2);
}

/// HTTP/1.1: a request that waits for a connection whose request turns out to be long gets another one,
/// although nothing else happens that would make the pool look.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_does_not_wait_for_the_end_of_a_long_one() {
    let (fixture, server, _, client) = http1(Limits::default()).await;
    let url = server.origin();
    let token = fixture.token("a");

    let short = spawn(&client, &url, &token);
    let mut connection = soon(server.accept()).await;
    soon(serve(&mut connection)).await;
    soon(short).await.unwrap();
    let long = spawn(&client, &url, &token);
    soon(connection.read()).await;
    let other = spawn(&client, &url, &token);
    let mut another = soon(server.accept()).await;
    soon(serve(&mut another)).await;
    soon(other).await.unwrap();
    connection.answer().await;
    soon(long).await.unwrap();
    assert_eq!(client.stats().connections_opened, 2);
}

/// Reads a request and answers it.
async fn serve(connection: &mut RawConnection) {
    connection.read().await;
    connection.answer().await;
}

fn spawn(
    client: &Client,
    url: &str,
    token: &bowline_http_client::AccessToken,
) -> tokio::task::JoinHandle<()> {
    let (client, url, token) = (client.clone(), url.to_owned(), token.clone());
    tokio::spawn(async move { ok(&client, &url, &token).await })
}

/// Panics at the next signature when `breaks` is set, once.
#[derive(Debug)]
struct Fragile {
    key: Arc<dyn SigningKey>,
    breaks: Arc<Mutex<bool>>,
}

impl SigningKey for Fragile {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        assert!(
            !std::mem::take(&mut *self.breaks.lock().unwrap_or_else(|e| e.into_inner())),
            "the test makes this key panic"
        );
        self.key.choose_scheme(offered)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.key.algorithm()
    }
}

#[tokio::test]
async fn a_key_that_panics_fails_its_requests_and_not_the_later_ones() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let breaks = Arc::new(Mutex::new(false));
    let key = Fragile {
        key: fixture.agent.signing_key(),
        breaks: breaks.clone(),
    };
    let identity = Identity::new(fixture.agent.chain(), Arc::new(key)).unwrap();
    let client = fixture.builder().identity(identity).build().unwrap();
    let url = server.origin();
    ok(&client, &url, &fixture.token("a")).await;
    *breaks.lock().unwrap() = true;
    let error = fetch(&client, &url, &fixture.token("b")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Signing, "{error}");
    ok(&client, &url, &fixture.token("b")).await;
    // The same in a handshake.
    let other = fixture.server(CyclingOptions::default());
    *breaks.lock().unwrap() = true;
    let error = fetch(&client, &other.origin(), &fixture.token("a"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TlsHandshake, "{error}");
    ok(&client, &other.origin(), &fixture.token("a")).await;
}
