//! Twenty thousand requests while connections are cut, retired, left idle and limited, streams
//! reset, tokens and certificates replaced, and callers vanish: every request is accounted for, no
//! proof is on a wrong connection, nothing runs twice that must not, and no signature is made
//! without need or with an impossible cause.
//!
//! The seed is printed; `BOWLINE_SEED=n` runs it again.

#![allow(
    clippy::print_stdout,
    reason = "what a run came to, for those who look"
)]

mod books;
#[path = "../support/mod.rs"]
mod support;

use std::collections::{HashMap, HashSet};
use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use axum::Router;
use books::Books;
use bowline_client::bind::TokenSourceId;
use bowline_client::{
    AccessToken, Client, ErrorKind, Limits, Observer, Operation, ProofScope, Protocol, Thumbprint,
};
use bowline_testkit::peers::{Cycle, CyclingOptions, CyclingServer};
use bowline_testkit::pki::KeyKind;
use bowline_testkit::tls::Alpn;
use bytes::Bytes;
use futures_util::TryFutureExt;
use futures_util::future::Either;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use support::{Lab, identity, jwt, session_cnf};
use tokio::sync::{Barrier, RwLock};

const TASKS: u64 = 16;
const REQUESTS: u64 = 10_000;
/// How often all tasks stop until the connections have gone for want of use.
const PAUSES: u64 = 5;

/// xorshift64*: small, seeded, good enough to stir things up.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % sides
    }
}

#[derive(Default)]
struct Tally {
    answered: AtomicU64,
    failed: AtomicU64,
    may_have_been_processed: AtomicU64,
    vanished: AtomicU64,
}

impl Tally {
    fn sum(&self) -> u64 {
        [
            &self.answered,
            &self.failed,
            &self.may_have_been_processed,
            &self.vanished,
        ]
        .iter()
        .map(|n| n.load(Ordering::Relaxed))
        .sum()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_any_churn_every_request_is_accounted_for_and_every_proof_is_at_home() {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_nanos() as u64;
    let seed = std::env::var("BOWLINE_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(now | 1);
    println!("seed {seed}");
    for (alpn, proof_scope) in [
        (Alpn::Http1, ProofScope::Adaptive),
        (Alpn::Http2, ProofScope::Connection),
    ] {
        churn(alpn, proof_scope, seed).await;
    }
}

/// What the tasks share.
struct Scene {
    lab: Lab,
    server: CyclingServer,
    client: Client,
    tokens: RwLock<Vec<Token>>,
    tally: Tally,
    pause: Barrier,
}

#[derive(Clone)]
struct Token {
    token: AccessToken,
    /// Its own, so that the events tell it from others.
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

async fn churn(alpn: Alpn, proof_scope: ProofScope, seed: u64) {
    let lab = Lab::new();
    let options = CyclingOptions {
        alpn,
        cycle: Cycle {
            max_responses: Some(300),
            // On h1 the client lets go first, on h2 the server does.
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
    let server = CyclingServer::start_with(&lab.pki, options, |origin| {
        Resetting(lab.protected(origin, |layer| layer))
    });
    let limits = Limits {
        per_origin: 6,
        idle: Duration::from_millis(30),
        ..Limits::default()
    };
    let books = Books::default();
    let builder = lab.builder().limits(limits).proof_scope(proof_scope);
    let client = builder
        .observer(Arc::new(books.clone()) as Arc<dyn Observer>)
        .build()
        .unwrap();
    let scene = Arc::new(Scene {
        tokens: RwLock::new(vec![Token::new(0, lab.agent.thumbprint())]),
        lab,
        server,
        client,
        tally: Tally::default(),
        pause: Barrier::new(TASKS as usize),
    });
    let tasks = (0..TASKS).map(|task| {
        let dice = Dice(seed.wrapping_mul(task + 1) | 1);
        tokio::spawn(agent(task, dice, scene.clone()))
    });
    for task in futures_util::future::join_all(tasks).await {
        task.unwrap();
    }

    let stats = scene.client.stats();
    let (totals, opened) = (&stats.totals, stats.connections_opened);
    println!(
        "{alpn:?} {proof_scope:?}: {totals:?}, {opened} connections, closed {:?}",
        stats.connections_closed
    );
    assert_eq!(scene.tally.sum(), REQUESTS);
    assert_eq!(totals.requests, REQUESTS);
    assert_eq!(
        totals.answered + totals.failed + totals.may_have_been_processed,
        REQUESTS
    );
    assert_eq!(
        totals.refused, 0,
        "a proof was refused: it was on a wrong connection"
    );
    assert!(
        scene.tally.answered.load(Ordering::Relaxed) > REQUESTS / 2,
        "nothing was shown"
    );
    check_what_the_server_saw(&scene.lab, proof_scope, totals.signatures(), opened).await;
    let causes = books.check(REQUESTS, |operation| operation.name().starts_with(SOURCED));
    // A signature whose request has gone may still be under way.
    let later = scene.client.stats().totals.signatures();
    assert!((totals.signatures()..=later).contains(&(causes.values().sum::<usize>() as u64)));
}

async fn agent(task: u64, mut dice: Dice, scene: Arc<Scene>) {
    let Scene {
        server,
        client,
        tally,
        ..
    } = &*scene;
    for n in 0..REQUESTS / TASKS {
        if n % (REQUESTS / TASKS / PAUSES) == 0 {
            scene.fall_idle().await;
        }
        match dice.roll(400) {
            0 => server.cut_all(),
            1 => server.retire_all(),
            2 => {
                let next = scene.lab.pki.client("agent", KeyKind::P256);
                client.replace_identity(identity(&next)).unwrap();
                scene.issue(next.thumbprint()).await;
            }
            3 => scene.issue(client.identity().unwrap().thumbprint()).await,
            _ => {}
        }
        let token = {
            let tokens = scene.tokens.read().await;
            // The newest ones, most of the time.
            let back = dice.roll(3).min(tokens.len() as u64 - 1) as usize;
            tokens[tokens.len() - 1 - back].clone()
        };
        let method = if dice.roll(2) == 0 { "GET" } else { "POST" };
        let reset = if dice.roll(200) == 0 { RESET } else { "" };
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
            // A body that is cut is an error of its own, after the answer.
            let _ = response.into_body().collect().await;
            Ok::<_, bowline_client::Error>(())
        };
        let patience = dice.roll(50);
        let outcome = tokio::select! {
            biased; // Each call begins, so that each is counted.
            outcome = call => Some(outcome),
            () = yields(patience), if patience < 5 => None,
        };
        let count = match outcome {
            None => &tally.vanished,
            Some(Ok(())) => {
                assert!(reset.is_empty(), "a stream that was reset was answered");
                &tally.answered
            }
            Some(Err(e)) if e.may_have_been_processed() => &tally.may_have_been_processed,
            Some(Err(e)) => {
                assert!(
                    matches!(
                        e.kind(),
                        ErrorKind::ConnectionLost | ErrorKind::TlsHandshake | ErrorKind::Connect
                    ),
                    "{e:?}"
                );
                &tally.failed
            }
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// A caller who loses patience.
async fn yields(times: u64) {
    for _ in 0..times * 3 {
        tokio::task::yield_now().await;
    }
}

impl Scene {
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

/// The service, but requests to paths with this end are not answered: h2 resets the stream, h1 cuts
/// the connection.
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
        match request.uri().path().ends_with(RESET) {
            true => Either::Left(ready(Err("reset".into()))),
            false => Either::Right(self.0.call(request).err_into()),
        }
    }
}

async fn check_what_the_server_saw(
    lab: &Lab,
    proof_scope: ProofScope,
    signatures: u64,
    opened: u64,
) {
    let mut homes = HashMap::new();
    let mut posts = HashSet::new();
    let mut pairs = HashSet::new();
    for seen in lab.record.all() {
        assert_eq!(seen.proofs.len(), 1, "CL-1");
        for proof in seen.proofs {
            assert_eq!(
                *homes.entry(proof.clone()).or_insert(seen.connection),
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
        "{proof_scope:?}: the server saw {} proofs on connections it had",
        pairs.len()
    );
    assert!(
        pairs.len() as u64 <= signatures,
        "more proofs than signatures"
    );
    assert!(signatures > 1 && opened > 1);
}
