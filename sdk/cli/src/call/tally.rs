//! What was counted of all requests.

use std::collections::BTreeMap;
use std::time::Duration;

use bowline::Snapshot;
use bowline::client::Row;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::trace::millis;

/// The longest latency that is told apart, in microseconds: a day.
const LONGEST: u64 = 24 * 3600 * 1_000_000;

/// More kinds of errors than this are counted together.
const MAX_KINDS: usize = 10;

pub(super) struct Tally {
    pub(super) requests: u64,
    pub(super) by_status: BTreeMap<u16, u64>,
    /// Requests without a whole answer.
    pub(super) errors: u64,
    /// Answers that `--fail` takes for failures.
    pub(super) failed_answers: u64,
    /// Messages, with how often each was had.
    pub(super) messages: BTreeMap<String, u64>,
    /// In microseconds, of whole answers.
    latency: Histogram<u64>,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            requests: 0,
            by_status: BTreeMap::new(),
            errors: 0,
            failed_answers: 0,
            messages: BTreeMap::new(),
            latency: Histogram::new_with_bounds(1, LONGEST, 3).expect("bounds that are allowed"),
        }
    }

    pub(super) fn answered(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.latency.saturating_record(micros);
    }

    pub(super) fn message(&mut self, message: String) {
        if self.messages.len() < MAX_KINDS || self.messages.contains_key(&message) {
            *self.messages.entry(message).or_default() += 1;
        } else {
            *self.messages.entry("other errors".to_owned()).or_default() += 1;
        }
    }

    fn millis(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1000.0
    }

    pub(super) fn json(&self, client: &Snapshot) -> Value {
        let by_status: BTreeMap<String, u64> = self
            .by_status
            .iter()
            .map(|(status, count)| (status.to_string(), *count))
            .collect();
        json!({
            "requests": self.requests,
            "errors": self.errors,
            "by_status": by_status,
            "connections_opened": client.connections_opened,
            "connections_resumed": client.connections_resumed,
            "signatures": client.totals.signatures(),
            "proofs_reused": client.totals.reused,
            "causes": causes(&client.totals),
            "latency_ms": { "p50": self.millis(0.5), "p99": self.millis(0.99) },
        })
    }

    /// The same for people.
    pub(super) fn summary(&self, client: &Snapshot) -> String {
        let list = |items: Vec<String>| match items.is_empty() {
            true => String::new(),
            false => format!(" ({})", items.join(", ")),
        };
        let statuses = self.by_status.iter();
        let statuses = statuses.map(|(status, count)| format!("{count} x {status}"));
        let causes = causes(&client.totals).into_iter();
        let causes = causes.map(|(cause, count)| format!("{cause} {count}"));
        let time = |quantile| millis(Duration::from_secs_f64(self.millis(quantile) / 1000.0));
        format!(
            "{} requests{}, {} errors; {} connections opened, {} of them resumed; \
             {} signatures{}, {} proofs reused; p50 {}, p99 {}",
            self.requests,
            list(statuses.collect()),
            self.errors,
            client.connections_opened,
            client.connections_resumed,
            client.totals.signatures(),
            list(causes.collect()),
            client.totals.reused,
            time(0.5),
            time(0.99),
        )
    }
}

fn causes(totals: &Row) -> BTreeMap<&'static str, u64> {
    let causes = totals.causes.iter();
    causes
        .map(|(cause, count)| (cause.label(), *count))
        .collect()
}

#[cfg(test)]
mod tests;
