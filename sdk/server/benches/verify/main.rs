//! What one verification costs: `cargo bench -p bowline-server --bench verify`.
//!
//! Each figure is one call of the real `BindingService` around a service that answers at once and
//! with a validator that answers at once, so it includes everything that the layer does with a
//! request: finding token, proof and facts, all of RS-1..RS-13, and the `VerifiedBinding`
//! extension. It does not include: TLS, HTTP parsing, validation of the token (RS-2), and the
//! construction of the request, which happens before the clock starts. `baseline` is the same call
//! without the layer: mostly what it costs to drop a request. `…_vs_cached` divides the figures as
//! they are, `….net` after taking `baseline` off both.
//!
//! | figure | a request with |
//! |---|---|
//! | `cached` | a reusable proof that passed before on this connection |
//! | `full` | a reusable proof that is new (ES256) |
//! | `request` | a proof with `jti`, `htm` and `htu` (ES256) |
//! | `dpop` | a DPoP proof (ES256), without nonces, replay store in this process |
//! | `bearer` | a bearer token and no proof |
//!
//! One process, one thread, rounds interleaved, medians of rounds. Prints `name value` lines and
//! writes `target/bench/verify.json`.

mod fixture;
#[path = "../../tests/it/pki.rs"]
#[expect(dead_code, reason = "shared with the tests, which use more of it")]
mod pki;

use std::hint::black_box;
use std::time::{Duration, Instant};

use bowline_server::BindingClass;
use http::{Request, Response};
use tower::Service;

use self::fixture::{Fixture, poll_now};

/// An `OK` at once.
#[derive(Clone)]
struct Inner;

impl Service<Request<()>> for Inner {
    type Response = Response<()>;
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<Response<()>, Self::Error>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        black_box(&request);
        std::future::ready(Ok(Response::new(())))
    }
}

/// A round of each takes about a millisecond, so that other load on the machine affects all of them
/// alike.
const ROUNDS: usize = 301;

/// Few enough requests are constructed before the clock starts that they are still in the
/// processor's caches, like a request that was just parsed.
const BATCH: usize = 20;

/// One measurement: its name, how many calls a round has, and what makes its requests.
struct Measurement<'a> {
    name: &'static str,
    calls: usize,
    request: Box<dyn FnMut() -> Request<()> + 'a>,
    rounds: Vec<f64>,
}

fn main() {
    let fixture = Fixture::new();
    let mut service = fixture.service(Inner);
    let mut bare = Inner;
    let measurement = |name, calls, request| Measurement {
        name,
        calls,
        request,
        rounds: Vec::new(),
    };
    let mut measurements = [
        measurement(
            "baseline",
            2_000,
            Box::new(|| fixture.cached()) as Box<dyn FnMut() -> _>,
        ),
        measurement("cached", 2_000, Box::new(|| fixture.cached())),
        measurement("bearer", 2_000, Box::new(|| fixture.bearer())),
        measurement("full", 20, Box::new(|| fixture.never_seen())),
        measurement("request", 20, Box::new(|| fixture.for_one_request())),
        measurement("dpop", 20, Box::new(|| fixture.dpop())),
    ];
    for _ in 0..ROUNDS {
        for measurement in &mut measurements {
            let mut took = Duration::ZERO;
            for _ in 0..measurement.calls / BATCH {
                let requests: Vec<_> = (0..BATCH).map(|_| (measurement.request)()).collect();
                took += match measurement.name {
                    "baseline" => time(&mut bare, requests, None),
                    name => time(&mut service, requests, Some(expected(name))),
                };
            }
            measurement
                .rounds
                .push(took.as_nanos() as f64 / measurement.calls as f64);
        }
    }
    let figures = measurements.map(|measurement| {
        (
            format!("{}.ns", measurement.name),
            median(measurement.rounds),
        )
    });
    let of = |name: &str| {
        figures
            .iter()
            .find(|(known, _)| known == name)
            .expect("measured")
            .1
    };
    let ratio = |name: &str| {
        (
            format!("{name}_vs_cached"),
            of(&format!("{name}.ns")) / of("cached.ns"),
        )
    };
    let net = |name: &str| {
        let added = |name: &str| of(&format!("{name}.ns")) - of("baseline.ns");
        (
            format!("{name}_vs_cached.net"),
            added(name) / added("cached"),
        )
    };
    let ratios = ["full", "request", "dpop"].map(|name| [ratio(name), net(name)]);
    report(
        figures
            .iter()
            .cloned()
            .chain(ratios.into_iter().flatten())
            .collect(),
    );
}

fn expected(name: &str) -> BindingClass {
    match name {
        "dpop" => BindingClass::Dpop,
        "bearer" => BindingClass::Bearer,
        _ => BindingClass::Session,
    }
}

/// Every request must pass, with the right class: see `Fixture::service`.
fn time<S>(service: &mut S, requests: Vec<Request<()>>, class: Option<BindingClass>) -> Duration
where
    S: Service<Request<()>, Response = Response<()>>,
    S::Error: std::fmt::Debug,
{
    let before = fixture::verified();
    let calls = requests.len() as u64;
    let begun = Instant::now();
    for request in requests {
        let response = poll_now(service.call(request)).expect("infallible");
        assert_eq!(black_box(response).status(), 200);
    }
    let took = begun.elapsed();
    if let Some(class) = class {
        assert_eq!(fixture::verified() - before, calls, "not all passed");
        assert_eq!(fixture::last_class(), class);
    }
    took
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[expect(clippy::print_stdout, reason = "it is what a bench is for")]
fn report(figures: Vec<(String, f64)>) {
    for (name, value) in &figures {
        println!("verify.{name} {value:.1}");
    }
    let json: serde_json::Map<_, _> = figures
        .into_iter()
        .map(|(name, value)| {
            (
                format!("verify.{name}"),
                ((value * 10.0).round() / 10.0).into(),
            )
        })
        .collect();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/bench");
    std::fs::create_dir_all(folder).expect("target/ can be written");
    let json = serde_json::to_string_pretty(&json).expect("numbers");
    std::fs::write(format!("{folder}/verify.json"), json).expect("target/ can be written");
}
