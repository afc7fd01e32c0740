//! The agent whose calls are measured: one client, one protocol.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use crate::contender::Contender;
use crate::fixture::Fixture;
use crate::scenario::{Protocol, Scenario};
use crate::upstream::Upstream;
use crate::{Result, a2a, mcp};

pub(crate) enum Agent {
    Mcp(mcp::Agent),
    A2a(a2a::Agent),
}

impl Agent {
    pub(crate) async fn connect(
        fixture: &Fixture,
        upstream: &Upstream,
        scenario: Scenario,
        contender: Contender,
    ) -> Result<Self> {
        Ok(match scenario.protocol() {
            Protocol::Mcp => Self::Mcp(mcp::Agent::connect(fixture, upstream, contender).await?),
            Protocol::A2a(binding) => {
                Self::A2a(a2a::Agent::connect(fixture, upstream, binding, contender).await?)
            }
        })
    }

    pub(crate) async fn drive(&self, calls: Calls<'_>) -> Measured {
        match self {
            Self::Mcp(agent) => agent.drive(calls).await,
            Self::A2a(agent) => agent.drive(calls).await,
        }
    }

    /// The counts of its client; empty for a stock client, which signs nothing.
    pub(crate) fn stats(&self) -> bowline_http_client::Snapshot {
        let http = match self {
            Self::Mcp(agent) => agent.http(),
            Self::A2a(agent) => agent.http(),
        };
        http.map(bowline_http_client::Client::stats)
            .unwrap_or_default()
    }

    pub(crate) async fn close(self) {
        if let Self::Mcp(agent) = self {
            agent.close().await;
        }
    }
}

/// The calls that an agent makes in one run.
#[derive(Clone, Copy)]
pub(crate) struct Calls<'a> {
    pub(crate) scenario: Scenario,
    pub(crate) number: u32,
    pub(crate) progress: &'a ProgressBar,
}

/// The results of the calls.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub(crate) errors: u64,
    latencies: Vec<Duration>,
}

impl Measured {
    /// Adds one call, or one step of a long task, that began then.
    pub(crate) fn add(&mut self, began: Instant, is_correct: bool) {
        self.latencies.push(began.elapsed());
        self.errors += u64::from(!is_correct);
    }

    /// In milliseconds; nearest rank.
    pub(crate) fn percentile(&self, p: f64) -> f64 {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let rank = (p * sorted.len() as f64).ceil() as usize;
        let latency = sorted
            .get(rank.saturating_sub(1))
            .copied()
            .unwrap_or_default();
        latency.as_secs_f64() * 1000.0
    }
}
