//! The clients that are compared: a protocol's own client over another HTTP client.

use bowline_client::{AccessToken, Client, DpopKey, ProofScope};

use crate::Result;
use crate::scenario::{Scenario, Talk};
use crate::world::World;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    /// The SDK's own transport with its own settings, and a plain bearer token.
    Stock,
    /// bowline with a session-bound token, one proof per connection.
    BowlineConnection,
    /// bowline with a session-bound token, one proof per request.
    BowlineRequest,
    /// bowline with a session-bound token, the first request of each connection with a proof of its
    /// own.
    BowlineAdaptive,
    /// bowline with a DPoP-bound token: a proof for each request, which knows nothing of the
    /// connection.
    BowlineDpop,
}

/// Our client, and the token that it is to carry.
pub(crate) struct Ours {
    pub(crate) client: Client,
    pub(crate) token: AccessToken,
}

impl Contender {
    pub(crate) const ALL: [Self; 5] = [
        Self::Stock,
        Self::BowlineConnection,
        Self::BowlineRequest,
        Self::BowlineAdaptive,
        Self::BowlineDpop,
    ];

    pub(crate) fn name(self, scenario: Scenario) -> &'static str {
        match (self, scenario.talk()) {
            (Self::Stock, Talk::Mcp) => "rmcp-bearer",
            (Self::Stock, Talk::A2a(_)) => "a2a-bearer",
            (Self::BowlineConnection, _) => "bowline-connection",
            (Self::BowlineRequest, _) => "bowline-request",
            (Self::BowlineAdaptive, _) => "bowline-adaptive",
            (Self::BowlineDpop, _) => "bowline-dpop",
        }
    }

    /// `None` for the stock client.
    pub(crate) async fn ours(self, world: &World) -> Result<Option<Ours>> {
        let proof_scope = match self {
            Self::Stock => return Ok(None),
            Self::BowlineRequest => ProofScope::Request,
            Self::BowlineAdaptive => ProofScope::Adaptive,
            // It does not concern DPoP, whose proofs are for one request in any case.
            Self::BowlineConnection | Self::BowlineDpop => ProofScope::Connection,
        };
        let key = DpopKey::generate()?;
        let token = match self {
            Self::BowlineDpop => world.dpop_token(&key),
            _ => world.token("agent-bound").await?,
        };
        let client = Client::builder()
            .identity(world.agent_identity()?)
            .trust(world.trust()?)
            .proof_scope(proof_scope)
            .dpop_key(key)
            .build()?;
        let token = AccessToken::new(token)?;
        Ok(Some(Ours { client, token }))
    }
}

/// A reqwest client with the agent's certificate, as a stock transport would be given it.
pub(crate) fn stock_http(world: &World) -> Result<reqwest::ClientBuilder> {
    let pem = [world.agent.key_pem(), world.agent.chain_pem()].concat();
    let identity = reqwest::Identity::from_pem(pem.as_bytes())?;
    let ca = reqwest::Certificate::from_der(world.pki.ca_der())?;
    Ok(reqwest::Client::builder()
        .tls_certs_only([ca])
        .identity(identity))
}
