//! Connections that are opened ahead (`docs/src/pool.md`), on real connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::fixture::slow_key::soon;
use crate::fixture::{Fixture, fetch, identity, jwt, ok, session_cnf, text};
use axum::Router;
use bowline_http_client::{AccessToken, Cause, Client, CloseReason, Limits, ProofScope, Proxies};
use bowline_testkit::net::{OwnedTask, accept_loop, loopback};
use bowline_testkit::peers::{Cycle, CyclingOptions, CyclingServer};
use bowline_testkit::pki::{KeyKind, Leaf, LeafSpec};
use bowline_testkit::tls::Alpn;
use futures_util::future::join_all;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;

/// Waits until the client has counted what `reached` says.
async fn until(client: &Client, reached: impl Fn(&bowline_http_client::Snapshot) -> bool) {
    soon(async {
        while !reached(&client.stats()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

fn count(client: &Client, cause: Cause) -> u64 {
    let causes = client.stats().totals.causes;
    causes.get(&cause).copied().unwrap_or(0)
}

/// A proxy that takes some time for the first connection. Then the lead, which is half as much again, is
/// longer than any later opening takes on a busy machine: what was used before it still counts as in use.
fn slow_at_first() -> (Proxies, OwnedTask) {
    const SLOW: Duration = Duration::from_secs(2);
    let tcp = loopback();
    let proxies = Proxies::https(&tcp.local_addr().unwrap().to_string(), "");
    let connections = Arc::<AtomicUsize>::default();
    let accepting = accept_loop(tcp, move |mut client| {
        let connections = connections.clone();
        async move {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                head.push(client.read_u8().await.unwrap().into());
            }
            if connections.fetch_add(1, Ordering::SeqCst) == 0 {
                tokio::time::sleep(SLOW).await;
            }
            let target = head.split(' ').nth(1).unwrap();
            let mut server = TcpStream::connect(target).await.unwrap();
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            drop(copy_bidirectional(&mut client, &mut server).await);
        }
    });
    (proxies, accepting)
}

/// A client that has sent one request, after which the server sent GOAWAY. The client has opened
/// another connection, without another request.
async fn after_goaway(
    fixture: &Fixture,
    proof_scope: ProofScope,
    token: &AccessToken,
) -> (CyclingServer, Client, OwnedTask) {
    let server = fixture.server(CyclingOptions::alpn(Alpn::Http2));
    let (proxies, proxy) = slow_at_first();
    let builder = fixture.builder().proof_scope(proof_scope).proxies(proxies);
    let client = builder.build().unwrap();
    ok(&client, &server.origin(), token).await;
    server.retire_all();
    server.opened(2).await;
    until(&client, |stats| stats.ahead.opened == 1).await;
    (server, client, proxy)
}

#[tokio::test]
async fn goaway_on_a_connection_in_use_is_answered_with_another_one_and_its_proof() {
    let fixture = Fixture::new();
    let token = fixture.token("a");
    let (server, client, _proxy) = after_goaway(&fixture, ProofScope::Connection, &token).await;
    until(&client, |stats| stats.totals.signatures() == 2).await;
    for _ in 0..3 {
        ok(&client, &server.origin(), &token).await;
    }
    let stats = client.stats();
    let causes = [(Cause::First, 1), (Cause::Ahead, 1)];
    assert_eq!(stats.totals.causes, causes.into());
    assert_eq!((stats.totals.reused, stats.totals.refused), (3, 0));
    assert_eq!((stats.ahead.used, stats.ahead.never_used), (1, 0));
    assert_eq!(server.counts().opened, 2);
    assert_eq!(fixture.requests.proofs().len(), 2);
    // No reconnect is relabelled away.
    assert_eq!(stats.totals.reproof_ratio(), 0.25);
}

#[tokio::test]
async fn a_proof_made_ahead_and_not_needed_is_abandoned_and_its_connection_counted() {
    let fixture = Fixture::new();
    let token = fixture.token("a");
    let (server, client, _proxy) = after_goaway(&fixture, ProofScope::Connection, &token).await;
    until(&client, |stats| stats.totals.signatures() == 2).await;
    server.cut_all();
    until(&client, |stats| stats.totals.abandoned == 1).await;
    until(&client, |stats| stats.ahead.never_used == 1).await;
    assert_eq!(client.stats().ahead.used, 0);
}

/// Else [`ProofScope::Adaptive`] would sign more than twice as often as the better of the others.
#[tokio::test]
async fn under_other_scopes_only_the_connection_is_opened() {
    for proof_scope in [ProofScope::Request, ProofScope::Adaptive] {
        let fixture = Fixture::new();
        let token = fixture.token("a");
        let (server, client, _proxy) = after_goaway(&fixture, proof_scope, &token).await;
        ok(&client, &server.origin(), &token).await;
        let stats = client.stats();
        let causes = [(Cause::First, 1), (Cause::Reconnect, 1)];
        assert_eq!(stats.totals.causes, causes.into(), "{proof_scope:?}");
        assert_eq!((stats.ahead.used, server.counts().opened), (1, 2));
    }
}

#[tokio::test]
async fn a_token_that_expires_soon_is_not_proved_ahead() {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.unwrap().as_secs();
    for (exp, proofs) in [(now + 9, 0), (now + 3600, 1)] {
        let fixture = Fixture::new();
        let token = with_expiry(&fixture, exp);
        let (server, client, _proxy) = after_goaway(&fixture, ProofScope::Connection, &token).await;
        if proofs == 1 {
            until(&client, |stats| stats.totals.signatures() == 2).await;
        }
        ok(&client, &server.origin(), &token).await;
        assert_eq!(count(&client, Cause::Ahead), proofs, "{exp}");
        assert_eq!(client.stats().totals.signatures(), 2);
    }
}

fn with_expiry(fixture: &Fixture, exp: u64) -> AccessToken {
    use base64::Engine;
    let claims = json!({
        "sub": "a", "exp": exp, "cnf": session_cnf(fixture.agent.thumbprint()),
    });
    let encode = |text: String| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    let head = encode(json!({ "alg": "ES256", "typ": "at+jwt" }).to_string());
    AccessToken::new(format!("{head}.{}.c2ln", encode(claims.to_string()))).unwrap()
}

#[tokio::test]
async fn an_idle_connection_that_ends_gets_no_successor() {
    const AGE: Duration = Duration::from_secs(1);
    let fixture = Fixture::new();
    let mut limits = Limits::default();
    limits.age = Some(AGE);
    let token = fixture.token("a");
    // It is replaced after half of its age at the earliest, and was in use if it was within a quarter
    // before: on a machine that was too busy for the request to end in time, once more.
    let (server, client) = loop {
        let server = fixture.server(CyclingOptions::alpn(Alpn::Http2));
        let client = fixture.builder().limits(limits).build().unwrap();
        let begun = Instant::now();
        ok(&client, &server.origin(), &token).await;
        if begun.elapsed() < AGE / 4 {
            break (server, client);
        }
    };
    // It is idle, and closed, before its age.
    server.closed(1).await;
    until(&client, |stats| {
        stats.connections_closed.contains_key(&CloseReason::Age)
    })
    .await;
    assert_eq!(
        (server.counts().opened, client.stats().ahead.opened),
        (1, 0)
    );
}

#[tokio::test]
async fn switched_off_the_next_request_opens_the_connection() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::alpn(Alpn::Http2));
    let (client, token) = (fixture.client_that_waits(), fixture.token("a"));
    ok(&client, &server.origin(), &token).await;
    server.retire_all();
    until(&client, |stats| !stats.connections_closed.is_empty()).await;
    ok(&client, &server.origin(), &token).await;
    let causes = [(Cause::First, 1), (Cause::Reconnect, 1)];
    assert_eq!(client.stats().totals.causes, causes.into());
    assert_eq!(client.stats().ahead, Default::default());
}

#[tokio::test]
async fn connections_over_age_are_replaced_while_requests_go_on() {
    for alpn in [Alpn::Http1, Alpn::Http2] {
        let fixture = Fixture::new();
        let server = fixture.server(CyclingOptions::alpn(alpn));
        let mut limits = Limits::default();
        limits.age = Some(Duration::from_millis(600));
        let client = fixture.builder().limits(limits).build().unwrap();
        let tokens: Vec<_> = (0..3).map(|n| fixture.token(&format!("{n}"))).collect();
        let url = server.origin();
        soon(async {
            while client.stats().ahead.used < 3 {
                join_all(tokens.iter().map(|token| ok(&client, &url, token))).await;
            }
        })
        .await;
        let stats = client.stats();
        assert_eq!(stats.totals.refused, 0, "{alpn:?}");
        assert_eq!(stats.totals.answered, stats.totals.requests, "{alpn:?}");
        assert!(count(&client, Cause::Ahead) > 0, "{alpn:?}: {stats:?}");
        // One for each (token, connection), and those never written.
        let pairs = fixture.requests.proofs().len() as u64;
        assert!(stats.totals.signatures() >= pairs, "{alpn:?}");
    }
}

/// The peer ends all connections at once, busy as they are.
#[tokio::test]
async fn a_deployment_opens_nothing_ahead() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions {
        max_streams: 2,
        ..CyclingOptions::alpn(Alpn::Http2)
    });
    let (client, token) = (fixture.client(), fixture.token("a"));
    ok(&client, &server.origin(), &token).await;
    let url = format!("{}/stream", server.origin());
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(fetch(&client, &url, &token).await.unwrap());
    }
    assert_eq!(server.counts().opened, 3);
    server.go_away_all();
    until(&client, |stats| {
        stats.connections_closed.values().sum::<u64>() == 3
    })
    .await;
    assert_eq!(client.stats().ahead.opened, 0);
    ok(&client, &server.origin(), &token).await;
    let stats = client.stats();
    assert_eq!((stats.ahead.opened, stats.totals.signatures()), (0, 4));
    assert!(stats.learned.iter().all(|learned| learned.age.is_none()));
}

/// A certificate's end is foreseen, too: where another one is held, its first request finds a
/// connection.
#[tokio::test]
async fn a_certificate_in_use_that_is_about_to_expire_opens_a_connection_with_the_one_that_is_held()
{
    for holds_another in [true, false] {
        let fixture = Fixture::new();
        let server = fixture.server(CyclingOptions::alpn(Alpn::Http2));
        let end = SystemTime::now() + Duration::from_secs(2);
        let leaf = fixture.pki.issue(&LeafSpec::client("agent").not_after(end));
        let client = fixture.builder().identity(identity(&leaf)).build().unwrap();
        let next = fixture.pki.client("agent", KeyKind::P256);
        if holds_another {
            client.hold_identity(identity(&next)).unwrap();
        }
        let bound_to = |leaf: &Leaf| jwt("a", Some(session_cnf(leaf.thumbprint())));
        soon(async {
            while client.stats().connections_closed.is_empty() {
                // The last one may find its certificate expired.
                drop(fetch(&client, &server.origin(), &bound_to(&leaf)).await);
                tokio::task::yield_now().await;
            }
        })
        .await;
        let closed = client.stats().connections_closed;
        assert_eq!(closed, [(CloseReason::Identity, 1)].into());
        assert_eq!(client.stats().ahead.opened, u64::from(holds_another));
        if holds_another {
            ok(&client, &server.origin(), &bound_to(&next)).await;
            assert_eq!(client.stats().ahead.used, 1);
            assert_eq!(server.counts().opened, 2);
        }
    }
}

/// So many are opened ahead at most since `started`, where one connection is open at a time.
fn bound(started: Instant) -> u64 {
    10 * (started.elapsed().as_secs() / 60 + 1)
}

/// Handshakes and signatures that requests did not ask for stay below the bound.
fn check_bound(client: &Client, server: &CyclingServer, started: Instant, requests: u64) {
    let (stats, counts) = (client.stats(), server.counts());
    assert!(stats.ahead.opened <= bound(started), "{:?}", stats.ahead);
    assert!(counts.opened <= requests + bound(started), "{counts:?}");
    assert!(count(client, Cause::Ahead) <= 8 * bound(started));
    assert!(stats.totals.signatures() <= requests + 8 * bound(started));
    assert_eq!(stats.totals.answered, requests);
}

#[tokio::test]
async fn a_server_that_announces_each_connections_end_makes_no_client_open_without_bound() {
    const REQUESTS: usize = 100;
    let fixture = Fixture::new();
    let answer = || async { ([("keep-alive", "timeout=1, max=1")], "ok:") };
    let options = CyclingOptions::alpn(Alpn::Http1);
    let server = CyclingServer::start(&fixture.pki, options, Router::new().fallback(answer));
    let (client, started) = (fixture.client(), Instant::now());
    let tokens: Vec<_> = (0..20).map(|n| fixture.token(&format!("{n}"))).collect();
    for n in 0..REQUESTS {
        ok(&client, &server.origin(), &tokens[n % tokens.len()]).await;
    }
    assert!(client.stats().ahead.opened > 0, "it was announced");
    assert!(client.stats().ahead.stopped > 0, "too many were");
    check_bound(&client, &server, started, REQUESTS as u64);
}

#[tokio::test]
async fn a_server_that_sends_goaway_on_each_connection_makes_no_client_open_without_bound() {
    const REQUESTS: usize = 100;
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions {
        cycle: Cycle::max_responses(1),
        ..CyclingOptions::alpn(Alpn::Http2)
    });
    let (client, started) = (fixture.client(), Instant::now());
    let tokens: Vec<_> = (0..20).map(|n| fixture.token(&format!("{n}"))).collect();
    for n in 0..REQUESTS {
        ok(&client, &server.origin(), &tokens[n % tokens.len()]).await;
    }
    check_bound(&client, &server, started, REQUESTS as u64);
}

/// Anyone on the way can forge a FIN.
#[tokio::test]
async fn an_end_without_close_notify_is_not_learned_from() {
    for alpn in [Alpn::Http1, Alpn::Http2] {
        let fixture = Fixture::new();
        let server = fixture.server(CyclingOptions::alpn(alpn));
        let (client, token) = (fixture.client(), fixture.token("a"));
        ok(&client, &server.origin(), &token).await;
        server.cut_all();
        until(&client, |stats| !stats.connections_closed.is_empty()).await;
        ok(&client, &server.origin(), &token).await;
        server.retire_all();
        // Of both together none would count.
        until(&client, |stats| {
            stats.learned.iter().any(|learned| learned.ends == 1)
        })
        .await;
    }
}

/// What was learned is for the operator: no response and no error tells it.
#[tokio::test]
async fn ends_are_counted_and_nothing_is_learned_from_a_few() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::alpn(Alpn::Http2));
    let (client, token) = (fixture.client(), fixture.token("a"));
    let response = fetch(&client, &server.origin(), &token).await.unwrap();
    assert_eq!(text(response).await, "ok:");
    server.retire_all();
    until(&client, |stats| !stats.connections_closed.is_empty()).await;
    // After a second in which no other ends.
    until(&client, |stats| {
        stats.learned.iter().any(|learned| learned.ends == 1)
    })
    .await;
    let learned = client.stats().learned;
    assert_eq!(learned[0].origin.to_string(), server.origin());
    assert_eq!((learned[0].age, learned[0].requests), (None, None));
}
