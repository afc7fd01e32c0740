//! A certificate authority, an authorization server, an agent, and an attacker with a certificate
//! of the same authority.

use std::sync::Arc;

use bowline_http_client::{Client, DpopKey, Identity, Operation, Protocol, Trust};
use bowline_testkit::authority::{
    self, Authority, AuthorityOptions, ClientAuthentication, TokenBinding, TokenRequest,
};
use bowline_testkit::pki::{KeyKind, Leaf, Pki};
use http_body_util::{BodyExt, Full, Limited};
use serde::Deserialize;

use crate::Result;

/// `aud` of every token.
pub(crate) const RESOURCE: &str = "https://mcp.churn.example";

pub(crate) struct Fixture {
    pub(crate) pki: Pki,
    pub(crate) authority: Authority,
    pub(crate) agent: Leaf,
    pub(crate) attacker: Leaf,
}

impl Fixture {
    pub(crate) fn start() -> Result<Self> {
        let pki = Pki::new();
        let agent = pki.client("agent", KeyKind::P256);
        let attacker = pki.client("attacker", KeyKind::P256);
        // One agent, registered twice, so that the same certificate can get both kinds of token.
        let clients = [
            ("agent-bearer", TokenBinding::Bearer),
            ("agent-bound", TokenBinding::Session),
        ]
        .map(|(id, binding)| authority::Client {
            authentication: ClientAuthentication::Tls {
                subject: "agent".into(),
            },
            binding,
            ..authority::Client::new(id)
        })
        .to_vec();
        let options = AuthorityOptions {
            clients,
            ..AuthorityOptions::default()
        };
        let authority = Authority::start(&pki, options);
        Ok(Self {
            pki,
            authority,
            agent,
            attacker,
        })
    }

    pub(crate) fn trust(&self) -> Result<Trust> {
        Ok(Trust::from_der([self.pki.ca_der().clone()])?)
    }

    pub(crate) fn agent_identity(&self) -> Result<Arc<Identity>> {
        Ok(Arc::new(Identity::from_pem(
            self.agent.chain_pem().as_bytes(),
            self.agent.key_pem().as_bytes(),
        )?))
    }

    /// A token that is bound to a DPoP key (RFC 9449 §6), issued without a request.
    pub(crate) fn dpop_token(&self, key: &DpopKey) -> String {
        let cnf = serde_json::json!({ "jkt": key.thumbprint().to_string() });
        self.authority
            .issue(&TokenRequest::bearer("agent").cnf(cnf).audience(RESOURCE))
    }

    /// Requests a token from the authorization server over mutual TLS, as an agent would (RFC 6749
    /// §4.4, RFC 8705).
    pub(crate) async fn token(&self, client_id: &str) -> Result<String> {
        #[derive(Deserialize)]
        struct TokenResponse {
            access_token: String,
        }
        let client = Client::builder()
            .identity(self.agent_identity()?)
            .trust(self.trust()?)
            .build()?;
        let form =
            format!("grant_type=client_credentials&client_id={client_id}&resource={RESOURCE}");
        let mut request = http::Request::post(self.authority.mtls_token_url())
            .header(
                http::header::CONTENT_TYPE,
                "application/x-www-form-urlencoded",
            )
            .body(Full::from(form))?;
        request
            .extensions_mut()
            .insert(Operation::new(Protocol::HTTP, "token"));
        let response = client.send(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), 64 * 1024)
            .collect()
            .await?
            .to_bytes();
        if !status.is_success() {
            return Err(format!("the authorization server answered {status}").into());
        }
        Ok(serde_json::from_slice::<TokenResponse>(&body)?.access_token)
    }
}
