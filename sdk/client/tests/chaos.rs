//! Twenty thousand requests while connections are cut, retired and limited, tokens and certificates replaced, and
//! callers vanish: every request is accounted for, no proof is on a wrong connection, nothing runs twice that must not.
//!
//! The seed is printed; `BOWLINE_SEED=n` runs it again.

#![allow(clippy::print_stdout, reason = "what a run came to, for those who look")]

mod support;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bowline_client::{AccessToken, Client, Hardening, Kind, Limits};
use bowline_testkit::peers::{Cycle, CyclingOptions, CyclingServer};
use bowline_testkit::pki::KeyKind;
use bowline_testkit::tls::Alpn;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use support::{Lab, identity, jwt, session_cnf};
use tokio::sync::RwLock;

const TASKS: u64 = 16;
const REQUESTS: u64 = 10_000;

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
    for (alpn, hardening) in [(Alpn::Http1, Hardening::Adaptive), (Alpn::Http2, Hardening::Connection)] {
        churn(alpn, hardening, seed).await;
    }
}

async fn churn(alpn: Alpn, hardening: Hardening, seed: u64) {
    let lab = Arc::new(Lab::new());
    let server = Arc::new(lab.server(CyclingOptions {
        alpn,
        cycle: Cycle {
            max_responses: Some(300),
            ..Cycle::default()
        },
        max_streams: 10,
        ..CyclingOptions::default()
    }));
    let limits = Limits {
        per_origin: 6,
        idle: Duration::from_millis(30),
        ..Limits::default()
    };
    let client = lab.builder().limits(limits).hardening(hardening).build().unwrap();
    let tokens = Arc::new(RwLock::new(vec![lab.token("0")]));
    let tally = Arc::new(Tally::default());

    let tasks = (0..TASKS).map(|task| {
        let (client, server, tokens, tally, lab) = (
            client.clone(),
            server.clone(),
            tokens.clone(),
            tally.clone(),
            lab.clone(),
        );
        let dice = Dice(seed.wrapping_mul(task + 1) | 1);
        tokio::spawn(agent(task, dice, client, server, lab, tokens, tally))
    });
    for task in futures_util::future::join_all(tasks).await {
        task.unwrap();
    }

    let totals = client.stats().totals;
    let opened = client.stats().connections_opened;
    println!("{alpn:?} {hardening:?}: {totals:?}, {opened} connections");
    assert_eq!(tally.sum(), REQUESTS);
    assert_eq!(totals.requests, REQUESTS);
    assert_eq!(
        totals.answered + totals.failed + totals.may_have_been_processed,
        REQUESTS
    );
    assert_eq!(totals.refused, 0, "a proof was refused: it was on a wrong connection");
    assert!(
        tally.answered.load(Ordering::Relaxed) > REQUESTS / 2,
        "nothing was shown"
    );
    check_what_the_server_saw(&lab, hardening, totals.signatures(), opened).await;
}

async fn agent(
    task: u64,
    mut dice: Dice,
    client: Client,
    server: Arc<CyclingServer>,
    lab: Arc<Lab>,
    tokens: Arc<RwLock<Vec<AccessToken>>>,
    tally: Arc<Tally>,
) {
    for n in 0..REQUESTS / TASKS {
        match dice.roll(400) {
            0 => server.cut_all(),
            1 => server.retire_all(),
            2 => {
                let next = lab.pki.client("agent", KeyKind::P256);
                let token = jwt(&format!("{task}-{n}"), Some(session_cnf(next.thumbprint())));
                client.replace_identity(identity(&next)).unwrap();
                tokens.write().await.push(token);
            }
            3 => {
                let current = client.identity().unwrap().thumbprint();
                tokens
                    .write()
                    .await
                    .push(jwt(&format!("{task}-{n}"), Some(session_cnf(current))));
            }
            _ => {}
        }
        let token = {
            let tokens = tokens.read().await;
            // The newest ones, most of the time.
            let back = dice.roll(3).min(tokens.len() as u64 - 1) as usize;
            tokens[tokens.len() - 1 - back].clone()
        };
        let method = if dice.roll(2) == 0 { "GET" } else { "POST" };
        let request = http::Request::builder()
            .method(method)
            .uri(format!("{}/{method}/{task}/{n}", server.origin()))
            .extension(token)
            .body(Full::new(Bytes::from_static(b"pay")))
            .unwrap();
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
            Some(Ok(())) => &tally.answered,
            Some(Err(e)) if e.may_have_been_processed() => &tally.may_have_been_processed,
            Some(Err(e)) => {
                assert!(
                    matches!(e.kind(), Kind::ConnectionLost | Kind::TlsHandshake | Kind::Connect),
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

async fn check_what_the_server_saw(lab: &Lab, hardening: Hardening, signatures: u64, opened: u64) {
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
        assert!(!is_post || posts.insert(seen.path.clone()), "{} ran twice", seen.path);
    }
    println!(
        "{hardening:?}: the server saw {} proofs on connections it had",
        pairs.len()
    );
    assert!(pairs.len() as u64 <= signatures, "more proofs than signatures");
    assert!(signatures > 1 && opened > 1);
}
