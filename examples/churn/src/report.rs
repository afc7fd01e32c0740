//! One table, and the same as JSON.

use std::collections::BTreeMap;

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, CellAlignment, ContentArrangement, LineStyle, Table};
use serde::Serialize;

use crate::attack::Attack;

#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) runs: Vec<Row>,
}

/// One run. Requests and connections are as the server counted them.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) scenario: &'static str,
    pub(crate) client: &'static str,
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    pub(crate) connections_opened: u64,
    pub(crate) connections_resumed: u64,
    pub(crate) signatures: u64,
    pub(crate) causes: BTreeMap<&'static str, u64>,
    pub(crate) reproof_ratio: f64,
    pub(crate) request_bound: u64,
    pub(crate) replay_accepted: bool,
    pub(crate) other_certificate: Attack,
    pub(crate) same_certificate: Attack,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

const HEAD: [&str; 13] = [
    "scenario",
    "client",
    "requests",
    "errors",
    "connections\nfull+resumed",
    "signa-\ntures",
    "re-proof\nratio",
    "per-req.\nclaims",
    "p50\nms",
    "p99\nms",
    "attacker, other\ncertificate",
    "attacker, same\ncertificate",
    "signatures\nby cause",
];

impl Report {
    #[allow(clippy::print_stdout, reason = "the table is what this program is for")]
    pub(crate) fn print(&self) {
        println!("{}", self.table());
        println!(
            "\nRequests, connections and per-request claims are as the server counted them; \
             signatures as the client made them.\n\
             Re-proof ratio: (parallel + reconnect) / requests that carried a proof.\n\
             Attacker: a stolen token and proof (bearer: the token alone) on a new connection; \
             RS-n (DPoP: DP-n) is the check that refused."
        );
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        let rule = LineStyle::none().fill('─').junction('─');
        let style = NOTHING.header_separator(rule);
        table
            .load_style(style)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(HEAD);
        let mut last = "";
        for row in &self.runs {
            table.add_row(row.cells(row.scenario != last));
            last = row.scenario;
        }
        for column in 2..=9 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }
}

impl Row {
    fn cells(&self, names_scenario: bool) -> Vec<Cell> {
        let causes: Vec<String> = self
            .causes
            .iter()
            .map(|(cause, n)| format!("{cause} {n}"))
            .collect();
        let full = self.connections_opened - self.connections_resumed;
        [
            if names_scenario {
                self.scenario.to_owned()
            } else {
                String::new()
            },
            self.client.to_owned(),
            self.requests.to_string(),
            self.errors.to_string(),
            format!("{full}+{}", self.connections_resumed),
            self.signatures.to_string(),
            format!("{:.3}", self.reproof_ratio),
            self.request_bound.to_string(),
            format!("{:.1}", self.p50_ms),
            format!("{:.1}", self.p99_ms),
            show(&self.other_certificate),
            show(&self.same_certificate),
            causes.join(", "),
        ]
        .map(Cell::new)
        .to_vec()
    }
}

fn show(attack: &Attack) -> String {
    match attack {
        Attack::Accepted => "ACCEPTED".to_owned(),
        Attack::Refused(check) => format!("refused {check}"),
    }
}
