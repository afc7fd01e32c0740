//! Clients that make up tokens and reset each request as soon as it is sent, at a server that asks
//! an authorization server about tokens (RFC 7662); with regular clients that must lose nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::routing::post;
use bowline_proof::{AccessToken, EXPORTER_LABEL};
use bowline_server::{
    AcceptPolicy, BindingLayer, ClientAuth, ExpectedClaims, IntrospectionEndpoint,
    IntrospectionValidator,
};
use futures_util::future::join_all;
use serde_json::json;

use crate::authority::AUDIENCE;
use crate::fixture::{Fixture, HttpConnection, TestServer, binding_report};

const CONNECTIONS: usize = 16;

/// How often the task yields between sending a request and resetting it, so that it leaves.
const YIELDS: usize = 8;

/// A server under a policy, and the authorization server that it asks.
pub(crate) struct Asking {
    pub(crate) server: TestServer,
    authority: TestServer,
    questions: Arc<AtomicU64>,
}

impl Asking {
    /// The authorization server knows the fixture's tokens, which are JWTs, and no others.
    pub(crate) async fn start(fixture: &Fixture, policy: AcceptPolicy) -> Self {
        let questions = Arc::new(AtomicU64::new(0));
        let (asked, thumbprint) = (questions.clone(), fixture.agent.thumbprint());
        let introspect = move |form: String| {
            asked.fetch_add(1, Ordering::SeqCst);
            let answer = if form.contains("made-up") {
                json!({ "active": false })
            } else {
                json!({
                    "active": true, "aud": AUDIENCE, "exp": 4_000_000_000_u64, "sub": "agent",
                    "cnf": { "x5t#S256": thumbprint, "tls_exp": EXPORTER_LABEL },
                })
            };
            async move { axum::Json(answer) }
        };
        let optional = ClientAuth::Optional(fixture.ca.roots().into());
        let listener = fixture.listener(fixture.tls_with(optional)).await;
        let router = Router::new().route("/introspect", post(introspect));
        let authority = TestServer::start(listener, router, fixture.options());
        let url = format!("https://localhost:{}/introspect", authority.addr.port());
        let endpoint = IntrospectionEndpoint::new(&url)
            .unwrap()
            .trust_only_pem(fixture.ca.pem().as_bytes())
            .unwrap();
        let validator =
            IntrospectionValidator::builder(ExpectedClaims::new(AUDIENCE), endpoint).build();
        let layer = BindingLayer::new(validator).policy(policy);
        let listener = fixture.listener(fixture.tls()).await;
        let server = TestServer::start(listener, binding_report().layer(layer), fixture.options());
        Self {
            server,
            authority,
            questions,
        }
    }

    /// That have reached the authorization server.
    pub(crate) fn questions(&self) -> u64 {
        self.questions.load(Ordering::SeqCst)
    }

    pub(crate) async fn stop(self) {
        self.server.stop().await;
        self.authority.stop().await;
    }
}

/// Sends `number` made-up tokens with a client's certificate, with or without a proof of that
/// client, each in a request of its own that is reset.
pub(crate) async fn send(fixture: &Fixture, addr: SocketAddr, number: usize, with_proof: bool) {
    let thief = fixture.ca.client("thief");
    let config = fixture.client_as(Some(&thief), "h2", rustls::ALL_VERSIONS);
    let key = thief.proof_key();
    let send = async |index: usize| {
        let mut connection = HttpConnection::connect(addr, &config).await;
        for index in (index..number).step_by(CONNECTIONS) {
            let token = AccessToken::new(format!("made-up-{index}")).unwrap();
            let proof = with_proof.then(|| connection.proof(&key, &token));
            tokio::select! {
                biased;
                _ = connection.get("/", &token, proof.as_ref()) => {}
                () = yields() => {}
            }
        }
    };
    join_all((0..CONNECTIONS).map(send)).await;
}

async fn yields() {
    for _ in 0..YIELDS {
        tokio::task::yield_now().await;
    }
}
