//! A bridge to the [`metrics`](https://docs.rs/metrics) facade: every event becomes
//! `bowline_client_…`.
//!
//! | metric | labels |
//! |---|---|
//! | `requests_total` | `protocol`, `operation`, `connection`, `binding`, `outcome` |
//! | `proofs_minted_total` | `protocol`, `kind`, `cause`, `after` |
//! | `proofs_reused_total`, `proofs_refused_total`, `proofs_abandoned_total` | `protocol` |
//! | `connections_opened_total` | `http`, `tls` |
//! | `connections_closed_total` | `reason` |
//! | `requests_per_connection`, `requests_per_proof`, `mint_seconds`, `handshake_seconds` | none (histograms) |
//!
//! Every label value comes from a fixed set in this crate's code; a label that does not apply is
//! `none`.

use ::metrics::{counter, histogram};

use crate::observe::{CloseReason, ConnectionUse, Event, Observer};

/// Give it to [`Builder::observer`](crate::Builder::observer) and install a recorder.
#[derive(Clone, Copy, Debug, Default)]
pub struct MetricsObserver;

const NONE: &str = "none";

impl Observer for MetricsObserver {
    fn event(&self, event: &Event<'_>) {
        match *event {
            Event::ConnectionOpened { facts, handshake } => {
                let tls = match facts.tls() {
                    Some(tls) if tls.is_resumed() => "resumed",
                    Some(_) => "full",
                    None => NONE,
                };
                counter!("bowline_client_connections_opened_total", "http" => facts.http().label(), "tls" => tls)
                    .increment(1);
                if let Some(handshake) = handshake {
                    histogram!("bowline_client_handshake_seconds").record(handshake);
                }
            }
            Event::ConnectionClosed {
                reason, requests, ..
            } => {
                counter!("bowline_client_connections_closed_total", "reason" => reason.label())
                    .increment(1);
                histogram!("bowline_client_requests_per_connection").record(requests as f64);
            }
            Event::ProofMinted {
                operation,
                kind,
                cause,
                after,
                took,
                ..
            } => {
                counter!(
                    "bowline_client_proofs_minted_total",
                    "protocol" => operation.protocol().label(),
                    "kind" => kind.label(),
                    "cause" => cause.label(),
                    "after" => after.map_or(NONE, CloseReason::label),
                )
                .increment(1);
                histogram!("bowline_client_mint_seconds").record(took);
            }
            Event::ProofReused { operation, .. } => {
                counter!("bowline_client_proofs_reused_total", "protocol" => operation.protocol().label()).increment(1);
            }
            Event::ProofRefused { operation, .. } => {
                counter!("bowline_client_proofs_refused_total", "protocol" => operation.protocol().label())
                    .increment(1);
            }
            Event::ProofAbandoned { operation, .. } => {
                counter!("bowline_client_proofs_abandoned_total", "protocol" => operation.protocol().label())
                    .increment(1);
            }
            Event::ProofRetired { requests, .. } => {
                histogram!("bowline_client_requests_per_proof").record(requests as f64);
            }
            Event::RequestFinished {
                operation,
                connection,
                binding,
                outcome,
                ..
            } => {
                counter!(
                    "bowline_client_requests_total",
                    "protocol" => operation.protocol().label(),
                    "operation" => operation.name(),
                    "connection" => connection.map_or(NONE, ConnectionUse::label),
                    "binding" => binding.label(),
                    "outcome" => outcome.label(),
                )
                .increment(1);
            }
        }
    }
}
