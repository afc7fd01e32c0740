//! What becomes of a situation: rmcp's stock client, over reqwest, and this transport side by side,
//! against the same script.
//!
//! [`exchanges`] is the list of single requests, [`sessions`] that of whole sessions, both meant to
//! be read. Where the outcomes differ, the list says what the stock client makes of it and why ours
//! is better.

mod exchanges;
mod outcome;
mod sessions;
pub(crate) mod stage;

/// How our outcome compares with the stock client's.
#[derive(Clone, Copy)]
pub(crate) enum Verdict {
    Same,
    Better {
        /// What the stock client makes of it.
        stock: &'static str,
        why: &'static str,
    },
}

use Verdict::{Better, Same};

/// A situation that was acted out twice.
struct Acted {
    name: &'static str,
    expected: &'static str,
    verdict: Verdict,
    stock: String,
    ours: String,
}

#[tokio::test]
async fn every_situation_comes_to_the_same_as_with_rmcp_s_stock_client_or_to_something_better() {
    let mut acted = exchanges::act_out().await;
    acted.extend(sessions::act_out().await);
    assert!(acted.len() >= 40);
    compare(&acted);
}

/// Prints the list, and fails if an outcome is not what the list says.
#[allow(
    clippy::print_stdout,
    reason = "a list to be read: cargo test -p bowline-mcp parity -- --nocapture"
)]
fn compare(acted: &[Acted]) {
    let mut wrong = Vec::new();
    for (number, row) in acted.iter().enumerate() {
        let Acted {
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
    let same = acted
        .iter()
        .filter(|row| matches!(row.verdict, Same))
        .count();
    println!(
        "{} situations: {same} the same, {} better",
        acted.len(),
        acted.len() - same
    );
    assert!(wrong.is_empty(), "not as listed:\n{}", wrong.join("\n"));
}
