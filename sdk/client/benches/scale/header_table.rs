//! Bytes of a warm HTTP/2 request when several tokens take turns: HPACK's table holds some of their
//! proofs only. On one connection, and kept apart over several.

use crate::common::callers::{Bowline, Caller};
use crate::common::crowd;
use crate::common::figures::{Figures, progress};
use crate::common::fixture::{Fixture, Http};
use crate::common::options::Options;
use crate::common::server::{Server, Settings};

pub(crate) async fn measure(options: &Options, figures: &mut Figures, fixture: &Fixture) {
    let part = "h2.bytes";
    if !options.wants(part) {
        return;
    }
    progress(part);
    let bearer = bytes(options, fixture, 1, 1, Binding::Bearer).await;
    figures.record(format!("{part}.bearer"), bearer);
    for tokens in 1..=20 {
        let all = bytes(options, fixture, tokens, 1, Binding::Session).await;
        figures.record(format!("{part}.tokens{tokens}.proof_adds"), all - bearer);
    }
    for connections in [2, 3, 4] {
        for tokens in [8, 10, 14, 20] {
            let all = bytes(options, fixture, tokens, connections, Binding::Session).await;
            let name = format!("{part}.tokens{tokens}.apart{connections}.proof_adds");
            figures.record(name, all - bearer);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Binding {
    Bearer,
    Session,
}

/// Bytes per request, TLS records included; each token stays with one of the connections. A client
/// for each connection keeps them apart.
async fn bytes(
    options: &Options,
    fixture: &Fixture,
    tokens: usize,
    connections: usize,
    binding: Binding,
) -> f64 {
    let server = Server::start(&fixture.server(), Settings::new(Http::H2));
    let certificate = fixture.agent.thumbprint();
    let token = |number| match binding {
        Binding::Bearer => "b".repeat(crowd::token(certificate, number).len()),
        Binding::Session => crowd::token(certificate, number),
    };
    let mut callers: Vec<_> = (0..connections)
        .map(|connection| {
            let client = fixture.client().bowline(Http::H2).build();
            let tokens: Vec<_> = (connection..tokens)
                .step_by(connections)
                .map(token)
                .collect();
            Bowline::with_tokens(client.expect("a client"), &server.origin, &tokens)
        })
        .collect();
    // The first request of each token costs more, and so do the SETTINGS: they are not counted.
    let turns = options.pick(100, 10);
    let mut before = 0;
    for turn in 0..=turns {
        for number in 0..tokens {
            callers[number % connections].call().await;
        }
        if turn == 0 {
            before = server.received();
        }
    }
    (server.received() - before) as f64 / (turns * tokens) as f64
}
