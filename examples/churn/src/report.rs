//! One table, and the same as JSON.

use std::collections::BTreeMap;

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};
use serde::Serialize;

use crate::theft::Attack;

#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) runs: Vec<Row>,
}

/// One run. `requests` and connections are as the server saw them.
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
    pub(crate) per_request_claims: u64,
    pub(crate) replay_accepted: bool,
    pub(crate) other_certificate: Attack,
    pub(crate) same_certificate: Attack,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

const HEAD: [&str; 12] = [
    "scenario",
    "client",
    "requests",
    "errors",
    "connections\nfull+resumed",
    "signatures",
    "by cause",
    "re-proof\nratio",
    "per-request\nclaims",
    "p50/p99\nms",
    "stolen, other\ncertificate",
    "stolen, same\ncertificate",
];

impl Report {
    #[allow(clippy::print_stdout, reason = "the table is what this program is for")]
    pub(crate) fn print(&self) {
        println!("{}", self.table());
        println!(
            "requests, connections and per-request claims as the server saw them; signatures as the client made them.\n\
             re-proof ratio: (parallel + reconnect) / requests that carried a proof. RS-n: the check that refused\n\
             (wire profile). Bearer has no proof: the token alone was stolen."
        );
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table
            .load_style(UTF8_HORIZONTAL_ONLY)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(HEAD);
        let mut last = "";
        for row in &self.runs {
            table.add_row(row.cells(row.scenario != last));
            last = row.scenario;
        }
        for column in [2, 3, 4, 5, 7, 8, 9] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }
}

impl Row {
    fn cells(&self, names_scenario: bool) -> Vec<Cell> {
        let causes: Vec<String> = self.causes.iter().map(|(cause, n)| format!("{cause} {n}")).collect();
        let full = self.connections_opened - self.connections_resumed;
        [
            if names_scenario { self.scenario.to_owned() } else { String::new() },
            self.client.to_owned(),
            self.requests.to_string(),
            self.errors.to_string(),
            format!("{full}+{}", self.connections_resumed),
            self.signatures.to_string(),
            causes.join("\n"),
            format!("{:.3}", self.reproof_ratio),
            self.per_request_claims.to_string(),
            format!("{:.1}/{:.1}", self.p50_ms, self.p99_ms),
            show(&self.other_certificate),
            show(&self.same_certificate),
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
