//! The table, in Markdown.

use std::fmt::Write;
use std::time::Duration;

use super::{PARTS, Turns};
use crate::load::{Turn, latencies};
use crate::proxies::CONTENDERS;

pub(crate) fn head(rounds: usize, turn: Duration) -> String {
    let now = std::process::Command::new("date").arg("+%Y-%m-%d").output();
    let now = now.expect("date runs").stdout;
    format!(
        "# The ingress beside nginx\n\n\
         `just beside-nginx` on {}, {}; {}. {rounds} rounds, {} s for each contender in each. What is compared \
         is said in `sdk/cli/benches/beside_nginx/main.rs`.\n\n",
        String::from_utf8_lossy(&now).trim(),
        machine(),
        nginx_version(),
        turn.as_secs_f64(),
    )
}

pub(crate) fn table(results: &[Turns]) -> String {
    let mut text = String::from(
        "| HTTP, requests at a time | | requests a second | proxy's core busy | its processor time, µs a request | p50, µs | p99, µs |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for ((alpn, tasks), turns) in PARTS.iter().zip(results) {
        for (name, turns) in CONTENDERS.iter().zip(turns) {
            let _ = writeln!(
                text,
                "| {alpn:?}, {tasks} | {name} | {:.0} | {:.0} % | {:.1} | {:.0} | {:.0} |",
                median(turns.iter().map(Turn::per_second)),
                median(turns.iter().map(Turn::busy)) * 100.0,
                median(turns.iter().map(Turn::processor_micros)),
                quantile(turns, 0.5),
                quantile(turns, 0.99),
            );
        }
    }
    text.push_str(
        "\nThe ingress beside nginx:\n\n\
         | HTTP, requests at a time | throughput, ingress ÷ nginx (lowest and highest round) | processor time, ingress ÷ nginx | added p50, µs | added p99, µs |\n\
         |---|---|---|---|---|\n",
    );
    for ((alpn, tasks), turns) in PARTS.iter().zip(results) {
        let (nginx, ingress) = (&turns[1], &turns[2]);
        let ratios = |of: fn(&Turn) -> f64| {
            let pairs = ingress.iter().zip(nginx);
            pairs
                .map(|(ingress, nginx)| of(ingress) / of(nginx))
                .collect::<Vec<_>>()
        };
        let rates = ratios(Turn::per_second);
        let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
        let most = rates.iter().copied().fold(0.0, f64::max);
        let _ = writeln!(
            text,
            "| {alpn:?}, {tasks} | {:.2} ({least:.2} to {most:.2}) | {:.2} | {:+.0} | {:+.0} |",
            median(rates.into_iter()),
            median(ratios(Turn::processor_micros).into_iter()),
            quantile(ingress, 0.5) - quantile(nginx, 0.5),
            quantile(ingress, 0.99) - quantile(nginx, 0.99),
        );
    }
    text
}

/// In microseconds, over all turns.
fn quantile(turns: &[Turn], part: f64) -> f64 {
    let mut all = latencies();
    for turn in turns {
        all.add(&turn.latencies).expect("the same bounds");
    }
    all.value_at_quantile(part) as f64 / 1000.0
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn machine() -> String {
    let field = |file: &str, name: &str, sign: char| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_once(sign));
        value.map_or_else(String::new, |(_, value)| {
            value.trim().trim_matches('"').to_owned()
        })
    };
    let memory = field("/proc/meminfo", "MemTotal", ':');
    let kib: u64 = memory
        .split(' ')
        .next()
        .and_then(|kib| kib.parse().ok())
        .unwrap_or(0);
    format!(
        "{} cores ({}), {} GiB, {}",
        cores(),
        field("/proc/cpuinfo", "model name", ':'),
        (kib + 512 * 1024) / (1024 * 1024),
        field("/etc/os-release", "PRETTY_NAME", '='),
    )
}

/// Of the machine; this process may use one.
fn cores() -> usize {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    text.lines()
        .filter(|line| line.starts_with("processor"))
        .count()
}

fn nginx_version() -> String {
    let output = std::process::Command::new("nginx").arg("-v").output();
    let output = output.expect("nginx runs").stderr;
    let text = String::from_utf8_lossy(&output);
    text.trim()
        .rsplit(' ')
        .next()
        .unwrap_or_default()
        .to_owned()
}
