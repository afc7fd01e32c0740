//! One run: one client in one scenario, then the two attacks.

use indicatif::ProgressBar;

use crate::Result;
use crate::agent::Agent;
use crate::contender::Contender;
use crate::report::Row;
use crate::scenario::Scenario;
use crate::theft::Attack;
use crate::upstream::Upstream;
use crate::world::World;

pub(crate) async fn one(
    world: &World,
    scenario: Scenario,
    contender: Contender,
    calls: u32,
    progress: &ProgressBar,
) -> Result<Row> {
    let mut upstream = Upstream::start(world, scenario, calls)?;
    let agent = Agent::connect(world, &upstream, scenario, contender).await?;
    let driven = agent.drive(scenario, calls, progress).await;
    upstream.stop_cutting();
    let stats = agent.stats();
    let counts = upstream.counts();
    let request_bound = upstream.request_bound();

    let stolen = upstream
        .log()
        .last()
        .ok_or("the server has seen no request")?;
    let other_certificate = Attack::with(world, &upstream, &world.thief, &stolen).await?;
    let same_certificate = Attack::with(world, &upstream, &world.agent, &stolen).await?;
    agent.leave().await;

    Ok(Row {
        scenario: scenario.name(),
        client: contender.name(scenario),
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
        request_bound,
        replay_accepted: other_certificate.got_through() || same_certificate.got_through(),
        other_certificate,
        same_certificate,
        p50_ms: driven.percentile(0.50),
        p99_ms: driven.percentile(0.99),
    })
}
