//! The clients that are compared, each an rmcp client over another HTTP client.

use bowline_client::{AccessToken, Client, DpopKey, Hardening, Snapshot};
use rmcp::service::RunningService;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ClientHandler, RoleClient, ServiceExt};

use crate::Result;
use crate::world::World;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    /// rmcp's reqwest client with its own settings and a plain bearer token.
    RmcpBearer,
    /// bowline with a session-bound token, one proof per connection.
    BowlineConnection,
    /// bowline with a session-bound token, one proof per request.
    BowlineRequest,
    /// bowline with a DPoP-bound token: a proof for each request, which knows nothing of the connection.
    BowlineDpop,
    /// bowline with a session-bound token, the first request of each connection with a proof of its own.
    BowlineAdaptive,
}

/// A connected MCP client.
pub(crate) struct Connected<H: ClientHandler> {
    pub(crate) mcp: RunningService<RoleClient, H>,
    /// `None` for the stock client, which signs and counts nothing.
    pub(crate) http: Option<Client>,
}

impl<H: ClientHandler> Connected<H> {
    pub(crate) fn stats(&self) -> Option<Snapshot> {
        self.http.as_ref().map(Client::stats)
    }
}

impl Contender {
    pub(crate) const ALL: [Self; 5] = [
        Self::RmcpBearer,
        Self::BowlineConnection,
        Self::BowlineRequest,
        Self::BowlineAdaptive,
        Self::BowlineDpop,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::RmcpBearer => "rmcp-bearer",
            Self::BowlineConnection => "bowline-connection",
            Self::BowlineRequest => "bowline-request",
            Self::BowlineAdaptive => "bowline-adaptive",
            Self::BowlineDpop => "bowline-dpop",
        }
    }

    pub(crate) async fn connect<H: ClientHandler>(self, world: &World, url: &str, handler: H) -> Result<Connected<H>> {
        let hardening = match self {
            Self::RmcpBearer => return stock(world, url, handler).await,
            Self::BowlineConnection => Hardening::Connection,
            Self::BowlineRequest => Hardening::Request,
            Self::BowlineAdaptive => Hardening::Adaptive,
            // It does not concern DPoP, whose proofs are for one request in any case.
            Self::BowlineDpop => Hardening::Connection,
        };
        let key = DpopKey::generate()?;
        let token = match self {
            Self::BowlineDpop => world.dpop_token(&key),
            _ => world.token("agent-bound").await?,
        };
        let token = AccessToken::new(token)?;
        let http = Client::builder()
            .identity(world.agent_identity()?)
            .trust(world.trust()?)
            .hardening(hardening)
            .dpop_key(key)
            .build()?;
        let mcp = handler.serve(bowline_mcp::transport(http.clone(), url, token)).await?;
        Ok(Connected { mcp, http: Some(http) })
    }
}

/// rmcp's default reqwest client, which keeps no idle connection, plus this lab's certificates.
async fn stock<H: ClientHandler>(world: &World, url: &str, handler: H) -> Result<Connected<H>> {
    let http = reqwest_builder(world, &world.agent)?
        .pool_max_idle_per_host(0)
        .build()?;
    let token = world.token("agent-bearer").await?;
    let config = StreamableHttpClientTransportConfig::with_uri(url).auth_header(token);
    let mcp = handler
        .serve(StreamableHttpClientTransport::with_client(http, config))
        .await?;
    Ok(Connected { mcp, http: None })
}

/// A reqwest client with somebody's certificate.
pub(crate) fn reqwest_builder(world: &World, who: &bowline_testkit::pki::Leaf) -> Result<reqwest::ClientBuilder> {
    let identity = reqwest::Identity::from_pem(format!("{}{}", who.key_pem(), who.chain_pem()).as_bytes())?;
    let ca = reqwest::Certificate::from_der(world.pki.ca_der())?;
    Ok(reqwest::Client::builder().tls_certs_only([ca]).identity(identity))
}
