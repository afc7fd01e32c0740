//! The reconnect-churn lab: how often a client must sign when the network ends its connections, and
//! whether a stolen token still works.
//!
//! Nothing is mocked, and everything runs on loopback: a development authorization server on mutual
//! TLS, an rmcp server or the official A2A server behind `BindingLayer`, and rmcp's or the official
//! A2A client over TLS. The result is one table.

mod a2a;
mod agent;
mod attack;
mod contender;
mod fixture;
mod mcp;
mod report;
mod run;
mod scenario;
mod upstream;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

use contender::Contender;
use fixture::Fixture;
use report::{Report, Row};
use scenario::{Load, Scenario};

/// Any error ends the program: no run can go on without its set-up.
type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Measures how often an agent must prove its access token again when its connections are cut, and
/// whether a stolen token still works elsewhere.
///
/// Each scenario is a server with its own way of ending connections, for MCP or for A2A. Each is
/// run with the protocol's stock client and a bearer token, then with bowline and a session-bound
/// token (one proof per connection, one per request, or both), then with DPoP. Afterwards an
/// attacker tries the stolen token and proof, once with their own certificate and once with the
/// victim's certificate on a second connection.
#[derive(Parser)]
#[command(name = "churn", version, max_term_width = 100)]
struct Options {
    /// Fewer calls: the whole table in under 15 seconds.
    #[arg(long)]
    quick: bool,

    /// Run only these scenarios (repeatable): warm-h2, warm-h1, idle, serverless, sse-h1, sse-h2,
    /// a2a-warm-jsonrpc, a2a-warm-rest, a2a-warm-grpc, a2a-long-task, a2a-mesh; or several at once:
    /// sse, a2a-warm, mcp, a2a.
    #[arg(long = "scenario", value_name = "NAME", value_parser = Scenario::parse)]
    scenarios: Vec<std::vec::Vec<Scenario>>,

    /// Calls per run. `idle` pauses between its calls and makes a fiftieth of them, at least five;
    /// `a2a-long-task` makes one, whose task sends a twentieth as many status updates, at least 25;
    /// `a2a-mesh` makes at least 500. [default: 1000, with --quick 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    requests: Option<u32>,

    /// Also write the figures to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[allow(clippy::print_stderr, reason = "a program reports its error on stderr")]
fn main() -> ExitCode {
    let options = Options::parse();
    match run_all(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("churn: {e}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run_all(options: Options) -> Result<()> {
    let load = Load::new(options.requests, options.quick);
    let scenarios = if options.scenarios.is_empty() {
        Scenario::ALL.to_vec()
    } else {
        options.scenarios.concat()
    };
    let fixture = Fixture::start()?;
    let calls: u32 = scenarios.iter().map(|s| load.calls(*s)).sum();
    let progress = progress_bar(u64::from(calls) * Contender::ALL.len() as u64);
    let mut report = Report::default();
    for scenario in scenarios {
        for contender in Contender::ALL {
            progress.set_message(format!(
                "{} · {}",
                scenario.name(),
                contender.name(scenario)
            ));
            let row: Row = run::one(
                &fixture,
                scenario,
                contender,
                load.calls(scenario),
                &progress,
            )
            .await
            .map_err(|e| {
                format!(
                    "{} with {} failed: {e}",
                    scenario.name(),
                    contender.name(scenario)
                )
            })?;
            report.runs.push(row);
        }
    }
    progress.finish_and_clear();
    report.print();
    if let Some(file) = &options.json {
        let json = serde_json::to_vec_pretty(&report)?;
        std::fs::write(file, json).map_err(|e| format!("cannot write {}: {e}", file.display()))?;
    }
    Ok(())
}

/// Shown on a terminal only; a pipe gets just the table.
fn progress_bar(calls: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:32} {bar:40} {pos}/{len} calls  {elapsed}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(calls).with_style(style)
}
