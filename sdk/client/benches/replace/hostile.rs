//! Servers that make a client expect, or meet, the end of a connection as often as they can: what
//! they get it to open and to sign ahead.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use bowline_http_client::{AccessToken, Cause, Client, HttpVersions, Identity, Limits};
use bowline_testkit::peers::{CyclingOptions, CyclingServer};
use bowline_testkit::tls::Alpn;
use futures_util::future::join_all;
use tokio::time::{Instant, interval};

use super::Caller;
use crate::common::figures::{Figures, progress};
use crate::common::fixture::{Fixture, Http};
use crate::common::options::Options;
use crate::common::slow::{Slow, SlowKey};

/// Each is used in turn.
const TOKENS: usize = 1000;
/// Requests at a time, and connections of the origin at most.
const TASKS: usize = 16;
/// Between two GOAWAYs on each connection.
const BETWEEN_GOAWAYS: Duration = Duration::from_millis(100);
/// Openings ahead a minute for each connection that is open, and signatures for each of them
/// (`docs/src/pool.md`).
const OPENINGS: u64 = 10;
const SIGNATURES: u64 = 8;

pub(crate) async fn measure(options: &Options, figures: &mut Figures) {
    let time = options.pick(Duration::from_secs(150), Duration::from_secs(10));
    let cases = [
        ("hostile.keep_alive_max", Http::H1),
        ("hostile.goaway", Http::H2),
    ];
    let cases = cases.into_iter().filter(|(name, _)| options.wants(name));
    let measured = cases.map(|(name, http)| {
        progress(name);
        case(name, http, time)
    });
    for (name, value) in join_all(measured).await.into_iter().flatten() {
        figures.record(name, value);
    }
}

async fn case(name: &'static str, http: Http, time: Duration) -> Vec<(String, f64)> {
    let fixture = Fixture::new();
    let alpn = match http {
        Http::H1 => Alpn::Http1,
        Http::H2 => Alpn::Http2,
    };
    // HTTP/2 takes no notice of the field.
    let answer = || async { ([("keep-alive", "timeout=1, max=1")], "ok") };
    let router = Router::new().fallback(answer);
    let server = CyclingServer::start(fixture.pki(), CyclingOptions::alpn(alpn), router);
    let client = client(&fixture, http);
    let tokens: Vec<_> = (0..TOKENS)
        .map(|_| AccessToken::new(fixture.session_bound()).expect("a token"))
        .collect();

    let started = Instant::now();
    let until = started + time;
    let next = AtomicUsize::new(0);
    let uri: http::Uri = server.origin().parse().expect("a URI");
    let task = || async {
        while Instant::now() < until {
            let token = tokens[next.fetch_add(1, Ordering::Relaxed) % TOKENS].clone();
            let (client, uri) = (client.clone(), uri.clone());
            // What is lost between two GOAWAYs is counted below.
            drop(Caller { client, uri, token }.call().await);
        }
    };
    let tasks = join_all((0..TASKS).map(|_| task()));
    let goaways = async {
        let mut ticks = interval(BETWEEN_GOAWAYS);
        loop {
            ticks.tick().await;
            if http == Http::H2 {
                server.retire_all();
            }
        }
    };
    tokio::select! {
        _ = tasks => {}
        () = goaways => {}
    }

    let stats = client.stats();
    let minutes = started.elapsed().as_secs() / 60 + 1;
    let bound = OPENINGS * TASKS as u64 * minutes;
    let proofs_ahead = stats.totals.causes.get(&Cause::Ahead).copied().unwrap_or(0);
    assert!(stats.ahead.opened <= bound, "{name}: {:?}", stats.ahead);
    assert!(proofs_ahead <= SIGNATURES * bound, "{name}: {stats:?}");
    let figure = |what: &str, value: u64| (format!("{name}.{what}"), value as f64);
    vec![
        figure("seconds", started.elapsed().as_secs()),
        figure("requests", stats.totals.requests),
        figure("answered", stats.totals.answered),
        figure("connections", stats.connections_opened),
        figure("opened_ahead", stats.ahead.opened),
        figure("opened_ahead_bound", bound),
        figure("never_used", stats.ahead.never_used),
        figure("stopped", stats.ahead.stopped),
        figure("signatures", stats.totals.signatures()),
        figure("proofs_ahead", proofs_ahead),
        figure("proofs_ahead_bound", SIGNATURES * bound),
    ]
}

/// A client with a key as slow as one in an HSM.
fn client(fixture: &Fixture, http: Http) -> Client {
    let slow = Slow::default();
    slow.is_slow.store(true, Ordering::Relaxed);
    let key = SlowKey {
        key: fixture.agent.signing_key(),
        slow,
    };
    let mut limits = Limits::default();
    limits.per_origin = TASKS;
    fixture
        .client()
        .bowline(http)
        .http_versions(HttpVersions::Auto)
        .identity(Identity::new(fixture.agent.chain(), Arc::new(key)).expect("a pair"))
        .limits(limits)
        .build()
        .expect("a client")
}
