//! Compares this transport with rmcp's stock client, which uses reqwest: both run every situation
//! against the same scripted server.
//!
//! [`exchanges`] lists single requests, [`sessions`] whole sessions. Where the outcomes differ, the
//! list has the stock client's outcome and the reason why ours is better.

mod exchanges;
pub(crate) mod fixture;
mod outcome;
mod sessions;

/// How our outcome compares with the stock client's.
#[derive(Clone, Copy)]
pub(crate) enum Verdict {
    Same,
    Better {
        /// The stock client's outcome.
        stock: &'static str,
        why: &'static str,
    },
}

use Verdict::{Better, Same};

/// The two outcomes of a situation.
struct Comparison {
    name: &'static str,
    expected: &'static str,
    verdict: Verdict,
    stock: String,
    ours: String,
}

#[tokio::test]
async fn every_situation_has_the_outcome_of_rmcp_s_stock_client_or_a_better_one() {
    let mut compared = exchanges::run_all().await;
    compared.extend(sessions::run_all().await);
    assert!(compared.len() >= 40);
    compare(&compared);
}

/// Prints the list, and fails if an outcome is not what the list says.
#[allow(
    clippy::print_stdout,
    reason = "a list to be read: cargo test -p bowline-mcp parity -- --nocapture"
)]
fn compare(compared: &[Comparison]) {
    let mut wrong = Vec::new();
    for (number, row) in compared.iter().enumerate() {
        let Comparison {
            name, stock, ours, ..
        } = row;
        let is_as_listed = match row.verdict {
            Same => ours == row.expected && stock == row.expected,
            Better { stock: listed, .. } => {
                ours == row.expected && stock == listed && listed != row.expected
            }
        };
        println!("{:3}  {name}\n       {ours}", number + 1);
        match row.verdict {
            Same => println!("       same"),
            Better { why, .. } => println!("       stock: {stock}\n       better: {why}"),
        }
        if !is_as_listed {
            wrong.push(format!(
                "{name}\n  listed: {}\n  ours:   {ours}\n  stock:  {stock}",
                row.expected
            ));
        }
    }
    let same = compared
        .iter()
        .filter(|row| matches!(row.verdict, Same))
        .count();
    println!(
        "{} situations: {same} the same, {} better",
        compared.len(),
        compared.len() - same
    );
    assert!(wrong.is_empty(), "not as listed:\n{}", wrong.join("\n"));
}
