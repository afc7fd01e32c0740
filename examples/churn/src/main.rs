//! The reconnect-churn lab: what a network makes a client sign, and whether a stolen token is of use to its thief.
//!
//! Everything is real and on loopback: a dev authorization server on mutual TLS, an rmcp server behind
//! `BindingLayer`, rmcp clients over TLS. One table comes out.

mod contender;
mod report;
mod run;
mod scenario;
mod theft;
mod tools;
mod upstream;
mod world;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

use contender::Contender;
use report::{Report, Row};
use scenario::{Load, Scenario};
use world::World;

/// Any error ends the lab: there is nothing here that could go on without its set-up.
type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Measures how often an agent must prove its access token again when its connections are cut, and whether a stolen
/// token still works elsewhere.
///
/// Each scenario is a server with its own way of ending connections. Each is run with rmcp's stock client and a
/// bearer token, then with bowline and a session-bound token: one proof per connection, or one per request.
/// Afterwards a thief tries the stolen token and proof, once with a certificate of his own and once with the
/// victim's certificate on a second connection.
#[derive(Parser)]
#[command(name = "churn", version, max_term_width = 100)]
struct Options {
    /// Fewer calls: the whole table in under 15 seconds.
    #[arg(long)]
    quick: bool,

    /// Run only these scenarios (repeatable): warm-h2, warm-h1, idle, serverless, sse-h1, sse-h2, or sse for both.
    #[arg(long = "scenario", value_name = "NAME", value_parser = Scenario::parse)]
    scenarios: Vec<std::vec::Vec<Scenario>>,

    /// Tool calls per run. `idle` thinks between its calls and makes a fiftieth of them, at least five. [default:
    /// 1000, with --quick 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    requests: Option<u32>,

    /// Also write the figures to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[allow(clippy::print_stderr, reason = "a program's last word")]
fn main() -> ExitCode {
    let options = Options::parse();
    match lab(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("churn: {e}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn lab(options: Options) -> Result<()> {
    let load = Load::new(options.requests, options.quick);
    let scenarios = match options.scenarios.is_empty() {
        true => Scenario::ALL.to_vec(),
        false => options.scenarios.concat(),
    };
    let world = World::start()?;
    let calls: u32 = scenarios.iter().map(|s| load.calls(*s)).sum();
    let progress = progress_bar(u64::from(calls) * Contender::ALL.len() as u64);
    let mut report = Report::default();
    for scenario in scenarios {
        for contender in Contender::ALL {
            progress.set_message(format!("{} · {}", scenario.name(), contender.name()));
            let row: Row = run::one(&world, scenario, contender, load.calls(scenario), &progress)
                .await
                .map_err(|e| format!("{} with {} failed: {e}", scenario.name(), contender.name()))?;
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

/// On a terminal only: a pipe gets the table and nothing else.
fn progress_bar(calls: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:32} {bar:40} {pos}/{len} calls  {elapsed}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(calls).with_style(style)
}
