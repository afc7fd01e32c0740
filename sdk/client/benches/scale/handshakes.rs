//! New connections: handshakes a second, and the time from a new client to its first answer.

use std::time::{Duration, Instant};

use crate::common::callers::{Bowline, Caller, Hyper};
use crate::common::figures::{Figures, median, progress};
use crate::common::fixture::{Fixture, Http};
use crate::common::options::Options;
use crate::common::rounds::{Contender, Length, race};
use crate::common::server::{Server, Settings};

const TASKS: usize = 8;

/// Each request, with a bearer token, has a connection of its own, over HTTP/1.1: HTTP/2 has the
/// same handshake.
pub(crate) async fn measure(options: &Options, figures: &mut Figures, fixture: &Fixture) {
    let length = Length {
        rounds: options.pick(9, 3),
        turn: options.pick(Duration::from_millis(400), Duration::from_millis(60)),
    };
    if !options.wants("handshakes") {
        return;
    }
    progress("handshakes");
    let (mut servers, mut clients, mut contenders) = (Vec::new(), Vec::new(), Vec::new());
    for (name, tickets) in [("full", false), ("resumed", true)] {
        let settings = Settings {
            tickets,
            closes: true,
            ..Settings::new(Http::H1)
        };
        let server = Server::start(&fixture.server(), settings);
        let client = fixture.client().bowline(Http::H1).build();
        let client = client.expect("a client");
        let bowline = Bowline::new(client.clone(), &server.origin, &fixture.bearer());
        contenders.push(Contender::new(name, vec![bowline; TASKS]));
        servers.push(server);
        clients.push(client);
    }
    let turns = race(&mut contenders, length).await;
    for ((contender, client), turns) in contenders.iter().zip(&clients).zip(&turns) {
        let name = format!("handshakes.{}", contender.name);
        let of = |value: fn(&crate::common::rounds::Turn) -> f64| {
            median(&turns.iter().map(value).collect::<Vec<_>>())
        };
        figures.record(format!("{name}.per_second"), of(|turn| turn.per_second));
        figures.record(
            format!("{name}.processor_microseconds"),
            of(|turn| turn.processor),
        );
        let stats = client.stats();
        figures.record(
            format!("{name}.resumed_share"),
            stats.connections_resumed as f64 / stats.connections_opened as f64,
        );
    }
    let ratios: Vec<f64> = turns[0]
        .iter()
        .zip(&turns[1])
        .map(|(full, resumed)| resumed.processor / full.processor)
        .collect();
    figures.record("handshakes.resumed_vs_full", median(&ratios));
}

/// From nothing to the first answer: the client, its TLS configuration, the socket, the handshake,
/// the proof, and one request. Beside it the same with bare hyper.
pub(crate) async fn cold_start(options: &Options, figures: &mut Figures, fixture: &Fixture) {
    for http in Http::BOTH {
        let part = format!("{}.cold_start", http.name());
        if !options.wants(&part) {
            continue;
        }
        progress(&part);
        let server = Server::start(&fixture.server(), Settings::new(http));
        let (credentials, token) = (fixture.client(), fixture.session_bound());
        let (mut own, mut bare, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..options.pick(101, 5) {
            let started = Instant::now();
            let client = credentials.bowline(http).build().expect("a client");
            Bowline::new(client, &server.origin, &token).call().await;
            let bowline = started.elapsed().as_secs_f64() * 1e6;
            let started = Instant::now();
            let tls = credentials.tls(http);
            let connecting = Hyper::connect(&tls, http, &server.origin, &token, Some(&credentials));
            connecting.await.call().await;
            let hyper = started.elapsed().as_secs_f64() * 1e6;
            own.push(bowline);
            bare.push(hyper);
            ratios.push(bowline / hyper);
        }
        figures.record(format!("{part}.microseconds"), median(&own));
        figures.record(format!("{part}.hyper_microseconds"), median(&bare));
        figures.record(format!("{part}.vs_hyper"), median(&ratios));
    }
}
