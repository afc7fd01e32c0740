//! A connection that lasts twenty minutes of simulated time, to a server that forgets the proofs it
//! has verified: no refusal reaches a caller (RS-8, CL-5).

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::fixture::{Fixture, ok};
use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bowline_http_client::Cause;
use bowline_proof::PROOF_HEADER;
use bowline_server::Clock;
use bowline_testkit::peers::{CyclingOptions, CyclingServer};
use bowline_testkit::tls::Alpn;
use http::StatusCode;
use rustls_pki_types::UnixTime;

/// Seconds that the simulated clock is ahead of the real one.
#[derive(Clone, Default)]
struct Ahead(Arc<AtomicU64>);

impl Ahead {
    fn seconds(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn clock(&self) -> Clock {
        let ahead = self.clone();
        Clock::from_fn(move || {
            let seconds = UnixTime::now().as_secs() + ahead.seconds();
            UnixTime::since_unix_epoch(Duration::from_secs(seconds))
        })
    }
}

const DURATION: u64 = 20 * 60;
const STEP: u64 = 10;

#[tokio::test]
async fn a_proof_outlives_the_servers_memory_of_it_for_as_long_as_its_connection() {
    for alpn in [Alpn::Http1, Alpn::Http2] {
        let (fixture, ahead) = (Fixture::new(), Ahead::default());
        // Room for one proof: each of the two tokens evicts the proof of the other.
        let server = fixture.server_with(CyclingOptions::alpn(alpn), |layer| {
            layer.cached_proofs(NonZeroUsize::MIN).clock(ahead.clock())
        });
        let (client, tokens) = (fixture.client(), [fixture.token("a"), fixture.token("b")]);
        let mut requests = 0;
        for seconds in (0..=DURATION).step_by(STEP as usize) {
            ahead.0.store(seconds, Ordering::Relaxed);
            for token in &tokens {
                ok(&client, &server.origin(), token).await;
                requests += 1;
            }
        }
        let (stats, totals) = (client.stats(), client.stats().totals);
        assert_eq!(stats.connections_opened, 1);
        assert_eq!(
            (totals.requests, totals.refused, totals.signatures()),
            (requests, 0, 2)
        );
    }
}

/// Another implementation may apply the limit of RS-8 on every connection: a proof is stale 300 s
/// after it was made.
#[tokio::test]
async fn a_server_that_calls_old_proofs_stale_costs_a_signature_each_time_and_refuses_no_caller() {
    const WINDOW: u64 = 300;
    for alpn in [Alpn::Http1, Alpn::Http2] {
        let (fixture, ahead) = (Fixture::new(), Ahead::default());
        let first_seen: Arc<Mutex<HashMap<String, u64>>> = Arc::default();
        let clock = ahead.clone();
        let handler = move |request: Request| {
            let proof = request.headers()[PROOF_HEADER]
                .to_str()
                .unwrap_or_default()
                .to_owned();
            let now = clock.seconds();
            let age = now - *first_seen.lock().unwrap().entry(proof).or_insert(now);
            async move {
                if age > WINDOW {
                    stale()
                } else {
                    "ok:".into_response()
                }
            }
        };
        let server = CyclingServer::start(
            &fixture.pki,
            CyclingOptions::alpn(alpn),
            Router::new().fallback(handler),
        );
        let (client, token) = (fixture.client(), fixture.token("a"));
        for seconds in (0..=DURATION).step_by(STEP as usize) {
            ahead.0.store(seconds, Ordering::Relaxed);
            ok(&client, &server.origin(), &token).await;
        }
        let (stats, totals) = (client.stats(), client.stats().totals);
        assert_eq!(stats.connections_opened, 1);
        // Stale at 310, 620 and 930 s.
        assert_eq!(
            totals.causes,
            [(Cause::First, 1), (Cause::Challenge, 3)].into()
        );
        assert_eq!(totals.refused, 3);
    }
}

fn stale() -> Response {
    let challenge = r#"Bearer error="invalid_proof", error_description="RS-8: iat""#;
    (StatusCode::UNAUTHORIZED, [("www-authenticate", challenge)]).into_response()
}
