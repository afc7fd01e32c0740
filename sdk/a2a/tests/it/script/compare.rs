//! Two runs of the script side by side: what differs, and the table.

#![allow(clippy::print_stdout, reason = "the figures are there to be read")]

use std::fmt::Write;

use bowline_http_client::Snapshot;

use super::expected::Exception;
use super::row::Row;

/// The columns, in the order in which transports are given everywhere here.
pub(crate) const BINDINGS: [&str; 3] = ["JSONRPC", "HTTP+JSON", "GRPC"];

/// Each call whose outcome is another in `ours` than in `stock`, with both.
pub(crate) fn differences(stock: &[Row], ours: &[Row]) -> Vec<String> {
    assert!(!stock.is_empty(), "a script of no calls shows nothing");
    assert_eq!(calls(stock), calls(ours), "the script is the same for both");
    let pairs = stock.iter().zip(ours).filter(|(stock, ours)| stock != ours);
    pairs
        .map(|(stock, ours)| {
            format!(
                "{}\n  stock {}\n    {}\n  ours  {}\n    {}",
                stock.call(),
                stock.outcome,
                stock.answer,
                ours.outcome,
                ours.answer
            )
        })
        .collect()
}

/// Fails unless each binding's outcomes, in a few words, are as expected.
pub(crate) fn assert_expected(
    runs: &[Vec<Row>; 3],
    expected: &[(&str, &str)],
    exceptions: &[Exception],
) {
    for (binding, rows) in BINDINGS.iter().zip(runs) {
        let told: Vec<_> = rows.iter().map(|row| (row.call(), &*row.outcome)).collect();
        let exception = |call: &str| {
            exceptions
                .iter()
                .find(|e| e.binding == *binding && e.call == call)
        };
        let expected = expected.iter().map(|(call, outcome)| {
            let exception = exception(call).map(|exception| exception.outcome);
            ((*call).to_owned(), exception.unwrap_or(outcome))
        });
        assert_eq!(told, expected.collect::<Vec<_>>(), "{binding}");
    }
}

/// The script on one agent: over the stock transports, and over ours.
pub(crate) struct ScriptRun {
    pub(crate) agent: &'static str,
    pub(crate) stock: [Vec<Row>; 3],
    pub(crate) ours: [Vec<Row>; 3],
    /// What our client counted.
    pub(crate) stats: Snapshot,
}

impl ScriptRun {
    /// Fails unless ours get what the stock transports get, except where `better` has it otherwise;
    /// over one connection that all bindings share, and so with one proof (CL-3), which every
    /// request carries.
    pub(crate) fn check(&self, better: &[Exception]) {
        for (binding, (stock, ours)) in BINDINGS.iter().zip(self.stock.iter().zip(&self.ours)) {
            assert_as_good(binding, stock, ours, better);
        }
        let totals = &self.stats.totals;
        println!(
            "{}: {} requests of ours, {} connection(s), {} signature(s)",
            self.agent,
            totals.requests,
            self.stats.connections_opened,
            totals.signatures()
        );
        assert_eq!((self.stats.connections_opened, totals.signatures()), (1, 1));
        assert_eq!((totals.with_proof, totals.refused), (totals.requests, 0));
    }
}

/// Fails unless ours get what the stock transport gets, call by call and in full, except where
/// `better` has it otherwise for this binding; and has each of those.
pub(crate) fn assert_as_good(binding: &str, stock: &[Row], ours: &[Row], better: &[Exception]) {
    let mut told = differences(stock, ours);
    for better in better.iter().filter(|better| better.binding == binding) {
        let is_better = |row: &Row| row.call() == better.call && row.outcome == better.outcome;
        let at = told
            .iter()
            .position(|told| told.lines().next() == Some(better.call));
        let at = at.filter(|_| ours.iter().any(is_better));
        told.remove(at.unwrap_or_else(|| panic!("{better:?} is not so: {}", told.join("\n"))));
    }
    assert!(told.is_empty(), "{binding}: {}", told.join("\n"));
}

/// One table of Markdown. An agent's outcome is that in its first binding; a binding's column says
/// `same` if that is the outcome there too, and the same over the stock transport and over ours in
/// full. Below it, why a binding differs.
pub(crate) fn table(runs: &[&ScriptRun], exceptions: &[&Exception]) -> String {
    let (mut head, mut rule) = ("| call |".to_owned(), "|---|".to_owned());
    for runs in runs {
        let _ = write!(head, " {} | {} |", runs.agent, BINDINGS.join(" | "));
        rule.push_str("---|---|---|---|");
    }
    let mut table = format!("{head}\n{rule}\n");
    for (at, call) in calls(&runs[0].stock[0]).iter().enumerate() {
        let _ = write!(table, "| {call} |");
        for agent in runs {
            let outcome = &agent.stock[0][at].outcome;
            match std::ptr::eq(*agent, runs[0]) || *outcome != runs[0].stock[0][at].outcome {
                true => _ = write!(table, " {} |", cell(outcome)),
                false => table.push_str(" same |"),
            }
            for (stock, ours) in agent.stock.iter().zip(&agent.ours) {
                let (stock, ours) = (&stock[at], &ours[at]);
                let _ = match stock == ours {
                    false => write!(
                        table,
                        " stock: {}; **ours: {}** |",
                        cell(&stock.outcome),
                        cell(&ours.outcome)
                    ),
                    true if stock.outcome == *outcome => write!(table, " same |"),
                    true => write!(table, " same over both: {} |", cell(&stock.outcome)),
                };
            }
        }
        table.push('\n');
    }
    table.push('\n');
    let whys = exceptions.iter().map(|exception| {
        format!(
            "- {}, {}: {}\n",
            exception.binding, exception.call, exception.why
        )
    });
    let mut whys: Vec<_> = whys.collect();
    // Two agents may have one in common.
    whys.sort();
    whys.dedup();
    table + &whys.concat()
}

fn calls(rows: &[Row]) -> Vec<String> {
    rows.iter().map(Row::call).collect()
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', "\\n")
}
