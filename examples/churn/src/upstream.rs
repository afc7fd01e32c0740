//! The protected server: an MCP server or an A2A agent behind `BindingLayer`, on a TLS server that
//! ends connections as the scenario says. It counts, and it has a log that leaks credentials to the
//! attacker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bowline_server::{
    BindingLayer, Dpop, ExpectedClaims, JwksUrl, JwtValidator, MemoryReplayStore, ServerEvent,
};
use bowline_testkit::attacker::LeakyLog;
use bowline_testkit::peers::{Counts, CyclingOptions, CyclingServer};
use tokio::task::JoinHandle;

use crate::fixture::{Fixture, RESOURCE};
use crate::scenario::{Protocol, Scenario};
use crate::{Result, a2a, mcp};

pub(crate) struct Upstream {
    server: Arc<CyclingServer>,
    protocol: Protocol,
    log: LeakyLog,
    request_bound: Arc<AtomicU64>,
    cutting: Option<JoinHandle<()>>,
}

impl Upstream {
    pub(crate) fn start(fixture: &Fixture, scenario: Scenario, calls: u32) -> Result<Self> {
        let request_bound = Arc::new(AtomicU64::new(0));
        let counted = request_bound.clone();
        let dpop = Dpop::new(MemoryReplayStore::default());
        let binding = BindingLayer::new(validator(fixture)?).dpop(dpop).observer(
            move |event: &ServerEvent| {
                if let ServerEvent::Verified {
                    request_bound: true,
                    ..
                } = event
                {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            },
        );
        let log = LeakyLog::default();
        let options = CyclingOptions {
            cycle: scenario.cycle(),
            alpn: scenario.alpn(),
            ..CyclingOptions::default()
        };
        let protocol = scenario.protocol();
        let server = CyclingServer::start_with(&fixture.pki, options, |origin| {
            let binding = binding.origins([origin.parse().expect("the server's own origin")]);
            let service = match protocol {
                Protocol::Mcp => mcp::server(scenario),
                Protocol::A2a(_) => a2a::server(scenario, origin, calls),
            };
            log.in_front_of(service.layer(binding))
        });
        let server = Arc::new(server);
        let cutting = scenario.cut_every().map(|every| {
            let server = server.clone();
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(every).await;
                    server.cut_all();
                }
            })
        });
        Ok(Self {
            server,
            protocol,
            log,
            request_bound,
            cutting,
        })
    }

    pub(crate) fn origin(&self) -> String {
        self.server.origin()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.server.counts()
    }

    /// Requests with a verified proof that had `htm`, `htu` and `jti`.
    pub(crate) fn request_bound(&self) -> u64 {
        self.request_bound.load(Ordering::Relaxed)
    }

    pub(crate) fn log(&self) -> &LeakyLog {
        &self.log
    }

    /// The body of a call that gets as far as the verifier.
    pub(crate) fn attackers_call(&self) -> Vec<u8> {
        match self.protocol {
            Protocol::Mcp => mcp::attackers_call(),
            Protocol::A2a(binding) => a2a::attackers_call(binding),
        }
    }

    pub(crate) fn stop_cutting(&mut self) {
        if let Some(cutting) = self.cutting.take() {
            cutting.abort();
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop_cutting();
    }
}

fn validator(fixture: &Fixture) -> Result<JwtValidator> {
    let keys = JwksUrl::new(&fixture.authority.jwks_url())?
        .trust_only_pem(fixture.authority.ca_pem().as_bytes())?;
    Ok(JwtValidator::builder(
        ExpectedClaims::new(RESOURCE).issuer(fixture.authority.issuer()),
        keys,
    )
    .build())
}
