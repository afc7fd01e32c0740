//! Two runs of the script side by side: what differs, and the table.

use std::fmt::Write;

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
pub(crate) fn assert_expected(played: &[Vec<Row>; 3], expected: &[(&str, &str)], exceptions: &[Exception]) {
    for (binding, rows) in BINDINGS.iter().zip(played) {
        let told: Vec<_> = rows.iter().map(|row| (row.call(), &*row.outcome)).collect();
        let exception = |call: &str| exceptions.iter().find(|e| e.binding == *binding && e.call == call);
        let expected = expected.iter().map(|(call, outcome)| {
            let exception = exception(call).map(|exception| exception.outcome);
            ((*call).to_owned(), exception.unwrap_or(outcome))
        });
        assert_eq!(told, expected.collect::<Vec<_>>(), "{binding}");
    }
}

/// Fails unless ours get what the stock transports get, call by call and in full, except where `better` has it otherwise; and
/// has each of those.
pub(crate) fn assert_as_good(stock: &[Vec<Row>; 3], ours: &[Vec<Row>; 3], better: &[Exception]) {
    for (binding, (stock, ours)) in BINDINGS.iter().zip(stock.iter().zip(ours)) {
        let of_binding = || better.iter().filter(|better| better.binding == *binding);
        let mut told = differences(stock, ours);
        for better in of_binding() {
            let is_better = ours
                .iter()
                .any(|row| row.call() == better.call && row.outcome == better.outcome);
            let differs = told.iter().position(|told| told.lines().next() == Some(better.call));
            let differs = differs.filter(|_| is_better);
            let at = differs.unwrap_or_else(|| panic!("{better:?} is not so: {}", told.join("\n")));
            told.remove(at);
        }
        assert!(told.is_empty(), "{binding}: {}", told.join("\n"));
    }
}

/// One table of Markdown. The outcome is the first binding's; a binding's column says `same` if it is the same there over
/// both transports, or else what it is. Below it, why.
pub(crate) fn table(stock: &[Vec<Row>; 3], ours: &[Vec<Row>; 3], exceptions: &[&[Exception]]) -> String {
    let mut table = "| call | outcome |".to_owned();
    BINDINGS.iter().for_each(|binding| {
        let _ = write!(table, " {binding} |");
    });
    table.push_str("\n|---|---|---|---|---|\n");
    for (at, first) in stock[0].iter().enumerate() {
        let _ = write!(table, "| {} | {} |", first.call(), cell(&first.outcome));
        for (stock, ours) in stock.iter().zip(ours) {
            let (stock, ours) = (&stock[at], &ours[at]);
            let _ = match () {
                () if stock != ours => write!(
                    table,
                    " **stock** {}, **ours** {} |",
                    cell(&stock.outcome),
                    cell(&ours.outcome)
                ),
                () if stock.outcome == first.outcome => write!(table, " same |"),
                () => write!(table, " same: {} |", cell(&stock.outcome)),
            };
        }
        table.push('\n');
    }
    table.push('\n');
    for exception in exceptions.iter().copied().flatten() {
        let _ = writeln!(table, "- {}, {}: {}", exception.binding, exception.call, exception.why);
    }
    table
}

fn calls(rows: &[Row]) -> Vec<String> {
    rows.iter().map(Row::call).collect()
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', "\\n")
}
