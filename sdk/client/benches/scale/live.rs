//! Many live connections: the memory of each, and what it costs the pool to look at them all.

use std::time::Duration;

use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};

use crate::common::callers::{Bowline, Caller, unlimited};
use crate::common::child::{self, Child, ServerProcess};
use crate::common::figures::{Figures, progress, resident_bytes};
use crate::common::fixture::{Credentials, Fixture, Http};
use crate::common::options::Options;
use crate::common::rounds::processor_time;
use crate::common::runtime;
use crate::common::server::Settings;

pub(crate) const CLIENT: &str = "scale-live";

/// The job of a client process.
#[derive(Serialize, Deserialize)]
struct Job {
    credentials: Credentials,
    http: Http,
    /// One of all connections, or one for each.
    origins: Vec<String>,
    connections: usize,
    token: String,
    seconds: f64,
}

/// What a client process measured.
#[derive(Serialize, Deserialize)]
struct Measured {
    resident_per_connection: f64,
    /// Microseconds of processor time.
    tick: f64,
}

pub(crate) fn measure(options: &Options, figures: &mut Figures, fixture: &Fixture) {
    // Besides the connections: the listener's, the runtime's.
    let most = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1024) as usize;
    for http in Http::BOTH {
        for (name, with_origins) in [("connections", false), ("origins", true)] {
            let sizes: &[usize] = match with_origins {
                false => options.pick(&[1, 1000, 10_000], &[1, 10]),
                true => options.pick(&[1, 100, 1000], &[1, 10]),
            };
            for &connections in sizes {
                let part = format!("{}.live.{name}.{connections}", http.name());
                if !options.wants(&part) {
                    continue;
                }
                progress(&part);
                let needed = connections + if with_origins { connections } else { 0 } + 100;
                if needed > most {
                    progress(format_args!(
                        "{part} needs {needed} file descriptors and the limit is {most}: left out"
                    ));
                    figures.note(part, format!("left out: {most} file descriptors"));
                    continue;
                }
                let settings = Settings {
                    // So that HTTP/2 needs that many connections as well.
                    streams: 1,
                    ..Settings::new(http)
                };
                let origins = if with_origins { connections } else { 1 };
                let server = ServerProcess::with_origins(&fixture.server(), settings, origins);
                let job = Job {
                    credentials: fixture.client(),
                    http,
                    origins: server.origins.clone(),
                    connections,
                    token: fixture.bearer(),
                    seconds: options.pick(4.0, 0.3),
                };
                let answer = Child::start(CLIENT, &job).answer();
                let measured: Measured = serde_json::from_str(&answer).expect("a measurement");
                if connections > 1 {
                    figures.record(
                        format!("{part}.resident_bytes_per_connection"),
                        measured.resident_per_connection,
                    );
                }
                figures.record(format!("{part}.tick_microseconds"), measured.tick);
            }
        }
    }
}

/// A client process.
pub(crate) fn run_client() {
    rlimit::increase_nofile_limit(u64::MAX).expect("file descriptors");
    let job: Job = child::job();
    let measured = runtime().block_on(async {
        let resident_per_connection = job.resident().await;
        let tick = job.tick().await;
        Measured {
            resident_per_connection,
            tick,
        }
    });
    child::answer(serde_json::to_string(&measured).expect("JSON"));
    // The connections are not closed one by one.
    std::process::exit(0);
}

impl Job {
    fn caller(&self, idle: Duration) -> Bowline {
        let mut limits = unlimited(self.connections + 1);
        limits.idle = idle;
        let client = self.credentials.bowline(self.http).limits(limits).build();
        let first = self.origins.first().expect("an origin");
        Bowline::new(client.expect("a client"), first, &self.token)
    }

    /// Holds a response on each connection.
    async fn hold(&self, caller: &Bowline) -> Vec<bowline_http_client::Body> {
        let mut held = Vec::with_capacity(self.connections);
        for origin in self.origins.iter().cycle().take(self.connections) {
            held.push(caller.at(origin).hold().await);
        }
        held
    }

    /// Resident bytes of each connection, idle.
    async fn resident(&self) -> f64 {
        let mut caller = self.caller(Duration::from_secs(3600));
        // The first connection sets up what all share; it is not counted.
        caller.call().await;
        caller.call().await;
        let before = resident_bytes();
        // Twice: the buffers of a connection have their size after the first request. And the first
        // requests of HTTP/2 connections may share one before its stream limit is known.
        let mut turns = 0;
        let opened = || caller.client.stats().connections_opened as usize;
        while turns < 2 || opened() < self.connections {
            for body in self.hold(&caller).await {
                body.collect().await.expect("a whole body");
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
            turns += 1;
        }
        let opened = caller.client.stats().connections_opened as usize;
        (resident_bytes() - before) / (opened.max(2) - 1) as f64
    }

    /// The processor time of one look at all connections, when the pool has no other work: all are
    /// in use, so the pool looks once in each idle time.
    async fn tick(&self) -> f64 {
        const IDLE: Duration = Duration::from_millis(40);
        let caller = self.caller(IDLE);
        let held = self.hold(&caller).await;
        // The pool begins to look when a connection becomes idle for the first time.
        caller.clone().call().await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let before = processor_time();
        tokio::time::sleep(Duration::from_secs_f64(self.seconds)).await;
        let spent = processor_time().saturating_sub(before).as_secs_f64();
        drop(held);
        spent * 1e6 / (self.seconds / IDLE.as_secs_f64())
    }
}
