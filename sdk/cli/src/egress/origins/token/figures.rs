//! What the token source of an origin does, as metrics.
//!
//! Each label is the configured origin, or comes from a fixed set in the code. There is nothing of a
//! token in them but when it expires.

use std::time::{SystemTime, UNIX_EPOCH};

use bowline::token::{Event, Observer};
use metrics::{Counter, counter, gauge};

use crate::egress::names::HostPort;

const OBTAINED: &str = "bowline_egress_token_obtained_timestamp_seconds";
const EXPIRES: &str = "bowline_egress_token_expires_timestamp_seconds";

pub(super) struct Figures {
    origin: String,
    given: Counter,
    refused: Counter,
    /// Whether there is one token at a time, and not one for each caller's.
    is_one: bool,
}

impl Figures {
    pub(super) fn new(origin: &HostPort, is_one: bool) -> Self {
        let origin = origin.to_string();
        Self {
            given: counter!("bowline_egress_tokens_given_total", "origin" => origin.clone()),
            refused: counter!("bowline_egress_tokens_refused_total", "origin" => origin.clone()),
            is_one,
            origin,
        }
    }

    /// The source is not in use any more, and so there is no token.
    pub(super) fn forget(&self) {
        self.set_times(None, None);
    }

    /// What is not known is no number. Before the first token there is no gauge: it would be 0.
    fn set_times(&self, obtained: Option<SystemTime>, expires: Option<SystemTime>) {
        if self.is_one {
            for (name, time) in [(OBTAINED, obtained), (EXPIRES, expires)] {
                gauge!(name, "origin" => self.origin.clone()).set(time.map_or(f64::NAN, seconds));
            }
        }
    }

    fn note_request(&self, reason: &'static str, outcome: &'static str) {
        counter!(
            "bowline_egress_token_requests_total",
            "origin" => self.origin.clone(), "reason" => reason, "outcome" => outcome
        )
        .increment(1);
    }
}

impl Observer for Figures {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::Obtained {
                reason,
                is_new,
                expires_at,
            } => {
                let outcome = if *is_new { "obtained" } else { "unchanged" };
                self.note_request(reason.label(), outcome);
                if *is_new {
                    self.set_times(Some(SystemTime::now()), *expires_at);
                }
            }
            Event::Failed { reason, error } => {
                self.note_request(reason.label(), error.kind().label());
            }
            Event::HandedOut => self.given.increment(1),
            Event::NotHandedOut(error) => counter!(
                "bowline_egress_tokens_missing_total",
                "origin" => self.origin.clone(), "kind" => error.kind().label()
            )
            .increment(1),
            Event::Refused => self.refused.increment(1),
            _ => {}
        }
    }
}

/// Whole ones, as tokens have them.
fn seconds(time: SystemTime) -> f64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs() as f64
}
