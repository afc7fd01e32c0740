//! One run: one client in one scenario, then the two attacks.

use indicatif::ProgressBar;

use crate::Result;
use crate::agent::{Agent, Calls};
use crate::attack::Attack;
use crate::contender::Contender;
use crate::fixture::Fixture;
use crate::report::Row;
use crate::scenario::Scenario;
use crate::upstream::Upstream;

pub(crate) async fn one(
    fixture: &Fixture,
    scenario: Scenario,
    contender: Contender,
    calls: u32,
    progress: &ProgressBar,
) -> Result<Row> {
    let mut upstream = Upstream::start(fixture, scenario, calls)?;
    let agent = Agent::connect(fixture, &upstream, scenario, contender).await?;
    let measured = agent
        .drive(Calls {
            scenario,
            number: calls,
            progress,
        })
        .await;
    upstream.stop_cutting();
    let stats = agent.stats();
    let counts = upstream.counts();
    let request_bound = upstream.request_bound();

    let stolen = upstream
        .log()
        .last()
        .ok_or("the server has received no request")?;
    let other_certificate = Attack::with(fixture, &upstream, &fixture.attacker, &stolen).await?;
    let same_certificate = Attack::with(fixture, &upstream, &fixture.agent, &stolen).await?;
    agent.close().await;

    Ok(Row {
        scenario: scenario.name(),
        client: contender.name(scenario),
        requests: counts.requests,
        errors: measured.errors,
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
        replay_accepted: other_certificate.is_accepted() || same_certificate.is_accepted(),
        other_certificate,
        same_certificate,
        p50_ms: measured.percentile(0.50),
        p99_ms: measured.percentile(0.99),
    })
}
