//! One run: one client in one scenario, then the two attacks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use rmcp::ClientHandler;
use rmcp::model::CallToolRequestParams;
use rmcp::service::{NotificationContext, RoleClient};
use tokio::sync::Semaphore;

use crate::Result;
use crate::contender::{Connected, Contender};
use crate::report::Row;
use crate::scenario::Scenario;
use crate::theft;
use crate::upstream::Upstream;
use crate::world::World;

pub(crate) async fn one(
    world: &World,
    scenario: Scenario,
    contender: Contender,
    calls: u32,
    progress: &ProgressBar,
) -> Result<Row> {
    let upstream = Upstream::start(world, scenario).await?;
    let url = upstream.url();
    let agent = Agent::default();
    let events = agent.events.clone();
    let connected = contender.connect(world, &url, agent).await?;

    let mut driven = drive(&connected, scenario, calls, progress).await;
    if scenario.has_event_stream() && !arrived(&events).await {
        driven.errors += 1;
    }
    let stats = connected.stats().unwrap_or_default();
    let counts = upstream.counts();
    let per_request_claims = upstream.per_request_claims();

    let stolen = upstream.stolen();
    let other_certificate = theft::replay(world, &url, &world.thief, stolen.clone()).await?;
    let same_certificate = theft::replay(world, &url, &world.agent, stolen).await?;
    let _ = connected.mcp.cancel().await;

    Ok(Row {
        scenario: scenario.name(),
        client: contender.name(),
        requests: counts.requests,
        errors: driven.errors,
        connections_opened: counts.opened,
        connections_resumed: counts.resumed,
        signatures: stats.totals.signatures(),
        causes: stats
            .totals
            .causes
            .iter()
            .map(|(cause, n)| (cause.label(), *n))
            .collect(),
        reproof_ratio: stats.totals.reproof_ratio(),
        per_request_claims,
        replay_accepted: other_certificate.got_through() || same_certificate.got_through(),
        other_certificate,
        same_certificate,
        p50_ms: driven.percentile(0.50),
        p99_ms: driven.percentile(0.99),
    })
}

/// What the calls came to.
struct Driven {
    errors: u64,
    latencies: Vec<Duration>,
}

impl Driven {
    /// In milliseconds; nearest rank.
    fn percentile(&self, p: f64) -> f64 {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let rank = (p * sorted.len() as f64).ceil() as usize;
        let latency = sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default();
        latency.as_secs_f64() * 1000.0
    }
}

async fn drive(connected: &Connected<Agent>, scenario: Scenario, calls: u32, progress: &ProgressBar) -> Driven {
    let mut driven = Driven {
        errors: 0,
        latencies: Vec::with_capacity(calls as usize),
    };
    for call in 0..calls {
        if let Some(think_time) = scenario.think_time().filter(|_| call > 0) {
            tokio::time::sleep(think_time).await;
        }
        let text = format!("call {call}");
        let arguments = serde_json::Map::from_iter([("text".to_owned(), text.clone().into())]);
        let started = Instant::now();
        let result = connected
            .mcp
            .call_tool(CallToolRequestParams::new("echo").with_arguments(arguments))
            .await;
        driven.latencies.push(started.elapsed());
        let answered = result.is_ok_and(|result| {
            let content = result.content.first().and_then(|content| content.as_text());
            content.is_some_and(|content| content.text == text)
        });
        driven.errors += u64::from(!answered);
        progress.inc(1);
    }
    driven
}

/// The agent's side of the event stream.
#[derive(Clone)]
struct Agent {
    /// A permit for each event.
    events: Arc<Semaphore>,
}

impl Default for Agent {
    fn default() -> Self {
        Self {
            events: Arc::new(Semaphore::new(0)),
        }
    }
}

impl ClientHandler for Agent {
    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.events.add_permits(1);
    }
}

/// Whether the event stream has carried anything: the last event may still be on its way.
async fn arrived(events: &Semaphore) -> bool {
    let first = tokio::time::timeout(Duration::from_secs(2), events.acquire());
    first.await.is_ok()
}
