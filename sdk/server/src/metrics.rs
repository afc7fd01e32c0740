//! A bridge to the [`metrics`](https://docs.rs/metrics) facade: every event becomes
//! `bowline_server_…`.
//!
//! | metric | labels |
//! |---|---|
//! | `verifications_total` | `class`, `marked`, `proof` (`full`, `cached`, `none`) |
//! | `observed_total` | `outcome`, `check`, `id` |
//! | `refusals_total` | `check`, `id` |
//! | `unavailable_total` | none |
//! | `connections_opened_total` | `http`, `tls` |
//! | `connections_closed_total` | `reason` |
//! | `handshakes_failed_total` | `kind` |
//! | `limits_reached_total` | `limit`, `holder` |
//! | `handshake_seconds` | none (histogram) |
//! | `replay_store_reachable` | none (gauge: 1 while the Redis of a `RedisReplayStore` can be used, else 0) |
//!
//! Every label value comes from a fixed set in this crate's code.

use ::metrics::{counter, histogram};

use crate::{ServerEvent, ServerObserver};

/// Pass it to [`BindingLayer::observer`](crate::BindingLayer::observer) and to
/// [`Acceptor::observer`](crate::Acceptor::observer), and install a recorder.
#[derive(Clone, Copy, Debug, Default)]
pub struct MetricsObserver;

impl ServerObserver for MetricsObserver {
    fn observe(&self, event: &ServerEvent) {
        match *event {
            ServerEvent::Verified {
                class,
                marked,
                proof,
                cached,
                ..
            } => {
                let proof = match (proof, cached) {
                    (_, true) => "cached",
                    (true, false) => "full",
                    (false, false) => "none",
                };
                let marked = if marked { "true" } else { "false" };
                let labels = [
                    ("class", class.name()),
                    ("marked", marked),
                    ("proof", proof),
                ];
                counter!("bowline_server_verifications_total", &labels).increment(1);
            }
            ServerEvent::Observed { outcome, .. } => {
                let failed = outcome.check();
                let check = failed.map_or("none", |check| check.name());
                let id = failed.map_or("none", |check| check.id());
                let labels = [("outcome", outcome.name()), ("check", check), ("id", id)];
                counter!("bowline_server_observed_total", &labels).increment(1);
            }
            ServerEvent::Refused { check, .. } => refused(check.name(), check.id()),
            ServerEvent::DpopRefused { check, .. } => refused(check.name(), check.id()),
            ServerEvent::Unavailable { .. } => {
                counter!("bowline_server_unavailable_total").increment(1)
            }
            ServerEvent::ConnectionOpened {
                resumed, h2, took, ..
            } => {
                let http = if h2 { "h2" } else { "h1" };
                let tls = if resumed { "resumed" } else { "full" };
                counter!("bowline_server_connections_opened_total", "http" => http, "tls" => tls)
                    .increment(1);
                histogram!("bowline_server_handshake_seconds").record(took);
            }
            ServerEvent::ConnectionClosed { reason, .. } => {
                counter!("bowline_server_connections_closed_total", "reason" => reason.name())
                    .increment(1);
            }
            ServerEvent::LimitReached { limit, holder } => {
                let (limit, holder) = (limit.name(), holder.name());
                counter!("bowline_server_limits_reached_total", "limit" => limit, "holder" => holder)
                    .increment(1);
            }
            ServerEvent::HandshakeFailed { kind } => {
                counter!("bowline_server_handshakes_failed_total", "kind" => kind.name())
                    .increment(1);
            }
        }
    }
}

/// It is no event of a connection or a request, so no observer is asked.
#[cfg(feature = "redis")]
pub(crate) fn note_replay_store(is_reachable: bool) {
    let value = if is_reachable { 1.0 } else { 0.0 };
    ::metrics::gauge!("bowline_server_replay_store_reachable").set(value);
}

fn refused(check: &'static str, id: &'static str) {
    counter!("bowline_server_refusals_total", "check" => check, "id" => id).increment(1);
}
