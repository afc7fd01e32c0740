//! Requests per second: bowline and the clients that an application would use instead, each with
//! the same request.
//!
//! `cargo bench -p bowline-http-client --bench throughput`; `docs/src/benchmarks.md` says what it means.

mod common;

use std::time::Duration;

use bowline_http_client::Client;
use common::callers::{Bowline, Hyper, Reqwest};
use common::figures::{Figures, median, progress};
use common::fixture::{Fixture, Http};
use common::options::Options;
use common::rounds::{Contender, Length, Turn, assert_alike, race};
use common::server::{Server, Settings};

/// bowline's rate is compared with theirs.
const OTHERS: [&str; 4] = ["reqwest", "hyper", "reqwest_dpop", "bowline_dpop"];
const BOWLINE: &str = "bowline";

fn main() {
    let options = Options::from_command_line();
    let mut figures = Figures::new("throughput", &options);
    common::runtime().block_on(async {
        // On a worker thread like all other tasks: the thread of `block_on` is not one.
        let run = tokio::spawn(async move {
            measure(&options, &mut figures).await;
            figures
        });
        run.await.expect("the measurement").write();
    });
}

async fn measure(options: &Options, figures: &mut Figures) {
    let fixture = Fixture::new();
    let length = Length {
        rounds: options.pick(15, 3),
        turn: options.pick(Duration::from_millis(400), Duration::from_millis(60)),
    };
    figures.note("rounds", length.rounds);
    figures.note("milliseconds_per_turn", length.turn.as_millis() as u64);
    for verified in [false, true] {
        for http in Http::BOTH {
            for tasks in [1, 32] {
                let verification = if verified { ".verified" } else { "" };
                let part = format!("{}.c{tasks}{verification}", http.name());
                // A filter may also name a contender, followed by a dot: `h1.c32.bowline.`.
                let wanted = |name: &str| options.wants(&format!("{part}.{name}."));
                if !OTHERS.into_iter().chain([BOWLINE]).any(wanted) {
                    continue;
                }
                progress(format_args!("{part}: {} rounds", length.rounds));
                let credentials = fixture.server();
                let server = if verified {
                    Server::verifying(&fixture, &credentials, Settings::new(http))
                } else {
                    Server::start(&credentials, Settings::new(http))
                };
                let (mut contenders, clients) =
                    contenders(&fixture, http, tasks, &server.origin).await;
                assert_alike(&mut contenders).await;
                contenders.retain(|contender| wanted(contender.name));
                let turns = race(&mut contenders, length).await;
                for client in clients {
                    assert_connections(&client, http, tasks);
                }
                record(figures, &part, &contenders, &turns);
            }
        }
    }
}

/// Fails if bowline had more connections than the bare hyper: the comparison would not be fair.
fn assert_connections(client: &Client, http: Http, tasks: usize) {
    let opened = client.stats().connections_opened;
    let allowed = match http {
        Http::H1 => tasks as u64,
        Http::H2 => 1,
    };
    assert!(
        opened <= allowed,
        "{opened} connections instead of {allowed} at most"
    );
}

/// The contenders, and the clients of those that are bowline's.
async fn contenders(
    fixture: &Fixture,
    http: Http,
    tasks: usize,
    origin: &str,
) -> (Vec<Contender>, [Client; 2]) {
    let credentials = fixture.client();
    let (bearer, session, dpop) = (
        fixture.bearer(),
        fixture.session_bound(),
        fixture.dpop_bound(),
    );
    let reqwest = Reqwest::bearer(&credentials, http, origin, &bearer);
    let reqwest_dpop = Reqwest::dpop(&credentials, http, origin, &dpop, &fixture.dpop_key);
    let client = credentials.bowline(http).build().expect("a client");
    let bowline = Bowline::new(client, origin, &session);
    let client = credentials
        .bowline(http)
        .dpop_key(fixture.dpop_key.clone())
        .build();
    let bowline_dpop = Bowline::new(client.expect("a client"), origin, &dpop);
    // One connection that all tasks share if it is HTTP/2; HTTP/1.1 takes one request at a time, so
    // there it is one for each task, which is what the pools end up with, too.
    let tls = credentials.tls(http);
    let mut hyper: Vec<Hyper> = Vec::new();
    for _ in 0..tasks {
        let next = match hyper.first().and_then(Hyper::shared) {
            Some(shared) => shared,
            None => Hyper::connect(&tls, http, origin, &session, Some(&credentials)).await,
        };
        hyper.push(next);
    }
    let clients = [bowline.client.clone(), bowline_dpop.client.clone()];
    let contenders = vec![
        Contender::new("reqwest", (0..tasks).map(|_| reqwest.clone())),
        Contender::new("hyper", hyper),
        Contender::new(BOWLINE, (0..tasks).map(|_| bowline.clone())),
        Contender::new("reqwest_dpop", (0..tasks).map(|_| reqwest_dpop.clone())),
        Contender::new("bowline_dpop", (0..tasks).map(|_| bowline_dpop.clone())),
    ];
    (contenders, clients)
}

/// Rates are medians; a ratio is the median of the rounds' ratios, so that a disturbance of a whole
/// round does not count.
fn record(figures: &mut Figures, part: &str, contenders: &[Contender], turns: &[Vec<Turn>]) {
    let all =
        |turns: &[Turn], value: fn(&Turn) -> f64| turns.iter().map(value).collect::<Vec<f64>>();
    for (contender, turns) in contenders.iter().zip(turns) {
        let name = format!("{part}.{}", contender.name);
        figures.record(
            format!("{name}.per_second"),
            median(&all(turns, |turn| turn.per_second)),
        );
        figures.record(
            format!("{name}.processor_microseconds"),
            median(&all(turns, |turn| turn.processor)),
        );
    }
    let rates_of = |name: &str| {
        let index = contenders
            .iter()
            .position(|contender| contender.name == name)?;
        Some(all(&turns[index], |turn| turn.per_second))
    };
    for other in OTHERS {
        let (Some(own), Some(others)) = (rates_of(BOWLINE), rates_of(other)) else {
            continue;
        };
        let ratios: Vec<f64> = own
            .iter()
            .zip(others)
            .map(|(own, other)| own / other)
            .collect();
        let name = format!("{part}.vs_{other}");
        let lowest = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = ratios.iter().copied().fold(0.0, f64::max);
        figures.note(name.clone(), vec![lowest, highest]);
        figures.record(name, median(&ratios));
    }
}
