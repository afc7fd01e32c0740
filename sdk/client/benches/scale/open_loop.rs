//! Latency when requests arrive at a fixed rate, whether the ones before have been answered or not.
//! It counts from the time at which a request was to arrive, so a stall counts for all that should
//! have been sent meanwhile (no coordinated omission).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::common::callers::{Bowline, Caller, Reqwest};
use crate::common::child::ServerProcess;
use crate::common::figures::{Figures, progress, quantile};
use crate::common::fixture::{Fixture, Http};
use crate::common::options::Options;
use crate::common::rounds::{Contender, Length, race};
use crate::common::server::Settings;

/// Tasks that find the capacity, each with one request after the other.
const TASKS: usize = 32;

pub(crate) async fn measure(options: &Options, figures: &mut Figures, fixture: &Fixture) {
    for http in Http::BOTH {
        let part = format!("{}.open_loop", http.name());
        if !options.wants(&part) {
            continue;
        }
        progress(&part);
        let server = ServerProcess::start(&fixture.server(), Settings::new(http));
        let client = fixture.client().bowline(http).build().expect("a client");
        let bowline = Bowline::new(client.clone(), &server.origin, &fixture.session_bound());
        let length = Length {
            rounds: 1,
            turn: options.pick(Duration::from_secs(3), Duration::from_millis(200)),
        };
        let mut closed_loop = [Contender::new("", vec![bowline.clone(); TASKS])];
        let capacity = race(&mut closed_loop, length).await[0][0].per_second;
        figures.record(format!("{part}.capacity"), capacity);
        let credentials = fixture.client();
        let reqwest = Reqwest::bearer(&credentials, http, &server.origin, &fixture.bearer());
        let time = options.pick(Duration::from_secs(10), Duration::from_millis(500));
        for percent in [30, 70] {
            let load = Load {
                rate: capacity * f64::from(percent) / 100.0,
                time,
            };
            let measured = [
                ("bowline", load.latencies(&bowline).await),
                ("reqwest", load.latencies(&reqwest).await),
            ];
            for (name, share) in [("p50", 0.5), ("p99", 0.99), ("p999", 0.999)] {
                let micros = measured.each_ref().map(|(who, latencies)| {
                    let micros = quantile(latencies, share).as_secs_f64() * 1e6;
                    figures.record(
                        format!("{part}.at{percent}.{who}.{name}_microseconds"),
                        micros,
                    );
                    micros
                });
                let [ours, theirs] = micros;
                figures.record(
                    format!("{part}.at{percent}.{name}.vs_reqwest"),
                    ours / theirs,
                );
            }
        }
        figures.record(
            format!("{part}.connections"),
            client.stats().connections_opened as f64,
        );
    }
}

/// So many requests a second, for so long.
#[derive(Clone, Copy)]
struct Load {
    rate: f64,
    time: Duration,
}

impl Load {
    /// The latencies, the shortest first.
    async fn latencies(self, caller: &(impl Caller + Clone + Sync)) -> Vec<Duration> {
        let number = (self.rate * self.time.as_secs_f64()) as usize;
        let caller = caller.clone();
        let runtime = tokio::runtime::Handle::current();
        // A thread of its own: a task's timer has a resolution of a millisecond.
        let arrivals = std::thread::spawn(move || arrive(&runtime, &caller, self.rate, number));
        let arrivals = tokio::task::spawn_blocking(move || arrivals.join());
        let waiting = arrivals.await.expect("a thread").expect("arrivals");
        let mut latencies = waiting.all(number).await;
        latencies.sort();
        latencies
    }
}

/// The latencies in nanoseconds; zero before the answer.
struct Latencies(Arc<[AtomicU64]>);

/// Starts each request at its time.
fn arrive(
    runtime: &tokio::runtime::Handle,
    caller: &(impl Caller + Clone),
    rate: f64,
    number: usize,
) -> Latencies {
    let latencies: Arc<[AtomicU64]> = (0..number).map(|_| AtomicU64::new(0)).collect();
    let start = Instant::now();
    for index in 0..number {
        let intended = start + Duration::from_secs_f64(index as f64 / rate);
        let early = intended.saturating_duration_since(Instant::now());
        if early > Duration::ZERO {
            std::thread::sleep(early);
        }
        let (latencies, mut caller) = (latencies.clone(), caller.clone());
        runtime.spawn(async move {
            caller.call().await;
            let latency = intended.elapsed().as_nanos() as u64;
            latencies[index].store(latency.max(1), Ordering::Relaxed);
        });
    }
    Latencies(latencies)
}

impl Latencies {
    /// Waits for the last answers.
    async fn all(&self, number: usize) -> Vec<Duration> {
        const LIMIT: Duration = Duration::from_secs(60);
        let given_up = Instant::now() + LIMIT;
        loop {
            let latencies: Vec<_> = self
                .0
                .iter()
                .map(|latency| latency.load(Ordering::Relaxed))
                .filter(|latency| *latency > 0)
                .map(Duration::from_nanos)
                .collect();
            if latencies.len() == number {
                return latencies;
            }
            assert!(
                Instant::now() < given_up,
                "{} of {number} answers after {LIMIT:?}",
                latencies.len()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
