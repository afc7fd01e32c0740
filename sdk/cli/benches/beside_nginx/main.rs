//! What the ingress costs beside nginx, in one run: `just beside-nginx [--quick]`.
//!
//! Both end mutual TLS on the first core and pass requests on, over HTTP/1.1 with kept connections, to the
//! same service on a Unix socket (another nginx that answers 100 bytes). The ingress verifies token and
//! proof of each request; nginx looks at neither. The load, a tool call of 200 bytes with a session-bound
//! token and its proof, comes from one program on the last core, and is the same for both; so is the
//! cipher suite, and each writes its access log. `direct` is nginx that answers by itself, to see what
//! the load and TLS cost alone.
//!
//! Turns are interleaved: each contender has one in each round. Rates are medians of the rounds, and a
//! ratio is the median of the rounds' ratios. A round in which other programs took more than a twentieth of the
//! machine's time does not count. Where the proxy's core is not busy all the time, the load
//! is the limit: then the processor time for each request says more than the rate.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench prints its figures and its progress"
)]

mod load;
mod proxies;
mod report;

use std::path::PathBuf;
use std::time::Duration;

use bowline_testkit::tls::Alpn;
use clap::Parser;
use load::{Agent, Turn};
use proxies::Proxies;

/// Measures, and prints a table.
#[derive(Parser)]
struct Options {
    /// Measure briefly, to see that it works. The figures then mean little.
    #[arg(long)]
    quick: bool,
    /// Count every round, whatever else the machine does.
    #[arg(long)]
    busy: bool,
    /// Write the table to this file, with date, machine and command; not with --quick.
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,
    /// cargo passes it to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

/// HTTP version, and requests at a time.
const PARTS: [(Alpn, usize); 4] = [
    (Alpn::Http1, 1),
    (Alpn::Http1, 32),
    (Alpn::Http2, 1),
    (Alpn::Http2, 32),
];

/// A round counts only if other programs had no more than this share of the machine.
const QUIET: f64 = 0.05;

struct Length {
    rounds: usize,
    turn: Duration,
    /// Whether rounds count in which the machine does other work.
    any: bool,
}

/// The turns of each contender, in the order of [`proxies::CONTENDERS`].
type Turns = Vec<Vec<Turn>>;

fn main() {
    let options = Options::parse();
    let (rounds, turn) = match options.quick {
        true => (3, Duration::from_millis(100)),
        false => (15, Duration::from_millis(400)),
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    proxies::pin_this_process(cores - 1);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let results = runtime.block_on(async {
        let agent = Agent::new();
        let proxies = Proxies::start(&agent, cores - 1).await;
        load::assert_alike(&agent, &proxies).await;
        let mut results = Vec::new();
        for (alpn, tasks) in PARTS {
            eprintln!("# {alpn:?}, {tasks} at a time: {rounds} rounds");
            let length = Length {
                rounds,
                turn,
                any: options.busy,
            };
            results.push(measure(&agent, &proxies, alpn, tasks, length).await);
        }
        proxies.assert_verified();
        results
    });
    let table = report::table(&results);
    println!("{table}");
    if let Some(file) = options.summary.filter(|_| !options.quick) {
        let whole = format!("{}{table}", report::head(rounds, turn));
        std::fs::write(&file, whole).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    }
}

async fn measure(
    agent: &Agent,
    proxies: &Proxies,
    alpn: Alpn,
    tasks: usize,
    length: Length,
) -> Turns {
    let Length { rounds, turn, any } = length;
    let mut contenders = Vec::new();
    for proxy in &proxies.all {
        let mut callers = load::callers(agent, proxy.port, alpn, tasks).await;
        // Warm: the proofs are verified, and the service's connections open.
        load::turn(&mut callers, proxy, turn).await;
        contenders.push((proxy, callers, Vec::new()));
    }
    let (mut round, mut disturbed) = (0, 0);
    while round < rounds {
        if !any {
            proxies.wait_until_quiet().await;
        }
        let before = proxies.machine();
        let mut of_this_round = Vec::new();
        for index in 0..contenders.len() {
            let at = (round + index) % contenders.len();
            let (proxy, callers, _) = &mut contenders[at];
            of_this_round.push((at, load::turn(callers, proxy, turn).await));
        }
        if !any && before.others_share(&proxies.machine()) > QUIET {
            disturbed += 1;
            continue;
        }
        for (at, turn) in of_this_round {
            contenders[at].2.push(turn);
        }
        round += 1;
    }
    eprintln!("# {disturbed} rounds left out: the machine did other work");
    contenders.into_iter().map(|(_, _, turns)| turns).collect()
}
