//! The protected server: an rmcp server behind `BindingLayer`, on a TLS front that ends connections as the scenario
//! says. It counts, and it leaks: what a careless log would hold is what the thief gets.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use bowline_proof::PROOF_HEADER;
use bowline_proof::dpop::DPOP_HEADER;
use bowline_server::{BindingLayer, Dpop, JwksUrl, JwtValidator, MemoryReplayStore, ServerEvent};
use bowline_testkit::peers::{Counts, CyclingOptions, CyclingServer};
use http::{HeaderMap, HeaderName, header};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};

use crate::Result;
use crate::scenario::Scenario;
use crate::tools::Tools;
use crate::world::{RESOURCE, World};

pub(crate) struct Upstream {
    server: CyclingServer,
    leak: Arc<Leak>,
    per_request_claims: Arc<AtomicU64>,
}

impl Upstream {
    pub(crate) async fn start(world: &World, scenario: Scenario) -> Result<Self> {
        let per_request_claims = Arc::new(AtomicU64::new(0));
        let counted = per_request_claims.clone();
        let dpop = Dpop::new(MemoryReplayStore::default());
        let binding = BindingLayer::new(validator(world)?)
            .dpop(dpop)
            .observer(move |event: &ServerEvent| {
                if let ServerEvent::Verified {
                    per_request_claims: true,
                    ..
                } = event
                {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            });
        let leak = Arc::new(Leak::default());
        // The origin is known only once the port is, and an `htu` names it: a port of its own first.
        let options = CyclingOptions {
            cycle: scenario.cycle(),
            alpn: scenario.alpn(),
            ..CyclingOptions::default()
        };
        let mcp = mcp_service(scenario.has_event_stream());
        let server = CyclingServer::start_with(&world.pki, options, |origin| {
            let binding = binding.origins([origin.parse().expect("the server's own origin")]);
            Router::new()
                .nest_service("/mcp", mcp)
                .layer(binding)
                .layer(from_fn_with_state(leak.clone(), overhear))
        });
        Ok(Self {
            server,
            leak,
            per_request_claims,
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("{}/mcp", self.server.origin())
    }

    pub(crate) fn counts(&self) -> Counts {
        self.server.counts()
    }

    /// Requests whose proof had `htm`, `htu` and `jti`, and passed.
    pub(crate) fn per_request_claims(&self) -> u64 {
        self.per_request_claims.load(Ordering::Relaxed)
    }

    /// The credentials of the last request.
    pub(crate) fn stolen(&self) -> HeaderMap {
        self.leak.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn validator(world: &World) -> Result<JwtValidator> {
    let keys = JwksUrl::new(&world.authority.jwks_url())?.trust_only_pem(world.authority.ca_pem().as_bytes())?;
    Ok(JwtValidator::builder(world.authority.issuer(), RESOURCE, keys).build())
}

#[derive(Default)]
struct Leak(Mutex<HeaderMap>);

const CREDENTIALS: [HeaderName; 4] = [
    header::AUTHORIZATION,
    PROOF_HEADER,
    DPOP_HEADER,
    HeaderName::from_static("mcp-session-id"),
];

async fn overhear(
    axum::extract::State(leak): axum::extract::State<Arc<Leak>>,
    request: Request,
    next: Next,
) -> Response {
    let heard: HeaderMap = CREDENTIALS
        .iter()
        .filter_map(|name| Some((name.clone(), request.headers().get(name)?.clone())))
        .collect();
    *leak.0.lock().unwrap_or_else(PoisonError::into_inner) = heard;
    next.run(request).await
}

type McpService = StreamableHttpService<Tools, LocalSessionManager>;

fn mcp_service(has_sessions: bool) -> McpService {
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(has_sessions)
        .with_json_response(!has_sessions);
    StreamableHttpService::new(move || Ok(Tools::new(has_sessions)), Arc::default(), config)
}
