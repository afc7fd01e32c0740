//! How the service is: for `/readyz`, `/stats` and the metrics.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use metrics::{counter, gauge};
use serde_json::{Map, Value, json};

use super::access::InFlight;
use super::metric_names::MetricNames;

pub(super) struct Status {
    metrics: &'static MetricNames,
    ready: AtomicBool,
    begun: Instant,
    begun_at: SystemTime,
    in_flight: OnceLock<Arc<InFlight>>,
    reloads: AtomicU64,
    refused_reloads: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What the service says of its configuration.
    about: Map<String, Value>,
    /// Why the last reload was refused, until one succeeds.
    refused: Option<String>,
}

impl Status {
    pub(super) fn new(metrics: &'static MetricNames) -> Self {
        Self {
            metrics,
            ready: AtomicBool::new(false),
            begun: Instant::now(),
            begun_at: SystemTime::now(),
            in_flight: OnceLock::new(),
            reloads: AtomicU64::new(0),
            refused_reloads: AtomicU64::new(0),
            state: Mutex::default(),
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    pub(super) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Release);
        gauge!(self.metrics.ready).set(if ready { 1.0 } else { 0.0 });
    }

    /// It serves.
    pub(super) fn began(&self, about: Map<String, Value>, in_flight: Arc<InFlight>) {
        // It begins once.
        let _ = self.in_flight.set(in_flight);
        self.note(about);
        self.set_ready(true);
    }

    pub(super) fn reloaded(&self, about: Map<String, Value>) {
        self.note(about);
        self.reloads.fetch_add(1, Ordering::Relaxed);
        counter!(self.metrics.reloads, "outcome" => "done").increment(1);
    }

    pub(super) fn not_reloaded(&self, reason: String) {
        self.state().refused = Some(reason);
        self.refused_reloads.fetch_add(1, Ordering::Relaxed);
        counter!(self.metrics.reloads, "outcome" => "refused").increment(1);
        gauge!(self.metrics.configuration_refused).set(1.0);
    }

    fn note(&self, about: Map<String, Value>) {
        gauge!(self.metrics.configuration_refused).set(0.0);
        *self.state() = State {
            about,
            refused: None,
        };
    }

    /// For `/stats`, without the metrics.
    pub(super) fn describe(&self) -> Value {
        let state = self.state();
        let begun_at = self.begun_at.duration_since(UNIX_EPOCH);
        let mut all = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "ready": self.is_ready(),
            "started_at": begun_at.map_or(0, |time| time.as_secs()),
            "uptime_seconds": self.begun.elapsed().as_secs(),
            "requests_in_flight": self.in_flight.get().map_or(0, |requests| requests.now()),
            "reloads": {
                "done": self.reloads.load(Ordering::Relaxed),
                "refused": self.refused_reloads.load(Ordering::Relaxed),
                "last_refusal": state.refused,
            },
        });
        if let Value::Object(all) = &mut all {
            all.extend(state.about.clone());
        }
        all
    }

    /// Poisoning is ignored: the state is replaced as a whole.
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
