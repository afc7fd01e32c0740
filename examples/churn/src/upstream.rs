//! The protected server: an MCP server or an A2A agent behind `BindingLayer`, on a TLS front that
//! ends connections as the scenario says. It counts, and it leaks: what a careless log would hold
//! is what the thief gets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bowline_server::{BindingLayer, Dpop, JwksUrl, JwtValidator, MemoryReplayStore, ServerEvent};
use bowline_testkit::attacker::LeakyLog;
use bowline_testkit::peers::{Counts, CyclingOptions, CyclingServer};
use tokio::task::JoinHandle;

use crate::scenario::{Scenario, Talk};
use crate::world::{RESOURCE, World};
use crate::{Result, a2a, mcp};

pub(crate) struct Upstream {
    server: Arc<CyclingServer>,
    talk: Talk,
    log: LeakyLog,
    request_bound: Arc<AtomicU64>,
    cutting: Option<JoinHandle<()>>,
}

impl Upstream {
    pub(crate) fn start(world: &World, scenario: Scenario, calls: u32) -> Result<Self> {
        let request_bound = Arc::new(AtomicU64::new(0));
        let counted = request_bound.clone();
        let dpop = Dpop::new(MemoryReplayStore::default());
        let binding =
            BindingLayer::new(validator(world)?)
                .dpop(dpop)
                .observer(move |event: &ServerEvent| {
                    if let ServerEvent::Verified {
                        request_bound: true,
                        ..
                    } = event
                    {
                        counted.fetch_add(1, Ordering::Relaxed);
                    }
                });
        let log = LeakyLog::default();
        // The origin is known only once the port is, and an `htu` names it: a port of its own
        // first.
        let options = CyclingOptions {
            cycle: scenario.cycle(),
            alpn: scenario.alpn(),
            ..CyclingOptions::default()
        };
        let talk = scenario.talk();
        let server = CyclingServer::start_with(&world.pki, options, |origin| {
            let binding = binding.origins([origin.parse().expect("the server's own origin")]);
            let service = match talk {
                Talk::Mcp => mcp::server(scenario),
                Talk::A2a(_) => a2a::server(scenario, origin, calls),
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
            talk,
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

    /// Requests whose proof had `htm`, `htu` and `jti`, and passed.
    pub(crate) fn request_bound(&self) -> u64 {
        self.request_bound.load(Ordering::Relaxed)
    }

    pub(crate) fn log(&self) -> &LeakyLog {
        &self.log
    }

    /// The body of a call that this server takes.
    pub(crate) fn call_by_hand(&self) -> Vec<u8> {
        match self.talk {
            Talk::Mcp => mcp::call_by_hand(),
            Talk::A2a(binding) => a2a::call_by_hand(binding),
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

fn validator(world: &World) -> Result<JwtValidator> {
    let keys = JwksUrl::new(&world.authority.jwks_url())?
        .trust_only_pem(world.authority.ca_pem().as_bytes())?;
    Ok(JwtValidator::builder(world.authority.issuer(), RESOURCE, keys).build())
}
