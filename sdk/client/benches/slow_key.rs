//! Whether a key that takes 300 ms to sign holds up requests that need no signature.
//!
//! `cargo bench -p bowline-http-client --bench slow_key`; `docs/src/benchmarks.md` says what it means.

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bowline_http_client::{Client, HttpVersions, Identity};
use common::callers::{Bowline, Caller};
use common::child::ServerProcess;
use common::figures::{Figures, median, progress, quantile};
use common::fixture::{Fixture, Http};
use common::options::Options;
use common::server::Settings;
use common::slow::{SIGNING_TAKES, Slow, SlowKey};

/// Tasks that send requests with a known proof, one after the other.
const TASKS: usize = 4;

fn main() {
    common::child::role();
    let options = Options::from_command_line();
    let mut figures = Figures::new("slow_key", &options);
    // One worker: if a signature blocked it, no other thread would serve the other requests.
    common::runtime_with(1).block_on(async {
        let run = tokio::spawn(async move {
            for http in Http::BOTH
                .into_iter()
                .filter(|http| options.wants(http.name()))
            {
                progress(http.name());
                measure(&options, &mut figures, http).await;
            }
            figures
        });
        run.await.expect("the measurement").write();
    });
}

/// The result of one turn.
struct Turn {
    p50: f64,
    p99: f64,
    signatures: u64,
}

async fn measure(options: &Options, figures: &mut Figures, http: Http) {
    let (rounds, length) = options.pick(
        (15, Duration::from_millis(1500)),
        (3, Duration::from_millis(700)),
    );
    let fixture = Fixture::new();
    let slow = Slow::default();
    let key = SlowKey {
        key: fixture.agent.signing_key(),
        slow: slow.clone(),
    };
    let identity = Identity::new(fixture.agent.chain(), Arc::new(key)).expect("a pair");
    // Either version is offered, for the server that needs the signatures speaks HTTP/1.1.
    let builder = fixture
        .client()
        .bowline(http)
        .http_versions(HttpVersions::Auto);
    let client = builder.identity(identity).build().expect("a client");
    let credentials = fixture.server();
    let server = ServerProcess::start(&credentials, Settings::new(http));
    // Each request is the only one of its connection, and no session is resumed: the key signs the
    // handshake, and then the proof.
    let signing = ServerProcess::start(
        &credentials,
        Settings {
            tickets: false,
            closes: true,
            ..Settings::new(Http::H1)
        },
    );
    let known = Bowline::new(client.clone(), &server.origin, &fixture.session_bound());
    let new = Bowline::new(client.clone(), &signing.origin, &fixture.session_bound());
    turn(&known, length).await;
    let (mut quiet, mut busy) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        for part in 0..2 {
            if (round + part) % 2 == 0 {
                quiet.push(turn(&known, length).await);
            } else {
                busy.push(turn_with_signing(&client, &slow, &known, &new, length).await);
            }
        }
    }
    record(figures, http.name(), &quiet, &busy);
}

async fn turn_with_signing(
    client: &Client,
    slow: &Slow,
    known: &Bowline,
    new: &Bowline,
    length: Duration,
) -> Turn {
    slow.is_slow.store(true, Ordering::Relaxed);
    let before = slow.signatures.load(Ordering::Relaxed);
    let minted = client.stats().totals.signatures();
    let mut new = new.clone();
    // One signature after the other, without a pause.
    let signing = tokio::spawn(async move {
        loop {
            new.call().await;
        }
    });
    let mut turn = turn(known, length).await;
    signing.abort();
    let _ = signing.await;
    turn.signatures = slow.signatures.load(Ordering::Relaxed) - before;
    assert!(
        client.stats().totals.signatures() > minted,
        "no proof was signed meanwhile"
    );
    // A signature in progress continues, and must not affect the next turn.
    tokio::time::sleep(2 * SIGNING_TAKES).await;
    slow.is_slow.store(false, Ordering::Relaxed);
    turn
}

/// How long requests with a known proof take, in microseconds.
async fn turn(known: &Bowline, length: Duration) -> Turn {
    let until = Instant::now() + length;
    let tasks: Vec<_> = std::iter::repeat_n(known, TASKS)
        .cloned()
        .map(|mut caller| {
            tokio::spawn(async move {
                let mut took = Vec::new();
                while Instant::now() < until {
                    let started = Instant::now();
                    caller.call().await;
                    took.push(started.elapsed());
                }
                took
            })
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.expect("a call failed"));
    }
    all.sort();
    let pace = quantile(&all, 0.5);
    let p50 = pace.as_secs_f64() * 1e6;
    let held_back = all
        .iter()
        .flat_map(|took| held_back(*took, pace))
        .collect::<Vec<_>>();
    all.extend(held_back);
    all.sort();
    Turn {
        p50,
        p99: quantile(&all, 0.99).as_secs_f64() * 1e6,
        signatures: 0,
    }
}

/// A slow request holds back those that its task would have sent meanwhile. They are delayed too:
/// without them one request of 300 ms among thousands would never show in a p99 ("coordinated
/// omission").
fn held_back(took: Duration, pace: Duration) -> impl Iterator<Item = Duration> {
    std::iter::successors(Some(took), move |rest| rest.checked_sub(pace)).skip(1)
}

fn record(figures: &mut Figures, http: &str, quiet: &[Turn], busy: &[Turn]) {
    let values =
        |turns: &[Turn], value: fn(&Turn) -> f64| turns.iter().map(value).collect::<Vec<_>>();
    for (name, value) in [
        ("p50", (|turn| turn.p50) as fn(&Turn) -> f64),
        ("p99", |turn| turn.p99),
    ] {
        let (quiet, busy) = (values(quiet, value), values(busy, value));
        let ratios: Vec<f64> = busy
            .iter()
            .zip(&quiet)
            .map(|(busy, quiet)| busy / quiet)
            .collect();
        figures.record(format!("{http}.{name}.quiet_microseconds"), median(&quiet));
        figures.record(format!("{http}.{name}.signing_microseconds"), median(&busy));
        figures.record(format!("{http}.{name}.signing_vs_quiet"), median(&ratios));
    }
    let signatures: Vec<f64> = values(busy, |turn| turn.signatures as f64);
    figures.record(format!("{http}.signatures_per_turn"), median(&signatures));
}
