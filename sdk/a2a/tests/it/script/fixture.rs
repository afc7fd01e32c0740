//! Where the script is runs: an agent in plain HTTP for the stock transports, and one behind TLS
//! and `BindingLayer` for ours.

use std::sync::Arc;

use a2a::AgentCard;
use a2a_client::TransportFactory;
use a2a_client::jsonrpc::JsonRpcTransportFactory;
use a2a_client::rest::RestTransportFactory;
use a2a_grpc::GrpcTransportFactory;
use axum::Router;
use bowline_a2a::Transports;
use bowline_http_client::{AccessToken, Client, HttpVersions, Identity, Trust};
use bowline_server::{AcceptPolicy, BindingLayer, ExpectedClaims, Jwks, JwtValidator};
use bowline_testkit::authority::{Authority, AuthorityOptions, TokenRequest};
use bowline_testkit::peers::{CyclingOptions, CyclingServer};
use bowline_testkit::pki::{KeyKind, Leaf, Pki};

use super::row::Row;
use super::run::run_script;

/// A binding each.
pub(crate) type Factories = [Arc<dyn TransportFactory>; 3];

/// The transports that come with the official crates.
pub(crate) fn stock() -> Factories {
    [
        Arc::new(JsonRpcTransportFactory::new(None)),
        Arc::new(RestTransportFactory::new(None)),
        Arc::new(GrpcTransportFactory::new()),
    ]
}

/// Ours, with a token of the client's.
pub(crate) fn ours(fixture: &Fixture, client: &Client) -> Factories {
    let transports = Transports::new(client.clone(), &fixture.server.origin()).unwrap();
    let transports = transports.token(fixture.token());
    [
        transports.json_rpc(),
        transports.http_json(),
        transports.grpc(),
    ]
}

/// An agent, and what there is to reach it.
pub(crate) struct Fixture {
    pub(crate) server: CyclingServer,
    pki: Pki,
    leaf: Leaf,
    authority: Authority,
}

impl Fixture {
    /// Serves `agent`, which is made for an origin, to clients that prove their token.
    pub(crate) fn open(agent: impl FnOnce(&str) -> Router) -> Self {
        let pki = Pki::new();
        let authority = Authority::start(&pki, AuthorityOptions::default());
        let jwks = Jwks::document(authority.jwks().to_string()).unwrap();
        let validator = JwtValidator::builder(
            ExpectedClaims::new(AuthorityOptions::default().audience).issuer(authority.issuer()),
            jwks,
        )
        .build();
        let server = CyclingServer::start_with(&pki, CyclingOptions::default(), |origin| {
            let layer = BindingLayer::new(validator)
                .origins([origin.parse().unwrap()])
                .policy(AcceptPolicy::RequireSession);
            agent(origin).layer(layer)
        });
        Self {
            server,
            leaf: pki.client("agent", KeyKind::P256),
            pki,
            authority,
        }
    }

    pub(crate) fn client(&self, http: HttpVersions) -> Client {
        Client::builder()
            .http_versions(http)
            .identity(Identity::new(self.leaf.chain(), self.leaf.signing_key()).unwrap())
            .trust(Trust::from_der([self.pki.ca_der().clone()]).unwrap())
            .http_versions(http)
            .build()
            .unwrap()
    }

    /// A session-bound token of the client's.
    pub(crate) fn token(&self) -> AccessToken {
        let request = TokenRequest::session_bound("agent", self.leaf.thumbprint());
        AccessToken::new(self.authority.issue(&request)).unwrap()
    }

    /// `localhost` and the port.
    pub(crate) fn here(&self) -> String {
        format!("localhost:{}", self.server.addr().port())
    }
}

/// Plays the script over the interface of `card` that `factory` is for.
pub(crate) async fn rows(
    factory: &dyn TransportFactory,
    card: &AgentCard,
    here: &[&str],
) -> Vec<Row> {
    let mut interfaces = card.supported_interfaces.iter();
    let interface = interfaces
        .find(|interface| interface.protocol_binding == factory.protocol())
        .expect("an interface of each binding");
    let transport = crate::soon(factory.create(card, interface)).await.unwrap();
    run_script(&*transport, here).await
}

/// The same for each binding, one after the other.
pub(crate) async fn all_rows(
    factories: &Factories,
    card: &AgentCard,
    here: &[&str],
) -> [Vec<Row>; 3] {
    let [first, second, third] = factories;
    [
        rows(&**first, card, here).await,
        rows(&**second, card, here).await,
        rows(&**third, card, here).await,
    ]
}
