//! Memory of a client for each idle connection, and for each token that it has proved on one.
//!
//! `cargo bench -p bowline-http-client --bench memory`; `docs/src/benchmarks.md` says what it means. The
//! server is another process, and each HTTP version has a client process of its own, so that
//! nothing else is counted.

mod common;

use std::alloc::System;

use common::callers::{Bowline, Caller, Hyper, unlimited};
use common::child::{Child, ServerProcess};
use common::figures::{Figures, progress, resident_bytes};
use common::fixture::{Credentials, Fixture, Http};
use common::options::Options;
use common::server::Settings;
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The job of a client process.
#[derive(Serialize, Deserialize)]
struct Job {
    credentials: Credentials,
    http: Http,
    origin: String,
    connections: usize,
    /// The first of them is a bearer token, to open the connections with.
    tokens: Vec<String>,
}

const BOWLINE: &str = "bowline";
const HYPER: &str = "hyper";

fn main() {
    if let Some(role) = common::child::role() {
        return run_client(&role);
    }
    let options = Options::from_command_line();
    let mut figures = Figures::new("memory", &options);
    let (connections, tokens) = options.pick((1000, 10), (100, 10));
    figures.record("connections", connections as f64);
    figures.record("tokens", tokens as f64);
    let fixture = common::runtime().block_on(async { Fixture::new() });
    for http in Http::BOTH {
        if !options.wants(http.name()) {
            continue;
        }
        progress(format_args!(
            "{}: {connections} connections, {tokens} tokens",
            http.name()
        ));
        let settings = Settings {
            // So that HTTP/2 needs that many connections as well.
            streams: 1,
            ..Settings::new(http)
        };
        let server = ServerProcess::start(&fixture.server(), settings);
        let job = Job {
            credentials: fixture.client(),
            http,
            origin: server.origin.clone(),
            connections,
            tokens: std::iter::once(fixture.bearer())
                .chain((0..tokens).map(|_| fixture.session_bound()))
                .collect(),
        };
        let name = http.name();
        let [before, opened] = measurements(&mut Child::start(HYPER, &job));
        let per_connection = opened.less(before).divided_by(connections);
        figures.record(
            format!("{name}.per_hyper_connection.live"),
            per_connection.live,
        );
        figures.record(
            format!("{name}.per_hyper_connection.resident"),
            per_connection.resident,
        );
        let [before, opened, proved] = measurements(&mut Child::start(BOWLINE, &job));
        let per_connection = opened.less(before).divided_by(connections);
        figures.record(format!("{name}.per_connection.live"), per_connection.live);
        figures.record(
            format!("{name}.per_connection.resident"),
            per_connection.resident,
        );
        let per_pair = proved.less(opened).divided_by(connections * tokens);
        figures.record(format!("{name}.per_pair.live"), per_pair.live);
        figures.record(format!("{name}.per_pair.resident"), per_pair.resident);
    }
    figures.write();
}

fn measurements<const N: usize>(child: &mut Child) -> [Memory; N] {
    let measured: Vec<Memory> = serde_json::from_str(&child.answer()).expect("measurements");
    measured
        .try_into()
        .unwrap_or_else(|_| panic!("not {N} measurements"))
}

/// Bytes in use.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Memory {
    /// Allocated and not freed.
    live: f64,
    /// Resident memory of the process: whole pages, including what the allocator keeps.
    resident: f64,
}

impl Memory {
    fn now() -> Self {
        let stats = ALLOCATOR.stats();
        Self {
            live: stats.bytes_allocated as f64 - stats.bytes_deallocated as f64,
            resident: resident_bytes(),
        }
    }

    fn less(self, other: Self) -> Self {
        Self {
            live: self.live - other.live,
            resident: self.resident - other.resident,
        }
    }

    fn divided_by(self, number: usize) -> Self {
        Self {
            live: self.live / number as f64,
            resident: self.resident / number as f64,
        }
    }
}

/// A client process.
fn run_client(role: &str) {
    rlimit::increase_nofile_limit(u64::MAX).expect("file descriptors");
    let job: Job = common::child::job();
    let measured = common::runtime().block_on(async {
        match role {
            HYPER => hyper(&job).await.to_vec(),
            _ => bowline(&job).await.to_vec(),
        }
    });
    common::child::answer(serde_json::to_string(&measured).expect("JSON"));
}

/// Bare connections, for comparison: before they are opened, and with all of them idle.
async fn hyper(job: &Job) -> [Memory; 2] {
    let bearer = job.tokens.first().expect("a bearer token");
    let tls = job.credentials.tls(job.http);
    let mut connections = Vec::with_capacity(job.connections + 1);
    let mut before = Memory::now();
    for _ in 0..=job.connections {
        let mut connection = Hyper::connect(&tls, job.http, &job.origin, bearer, None).await;
        connection.call().await;
        connection.call().await;
        if connections.is_empty() {
            before = Memory::now();
        }
        connections.push(connection);
    }
    [before, Memory::now()]
}

/// A client's memory before it opens connections, with all of them idle, and with all tokens proved
/// on all of them.
async fn bowline(job: &Job) -> [Memory; 3] {
    let Job {
        credentials,
        http,
        origin,
        connections,
        tokens,
    } = job;
    let (bearer, proved) = tokens.split_first().expect("a bearer token");
    let client = credentials
        .bowline(*http)
        .limits(unlimited(connections + 1))
        .build()
        .expect("a client");
    let caller = |token: &String| Bowline::new(client.clone(), origin, token);
    // The first connection sets up what all share; it is not counted.
    hold(&mut caller(bearer), 1).await;
    let before = Memory::now();
    // The first requests of HTTP/2 connections may share one before its stream limit is known.
    while client.stats().connections_opened <= *connections as u64 {
        hold(&mut caller(bearer), connections + 1).await;
    }
    // Once more: the buffers of a connection have their size after the first request.
    hold(&mut caller(bearer), connections + 1).await;
    let opened = Memory::now();
    for token in proved {
        hold(&mut caller(token), connections + 1).await;
    }
    let after = Memory::now();
    let stats = client.stats();
    assert_eq!(stats.connections_opened as usize, connections + 1);
    assert_eq!(
        stats.totals.signatures() as usize,
        (connections + 1) * proved.len()
    );
    [before, opened, after]
}

/// Sends this many requests, and reads no response before the last has arrived: each has a
/// connection of its own.
async fn hold(caller: &mut Bowline, number: usize) {
    let mut held = Vec::with_capacity(number);
    for _ in 0..number {
        held.push(caller.hold().await);
    }
    for body in held {
        body.collect().await.expect("a whole body");
    }
    // The connections return to the pool as soon as hyper has noticed the end of the responses.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
}
