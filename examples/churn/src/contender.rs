//! The clients that are compared: the protocol's own SDK over different HTTP clients.

use bowline_http_client::{AccessToken, Client, DpopKey, ProofScope};

use crate::Result;
use crate::fixture::Fixture;
use crate::scenario::{Protocol, Scenario};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    /// The SDK's own transport with its own settings, and a plain bearer token.
    Stock,
    /// bowline with a session-bound token, one proof per connection.
    BowlineConnection,
    /// bowline with a session-bound token, one proof per request.
    BowlineRequest,
    /// bowline with a session-bound token; the first request of each connection has its own proof.
    BowlineAdaptive,
    /// bowline with a DPoP-bound token: a proof for each request, independent of the connection.
    BowlineDpop,
}

/// A bowline client, and the token that it sends.
pub(crate) struct BowlineClient {
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
        match (self, scenario.protocol()) {
            (Self::Stock, Protocol::Mcp) => "rmcp-bearer",
            (Self::Stock, Protocol::A2a(_)) => "a2a-bearer",
            (Self::BowlineConnection, _) => "bowline-connection",
            (Self::BowlineRequest, _) => "bowline-request",
            (Self::BowlineAdaptive, _) => "bowline-adaptive",
            (Self::BowlineDpop, _) => "bowline-dpop",
        }
    }

    /// `None` for the stock client.
    pub(crate) async fn bowline(self, fixture: &Fixture) -> Result<Option<BowlineClient>> {
        let proof_scope = match self {
            Self::Stock => return Ok(None),
            Self::BowlineRequest => ProofScope::Request,
            Self::BowlineAdaptive => ProofScope::Adaptive,
            // Has no effect on DPoP, whose proofs are always for one request.
            Self::BowlineConnection | Self::BowlineDpop => ProofScope::Connection,
        };
        let key = DpopKey::generate()?;
        let token = match self {
            Self::BowlineDpop => fixture.dpop_token(&key),
            _ => fixture.token("agent-bound").await?,
        };
        let client = Client::builder()
            .identity(fixture.agent_identity()?)
            .trust(fixture.trust()?)
            .proof_scope(proof_scope)
            .dpop_key(key)
            .build()?;
        let token = AccessToken::new(token)?;
        Ok(Some(BowlineClient { client, token }))
    }
}

/// A reqwest client with the agent's certificate, for a stock transport.
pub(crate) fn stock_http(fixture: &Fixture) -> Result<reqwest::ClientBuilder> {
    let pem = [fixture.agent.key_pem(), fixture.agent.chain_pem()].concat();
    let identity = reqwest::Identity::from_pem(pem.as_bytes())?;
    let ca = reqwest::Certificate::from_der(fixture.pki.ca_der())?;
    Ok(reqwest::Client::builder()
        .tls_certs_only([ca])
        .identity(identity))
}
