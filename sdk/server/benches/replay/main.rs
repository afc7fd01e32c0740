//! What a replay store in Redis adds to a request with DPoP:
//! `cargo bench -p bowline-server --features redis --bench replay`. The program `redis-server` must
//! be installed.
//!
//! As in `verify`, each figure is a call of the real `BindingService` around a service, and with a
//! validator, that answer at once.
//!
//! | figure | a request with |
//! |---|---|
//! | `memory` | a DPoP proof (ES256), replay store in this process |
//! | `unix`, `tcp` | the same, store in a Redis on this machine, over its Unix socket or loopback |
//! | `session` | a session-binding proof with `jti`, `htm` and `htu`, which needs no store (RS-9), where `unix` is set up |
//! | `session_memory` | the same, where `memory` is |
//!
//! `….us`: one request at a time, medians of rounds that are interleaved. `….per_second`: 64 at a
//! time. Signing the proofs is not in the figures.

#[path = "../verify/fixture.rs"]
#[expect(dead_code, reason = "shared with the bench `verify`")]
mod fixture;
#[path = "../../tests/it/pki.rs"]
#[expect(dead_code, reason = "shared with the tests, which use more of it")]
mod pki;

use std::convert::Infallible;
use std::time::{Duration, Instant};

use bowline_server::{
    BindingService, Dpop, MemoryReplayStore, NodeSecrets, RedisReplayStore, RedisServer,
};
use bowline_testkit::net::free_port;
use bowline_testkit::peers::Redis;
use futures_util::future::join_all;
use http::{Request, Response};
use tower::{Service, service_fn};

use self::fixture::{FixedTokens, Fixture};

const ROUNDS: usize = 101;
const BATCH: usize = 20;
const AT_A_TIME: usize = 64;
const MANY: usize = 60;

type Answer = fn(Request<()>) -> std::future::Ready<Result<Response<()>, Infallible>>;
type Checked = BindingService<tower::util::ServiceFn<Answer>, FixedTokens>;

struct Measurement {
    name: &'static str,
    service: Checked,
    is_dpop: bool,
    rounds: Vec<f64>,
    per_second: f64,
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let port = free_port().to_string();
    let redis = Redis::start(&["--port", &port]);
    let fixture = Fixture::new();
    let service = |dpop: Dpop| -> Checked {
        let inner: Answer = |_| std::future::ready(Ok(Response::new(())));
        fixture.service_with(service_fn(inner), dpop)
    };
    let in_redis = |url: &str| {
        let secrets = NodeSecrets::new([[7; 32]]).expect("one secret");
        let server = RedisServer::new(url).expect("an address");
        let store = RedisReplayStore::builder(server, secrets)
            .command_timeout(Duration::from_secs(10))
            .start();
        Dpop::new(runtime.block_on(store).expect("a Redis"))
    };
    let in_memory = || Dpop::new(MemoryReplayStore::default());
    let tcp = format!("redis://127.0.0.1:{port}");
    let measurement = |name, dpop, is_dpop| Measurement {
        name,
        service: service(dpop),
        is_dpop,
        rounds: Vec::new(),
        per_second: 0.0,
    };
    let mut measurements = [
        measurement("memory", in_memory(), true),
        measurement("unix", in_redis(&redis.url()), true),
        measurement("tcp", in_redis(&tcp), true),
        measurement("session_memory", in_memory(), false),
        measurement("session", in_redis(&redis.url()), false),
    ];
    for _ in 0..ROUNDS {
        for measurement in &mut measurements {
            let took = runtime.block_on(one_by_one(
                measurement,
                requests(&fixture, measurement, BATCH),
            ));
            measurement
                .rounds
                .push(took.as_secs_f64() * 1e6 / BATCH as f64);
        }
    }
    for measurement in &mut measurements {
        let requests = requests(&fixture, measurement, AT_A_TIME * MANY);
        let took = runtime.block_on(many_at_a_time(measurement, requests));
        measurement.per_second = (AT_A_TIME * MANY) as f64 / took.as_secs_f64();
    }
    report(&measurements);
}

fn requests(fixture: &Fixture, measurement: &Measurement, count: usize) -> Vec<Request<()>> {
    let request = || match measurement.is_dpop {
        true => fixture.dpop(),
        false => fixture.for_one_request(),
    };
    (0..count).map(|_| request()).collect()
}

async fn one_by_one(measurement: &mut Measurement, requests: Vec<Request<()>>) -> Duration {
    let begun = Instant::now();
    for request in requests {
        let Ok(response) = measurement.service.call(request).await;
        assert_eq!(response.status(), 200, "{}", measurement.name);
    }
    begun.elapsed()
}

async fn many_at_a_time(measurement: &mut Measurement, requests: Vec<Request<()>>) -> Duration {
    let mut requests = requests.into_iter();
    let begun = Instant::now();
    for _ in 0..MANY {
        let calls: Vec<_> = requests
            .by_ref()
            .take(AT_A_TIME)
            .map(|request| measurement.service.call(request))
            .collect();
        for answer in join_all(calls).await {
            let Ok(response) = answer;
            assert_eq!(response.status(), 200, "{}", measurement.name);
        }
    }
    begun.elapsed()
}

#[expect(clippy::print_stdout, reason = "it is what a bench is for")]
fn report(measurements: &[Measurement]) {
    let median = |measurement: &Measurement| {
        let mut rounds = measurement.rounds.clone();
        rounds.sort_by(f64::total_cmp);
        rounds[rounds.len() / 2]
    };
    let mut figures = Vec::new();
    for measurement in measurements {
        figures.push((format!("{}.us", measurement.name), median(measurement)));
        let per_second = (
            format!("{}.per_second", measurement.name),
            measurement.per_second,
        );
        figures.push(per_second);
    }
    let of = |name: &str| {
        let found = measurements.iter().find(|found| found.name == name);
        median(found.expect("measured"))
    };
    for (name, with, without) in [
        ("unix_vs_memory", "unix", "memory"),
        ("tcp_vs_memory", "tcp", "memory"),
        ("session_vs_session_memory", "session", "session_memory"),
    ] {
        figures.push((name.to_owned(), of(with) / of(without)));
    }
    for (name, value) in &figures {
        println!("replay.{name} {value:.2}");
    }
    let json: serde_json::Map<_, _> = figures
        .into_iter()
        .map(|(name, value)| {
            (
                format!("replay.{name}"),
                ((value * 100.0).round() / 100.0).into(),
            )
        })
        .collect();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/bench");
    std::fs::create_dir_all(folder).expect("target/ can be written");
    let json = serde_json::to_string_pretty(&json).expect("numbers");
    std::fs::write(format!("{folder}/replay.json"), json).expect("target/ can be written");
}
