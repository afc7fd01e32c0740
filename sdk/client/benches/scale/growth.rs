//! Processor time per request with one and with many, and what the default bounds on tokens do just
//! beyond them.

use std::time::Duration;

use crate::common::callers::{Bowline, Caller};
use crate::common::crowd::{self, Crowd, Many};
use crate::common::figures::{Figures, median, progress};
use crate::common::fixture::{Fixture, Http};
use crate::common::options::Options;
use crate::common::rounds::{Contender, Length, race};
use crate::common::server::{Server, Settings};

pub(crate) async fn measure(options: &Options, figures: &mut Figures, fixture: &Fixture) {
    let length = Length {
        rounds: options.pick(9, 3),
        turn: options.pick(Duration::from_millis(400), Duration::from_millis(60)),
    };
    for http in Http::BOTH {
        for many in Many::ALL {
            let part = format!("{}.processor.{}", http.name(), many.name());
            if !options.wants(&part) {
                continue;
            }
            progress(&part);
            let numbers: &[usize] = match many {
                Many::Origins => options.pick(&[1, 10, 100, 1000], &[1, 10]),
                Many::Connections | Many::Apart => options.pick(&[1, 8, 64], &[1, 8]),
                Many::Tokens | Many::Fields => options.pick(&[1, 1000, 100_000], &[1, 100]),
            };
            let settings = Settings {
                streams: many.streams(),
                ..Settings::new(http)
            };
            let most = numbers.iter().copied().max().unwrap_or(1);
            let servers: Vec<_> = (0..many.origins(most))
                .map(|_| Server::start(&fixture.server(), settings))
                .collect();
            let origins: Vec<_> = servers.iter().map(|s| s.origin.clone()).collect();
            let mut contenders = Vec::new();
            for &number in numbers {
                let origins = &origins[..many.origins(number)];
                let crowd = Crowd::warm(many, number, &fixture.client(), http, origins).await;
                contenders.push(Contender::new("", [crowd]));
            }
            let turns = race(&mut contenders, length).await;
            let alone: Vec<f64> = turns[0].iter().map(|turn| turn.processor).collect();
            for (number, turns) in numbers.iter().zip(&turns) {
                let times: Vec<f64> = turns.iter().map(|turn| turn.processor).collect();
                let ratios: Vec<f64> = times.iter().zip(&alone).map(|(a, b)| a / b).collect();
                figures.record(format!("{part}.{number}.microseconds"), median(&times));
                figures.record(format!("{part}.{number}.ratio"), median(&ratios));
            }
        }
    }
}

/// Signatures per request when one token more than the default bound takes turns on one connection;
/// the first turn, in which each token needs one, is not counted.
pub(crate) async fn beyond_the_bound(options: &Options, figures: &mut Figures, fixture: &Fixture) {
    const TURNS: usize = 3;
    let bound = bowline_http_client::Limits::default().proofs_per_connection;
    let certificate = fixture.agent.thumbprint();
    for more in [1, bound / 10] {
        let number = bound + more;
        let part = format!("signatures_per_request.tokens{number}");
        if !options.wants(&part) {
            continue;
        }
        progress(&part);
        let tokens: Vec<_> = (0..number).map(|n| crowd::token(certificate, n)).collect();
        let server = Server::start(&fixture.server(), Settings::new(Http::H1));
        let client = fixture.client().bowline(Http::H1).build();
        let client = client.expect("a client");
        let mut caller = Bowline::with_tokens(client.clone(), &server.origin, &tokens);
        for _ in 0..number {
            caller.call().await;
        }
        let before = client.stats().totals.signatures();
        for _ in 0..TURNS * number {
            caller.call().await;
        }
        let signed = client.stats().totals.signatures() - before;
        figures.record(part, signed as f64 / (TURNS * number) as f64);
    }
}
