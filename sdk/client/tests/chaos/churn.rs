//! Twenty thousand requests while connections are cut, retired, left idle and limited, streams
//! reset, tokens and certificates replaced, and requests cancelled: every request is counted, no
//! proof is sent on a wrong connection, no request runs twice that must not, and no signature is
//! made without need or with an impossible cause.
//!
//! The seed is printed; `BOWLINE_SEED=n` runs it again.

use std::collections::{HashMap, HashSet};
use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use crate::fixture::{Fixture, identity, jwt, session_cnf};
use axum::Router;
use bowline_http_client::bind::TokenSourceId;
use bowline_http_client::{
    AccessToken, Cause, Client, ErrorKind, Limits, Observer, Operation, ProofScope, Protocol,
    Thumbprint,
};
use bowline_testkit::peers::{Cycle, CyclingOptions, CyclingServer};
use bowline_testkit::pki::KeyKind;
use bowline_testkit::tls::Alpn;
use bytes::Bytes;
use futures_util::TryFutureExt;
use futures_util::future::Either;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::sync::{Barrier, RwLock};

use crate::signature_audit::SignatureAudit;

const TASKS: u64 = 16;
/// Of each run. `TEST_REQUESTS=n` sends n.
const REQUESTS: u64 = 10_000;
/// How often all tasks stop until every connection has been closed as idle.
const PAUSES: u64 = 5;

/// xorshift64*: a small seeded generator.
struct Random(u64);

impl Random {
    /// A number from 0 to `limit - 1`.
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % limit
    }
}

/// How many requests had which outcome.
#[derive(Default)]
struct Outcomes {
    answered: AtomicU64,
    failed: AtomicU64,
    may_have_been_processed: AtomicU64,
    cancelled: AtomicU64,
}

impl Outcomes {
    fn sum(&self) -> u64 {
        [
            &self.answered,
            &self.failed,
            &self.may_have_been_processed,
            &self.cancelled,
        ]
        .iter()
        .map(|n| n.load(Ordering::Relaxed))
        .sum()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_any_churn_every_request_is_counted_and_every_proof_is_on_its_connection() {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_nanos() as u64;
    let seed = std::env::var("BOWLINE_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(now | 1);
    let requests = std::env::var("TEST_REQUESTS")
        .ok()
        .and_then(|requests| requests.parse::<u64>().ok())
        .unwrap_or(REQUESTS)
        .next_multiple_of(TASKS * PAUSES);
    println!("seed {seed}");
    for (alpn, proof_scope) in [
        (Alpn::Http1, ProofScope::Adaptive),
        (Alpn::Http2, ProofScope::Connection),
    ] {
        churn(alpn, proof_scope, seed, requests).await;
    }
}

/// What the tasks share.
struct Shared {
    fixture: Fixture,
    server: CyclingServer,
    client: Client,
    tokens: RwLock<Vec<Token>>,
    outcomes: Outcomes,
    pause: Barrier,
    requests: u64,
}

#[derive(Clone)]
struct Token {
    token: AccessToken,
    /// One per token, because events name the operation and no token.
    operation: Operation,
    source: Option<TokenSourceId>,
}

const SOURCED: &str = "sourced";

impl Token {
    /// Every other one comes from the one source.
    fn new(number: usize, certificate: Thumbprint) -> Self {
        let is_sourced = number.is_multiple_of(2);
        let name = format!("{} {number}", if is_sourced { SOURCED } else { "single" });
        let token = jwt(&name, Some(session_cnf(certificate)));
        Self {
            token,
            operation: Operation::new(Protocol::HTTP, name.leak()),
            source: is_sourced.then_some(TokenSourceId(1)),
        }
    }
}

async fn churn(alpn: Alpn, proof_scope: ProofScope, seed: u64, requests: u64) {
    let fixture = Fixture::new();
    let options = CyclingOptions {
        alpn,
        cycle: Cycle {
            max_responses: Some(300),
            // On h1 the client closes first, on h2 the server does.
            idle: Some(Duration::from_millis(if alpn == Alpn::Http1 {
                60
            } else {
                15
            })),
            ..Cycle::default()
        },
        max_streams: 10,
        ..CyclingOptions::default()
    };
    let server = CyclingServer::start_with(&fixture.pki, options, |origin| {
        Resetting(fixture.protected(origin, |layer| layer))
    });
    let mut limits = Limits::default();
    limits.per_origin = 6;
    limits.idle = Duration::from_millis(30);
    // So that connections are replaced ahead too.
    limits.age = Some(Duration::from_millis(150));
    let audit = SignatureAudit::default();
    let builder = fixture.builder().limits(limits).proof_scope(proof_scope);
    let client = builder
        .observer(Arc::new(audit.clone()) as Arc<dyn Observer>)
        .build()
        .unwrap();
    let shared = Arc::new(Shared {
        tokens: RwLock::new(vec![Token::new(0, fixture.agent.thumbprint())]),
        fixture,
        server,
        client,
        outcomes: Outcomes::default(),
        pause: Barrier::new(TASKS as usize),
        requests,
    });
    let tasks = (0..TASKS).map(|task| {
        let random = Random(seed.wrapping_mul(task + 1) | 1);
        tokio::spawn(agent(task, random, shared.clone()))
    });
    for task in futures_util::future::join_all(tasks).await {
        task.unwrap();
    }

    let stats = shared.client.stats();
    let (totals, opened) = (&stats.totals, stats.connections_opened);
    println!(
        "{alpn:?} {proof_scope:?}: {totals:?}, {opened} connections, closed {:?}, {:?}",
        stats.connections_closed, stats.ahead
    );
    assert_eq!(shared.outcomes.sum(), requests);
    assert_eq!(totals.requests, requests);
    assert_eq!(
        totals.answered + totals.failed + totals.may_have_been_processed,
        requests
    );
    assert_eq!(
        totals.refused, 0,
        "a proof was refused: it was sent on a wrong connection"
    );
    assert!(stats.ahead.used > 0, "{:?}", stats.ahead);
    let is_ahead = totals.causes.contains_key(&Cause::Ahead);
    assert_eq!(is_ahead, proof_scope == ProofScope::Connection);
    assert!(
        shared.outcomes.answered.load(Ordering::Relaxed) > requests / 2,
        "too few requests were answered to show anything"
    );
    check_received_requests(&shared.fixture, proof_scope, totals.signatures(), opened).await;
    let causes = audit.check(requests, |operation| operation.name().starts_with(SOURCED));
    // The signature of a cancelled request may still be in progress.
    let later = shared.client.stats().totals.signatures();
    assert!((totals.signatures()..=later).contains(&(causes.values().sum::<usize>() as u64)));
}

async fn agent(task: u64, mut random: Random, shared: Arc<Shared>) {
    let Shared {
        server,
        client,
        outcomes,
        ..
    } = &*shared;
    for n in 0..shared.requests / TASKS {
        if n % (shared.requests / TASKS / PAUSES) == 0 {
            shared.fall_idle().await;
        }
        match random.below(400) {
            0 => server.cut_all(),
            1 => server.retire_all(),
            2 => {
                let next = shared.fixture.pki.client("agent", KeyKind::P256);
                client.replace_identity(identity(&next)).unwrap();
                shared.issue(next.thumbprint()).await;
            }
            3 => shared.issue(client.identity().unwrap().thumbprint()).await,
            _ => {}
        }
        let token = {
            let tokens = shared.tokens.read().await;
            // One of the three newest.
            let back = random.below(3).min(tokens.len() as u64 - 1) as usize;
            tokens[tokens.len() - 1 - back].clone()
        };
        let method = if random.below(2) == 0 { "GET" } else { "POST" };
        let reset = if random.below(200) == 0 { RESET } else { "" };
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("{}/{method}/{task}/{n}{reset}", server.origin()))
            .extension(token.token)
            .extension(token.operation)
            .body(Full::new(Bytes::from_static(b"pay")))
            .unwrap();
        if let Some(source) = token.source {
            request.extensions_mut().insert(source);
        }
        let call = async {
            let response = client.send(request).await?;
            assert_eq!(response.status(), 200);
            // A body that is cut is a separate error, after the response.
            let _ = response.into_body().collect().await;
            Ok::<_, bowline_http_client::Error>(())
        };
        let steps = random.below(50);
        let outcome = tokio::select! {
            biased; // Polls the call first, so that it is counted.
            outcome = call => Some(outcome),
            () = yields(steps), if steps < 5 => None,
        };
        let count = match outcome {
            None => &outcomes.cancelled,
            Some(Ok(())) => {
                assert!(reset.is_empty(), "a stream that was reset was answered");
                &outcomes.answered
            }
            Some(Err(e)) if e.may_have_been_processed() => &outcomes.may_have_been_processed,
            Some(Err(e)) => {
                assert!(
                    matches!(
                        e.kind(),
                        ErrorKind::ConnectionLost | ErrorKind::TlsHandshake | ErrorKind::Connect
                    ),
                    "{e:?}"
                );
                &outcomes.failed
            }
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Ends after the caller has yielded a few times.
async fn yields(times: u64) {
    for _ in 0..times * 3 {
        tokio::task::yield_now().await;
    }
}

impl Shared {
    /// All tasks together wait until no connection is left.
    async fn fall_idle(&self) {
        if self.pause.wait().await.is_leader() {
            self.server
                .until("idle connections closed", |counts| counts.open() == 0)
                .await;
        }
        self.pause.wait().await;
    }

    async fn issue(&self, certificate: Thumbprint) {
        let mut tokens = self.tokens.write().await;
        let token = Token::new(tokens.len(), certificate);
        tokens.push(token);
    }
}

/// The service, but requests to paths that end in [`RESET`] are not answered: h2 resets the stream,
/// h1 cuts the connection.
#[derive(Clone)]
struct Resetting(Router);

const RESET: &str = "/reset";

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl tower_service::Service<http::Request<Incoming>> for Resetting {
    type Response = axum::response::Response;
    type Error = BoxError;
    type Future = Either<
        Ready<Result<Self::Response, BoxError>>,
        futures_util::future::ErrInto<
            <Router as tower_service::Service<http::Request<Incoming>>>::Future,
            BoxError,
        >,
    >;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Incoming>) -> Self::Future {
        if request.uri().path().ends_with(RESET) {
            Either::Left(ready(Err("reset".into())))
        } else {
            Either::Right(self.0.call(request).err_into())
        }
    }
}

async fn check_received_requests(
    fixture: &Fixture,
    proof_scope: ProofScope,
    signatures: u64,
    opened: u64,
) {
    let mut connections = HashMap::new();
    let mut posts = HashSet::new();
    let mut pairs = HashSet::new();
    for seen in fixture.requests.all() {
        assert_eq!(seen.proofs.len(), 1, "CL-1");
        for proof in seen.proofs {
            assert_eq!(
                *connections.entry(proof.clone()).or_insert(seen.connection),
                seen.connection,
                "CL-2"
            );
            pairs.insert((proof, seen.connection));
        }
        let is_post = seen.path.starts_with("/POST/");
        assert!(
            !is_post || posts.insert(seen.path.clone()),
            "{} ran twice",
            seen.path
        );
    }
    println!(
        "{proof_scope:?}: the server received {} proofs",
        pairs.len()
    );
    assert!(
        pairs.len() as u64 <= signatures,
        "more proofs than signatures"
    );
    assert!(signatures > 1 && opened > 1);
}
