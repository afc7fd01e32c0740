//! The agent whose calls are measured: one client, one way to talk.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use crate::contender::Contender;
use crate::scenario::{Scenario, Talk};
use crate::upstream::Upstream;
use crate::world::World;
use crate::{Result, a2a, mcp};

pub(crate) enum Agent {
    Mcp(mcp::Agent),
    A2a(a2a::Agent),
}

impl Agent {
    pub(crate) async fn connect(
        world: &World,
        upstream: &Upstream,
        scenario: Scenario,
        contender: Contender,
    ) -> Result<Self> {
        Ok(match scenario.talk() {
            Talk::Mcp => Self::Mcp(mcp::Agent::connect(world, upstream, contender).await?),
            Talk::A2a(binding) => {
                Self::A2a(a2a::Agent::connect(world, upstream, binding, contender).await?)
            }
        })
    }

    pub(crate) async fn drive(
        &self,
        scenario: Scenario,
        calls: u32,
        progress: &ProgressBar,
    ) -> Driven {
        match self {
            Self::Mcp(agent) => agent.drive(scenario, calls, progress).await,
            Self::A2a(agent) => agent.drive(scenario, calls, progress).await,
        }
    }

    /// What its client counted; nothing if that is a stock client, which signs nothing.
    pub(crate) fn stats(&self) -> bowline_client::Snapshot {
        let http = match self {
            Self::Mcp(agent) => agent.http(),
            Self::A2a(agent) => agent.http(),
        };
        http.map(bowline_client::Client::stats).unwrap_or_default()
    }

    pub(crate) async fn leave(self) {
        if let Self::Mcp(agent) = self {
            agent.leave().await;
        }
    }
}

/// What the calls came to.
#[derive(Debug, Default)]
pub(crate) struct Driven {
    pub(crate) errors: u64,
    latencies: Vec<Duration>,
}

impl Driven {
    /// One call, or one step of a long one, that began then and went as it should, or did not.
    pub(crate) fn add(&mut self, began: Instant, is_right: bool) {
        self.latencies.push(began.elapsed());
        self.errors += u64::from(!is_right);
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
