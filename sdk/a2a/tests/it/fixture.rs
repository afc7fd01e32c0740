//! The official agent behind `BindingLayer`, which believes tokens whose names the test knows.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use a2a::{A2AError, AgentInterface, TRANSPORT_PROTOCOL_GRPC};
use a2a_client::{Transport, TransportFactory};
use axum::Router;
use axum::extract::Request;
use axum::middleware::map_request;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bowline_a2a::Transports;
use bowline_http_client::{AccessToken, Client, Identity, Thumbprint, Trust};
use bowline_proof::PROOF_HEADER;
use bowline_server::{AcceptPolicy, BindingLayer, TokenError, TokenValidator, ValidToken};
use bowline_testkit::a2a::{Echo, agent, card};
use bowline_testkit::peers::{CyclingOptions, CyclingServer};
use bowline_testkit::pki::{KeyKind, Leaf, Pki};
use serde_json::{Value, json};

pub(crate) struct Fixture {
    pub(crate) server: CyclingServer,
    pki: Pki,
    leaf: Leaf,
    proofs: Arc<Mutex<BTreeSet<String>>>,
}

impl Fixture {
    pub(crate) fn open() -> Self {
        Self::open_with(CyclingOptions::default(), |origin| {
            agent(Echo::default(), card(origin))
        })
    }

    pub(crate) fn open_with(options: CyclingOptions, agent: impl FnOnce(&str) -> Router) -> Self {
        let pki = Pki::new();
        let leaf = pki.client("caller", KeyKind::P256);
        let believer = Believer(leaf.thumbprint());
        let proofs = Arc::<Mutex<BTreeSet<String>>>::default();
        let seen = proofs.clone();
        let record = map_request(move |request: Request| {
            let proof = request
                .headers()
                .get(PROOF_HEADER)
                .and_then(|proof| proof.to_str().ok());
            seen.lock().unwrap().extend(proof.map(str::to_owned));
            async move { request }
        });
        let server = CyclingServer::start_with(&pki, options, |origin| {
            let layer = BindingLayer::new(believer).origins([origin.parse().unwrap()]);
            agent(origin)
                .layer(layer.policy(AcceptPolicy::RequireSession))
                .layer(record)
        });
        Self {
            server,
            pki,
            leaf,
            proofs,
        }
    }

    pub(crate) fn client(&self) -> Client {
        Client::builder()
            .identity(Identity::new(self.leaf.chain(), self.leaf.signing_key()).unwrap())
            .trust(Trust::from_der([self.pki.ca_der().clone()]).unwrap())
            .build()
            .unwrap()
    }

    pub(crate) fn transports(&self, client: &Client) -> Transports {
        Transports::new(client.clone(), &self.server.origin()).unwrap()
    }

    pub(crate) async fn transport(&self, transports: &Transports) -> Box<dyn Transport> {
        transport(&*transports.grpc(), &self.authority())
            .await
            .unwrap()
    }

    /// A transport that presents this token.
    pub(crate) async fn transport_with_token(
        &self,
        client: &Client,
        token: &str,
    ) -> Box<dyn Transport> {
        let transports = self.transports(client).token(self.token(token));
        self.transport(&transports).await
    }

    /// `localhost` and the port: a gRPC interface's URL.
    pub(crate) fn authority(&self) -> String {
        format!("localhost:{}", self.server.addr().port())
    }

    /// Every proof that has come.
    pub(crate) fn proofs(&self) -> BTreeSet<String> {
        self.proofs.lock().unwrap().clone()
    }

    /// A JWT, which says that it is bound to the caller's certificate.
    pub(crate) fn token(&self, name: &str) -> AccessToken {
        let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let head = encode(json!({ "alg": "ES256", "typ": "at+jwt" }));
        let claims = encode(claims(name, self.leaf.thumbprint()));
        AccessToken::new(format!("{head}.{claims}.c2ln")).unwrap()
    }
}

/// A transport to the gRPC interface at `url`.
pub(crate) async fn transport(
    factory: &dyn TransportFactory,
    url: &str,
) -> Result<Box<dyn Transport>, A2AError> {
    let interface = AgentInterface::new(url, TRANSPORT_PROTOCOL_GRPC);
    factory
        .create(&card("https://unused.example"), &interface)
        .await
}

fn claims(name: &str, certificate: Thumbprint) -> Value {
    let cnf =
        json!({ "x5t#S256": certificate.to_string(), "tls_exp": bowline_proof::EXPORTER_LABEL });
    json!({ "sub": name, "cnf": cnf })
}

/// Takes every token but `stale…`.
struct Believer(Thumbprint);

impl TokenValidator for Believer {
    async fn validate(&self, token: &AccessToken) -> Result<ValidToken, TokenError> {
        match token.secret().starts_with("stale") {
            true => Err(TokenError::invalid("no longer good")),
            false => Ok(ValidToken::new(claims("somebody", self.0))),
        }
    }
}
