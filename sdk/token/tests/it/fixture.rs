//! The set-up that tests share: an authorization server, resources that it issues tokens for, and
//! an agent with a certificate and a clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use axum::response::IntoResponse;
use axum::routing::{any, get};
use axum::{Extension, Json, Router};
use bowline_http_client::{Body, Client, Identity, Thumbprint, Trust};
use bowline_server::{
    AcceptPolicy, BindingLayer, ConnectionFacts, ExpectedClaims, Jwks, JwtValidator,
};
use bowline_testkit::authority::{Authority, AuthorityOptions};
use bowline_testkit::peers::{CyclingOptions, CyclingServer};
use bowline_testkit::pki::{KeyKind, Leaf, Pki};
use bowline_testkit::tls::ClientAuth;
use bowline_token::{
    AuthorizationServer, Builder, ClientAuthentication, Clock, OAuth, Token, TokenSource,
};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::json;

pub(crate) use bowline_testkit::net::text;

pub(crate) struct Fixture {
    pub(crate) pki: Pki,
    pub(crate) agent: Leaf,
    pub(crate) authority: Authority,
    pub(crate) clock: TestClock,
}

/// The agent's clock: the time at which the test began, plus what the test adds.
#[derive(Clone)]
pub(crate) struct TestClock {
    began: SystemTime,
    added: Arc<AtomicU64>,
}

impl TestClock {
    pub(crate) fn advance(&self, seconds: u64) {
        self.added.fetch_add(seconds, Ordering::SeqCst);
    }

    pub(crate) fn to_clock(&self) -> Clock {
        let Self { began, added } = self.clone();
        Clock::from_fn(move || began + Duration::from_secs(added.load(Ordering::SeqCst)))
    }
}

impl Default for TestClock {
    fn default() -> Self {
        Self {
            began: SystemTime::now(),
            added: Arc::default(),
        }
    }
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::with(AuthorityOptions::default())
    }

    pub(crate) fn with(options: AuthorityOptions) -> Self {
        let pki = Pki::new();
        Self {
            agent: pki.client("agent", KeyKind::P256),
            authority: Authority::start(&pki, options),
            pki,
            clock: TestClock::default(),
        }
    }

    pub(crate) fn client(&self) -> Client {
        self.client_of(&self.agent)
    }

    pub(crate) fn client_of(&self, leaf: &Leaf) -> Client {
        self.client_builder()
            .identity(identity(leaf))
            .build()
            .expect("a usable configuration")
    }

    /// Without an identity.
    pub(crate) fn client_builder(&self) -> bowline_http_client::Builder {
        Client::builder().trust(self.trust())
    }

    pub(crate) fn trust(&self) -> Trust {
        Trust::from_der([self.pki.ca_der().clone()]).expect("the CA is a trust anchor")
    }

    /// A source of the agent's own tokens, which authenticates by the agent's certificate and knows
    /// the authorization server by its issuer.
    pub(crate) fn source(&self, client: &Client) -> Builder {
        self.source_by(client, ClientAuthentication::tls("agent"))
    }

    pub(crate) fn source_by(
        &self,
        client: &Client,
        authentication: ClientAuthentication,
    ) -> Builder {
        let server = AuthorizationServer::issuer(self.authority.issuer());
        OAuth::builder(client.clone(), server, authentication).clock(self.clock.to_clock())
    }

    /// The same, for this resource.
    pub(crate) fn source_for(&self, client: &Client, resource: impl Into<String>) -> OAuth {
        let settings = self.source(client).resource(resource);
        settings.build().expect("usable settings")
    }

    /// A resource that accepts session-bound tokens of the authority and names it in its metadata
    /// (RFC 9728).
    pub(crate) fn resource(&self) -> CyclingServer {
        self.resource_with(|layer| layer)
    }

    pub(crate) fn resource_with(
        &self,
        configure: impl FnOnce(BindingLayer<JwtValidator>) -> BindingLayer<JwtValidator>,
    ) -> CyclingServer {
        let (issuer, keys) = (
            self.authority.issuer().to_owned(),
            self.authority.jwks().to_string(),
        );
        CyclingServer::start_with(&self.pki, CyclingOptions::default(), |origin| {
            let keys = Jwks::document(keys.into_bytes()).expect("a key set");
            let validator =
                JwtValidator::builder(ExpectedClaims::new(origin).issuer(&issuer), keys).build();
            let layer = BindingLayer::new(validator)
                .origins([origin.parse().expect("an origin")])
                .policy(AcceptPolicy::RequireSession)
                .resource_metadata(format!("{origin}{METADATA}"))
                .public_paths([METADATA]);
            let metadata = Json(json!({ "resource": origin, "authorization_servers": [issuer] }));
            Router::new()
                .route(METADATA, get(async || metadata))
                .fallback(any(async || "ok"))
                .layer(configure(layer))
        })
    }

    /// A server that accepts every token and answers with the thumbprint of the connection's client
    /// certificate.
    pub(crate) fn certificate_echo(&self) -> CyclingServer {
        let options = CyclingOptions {
            client_auth: ClientAuth::Optional,
            ..CyclingOptions::default()
        };
        CyclingServer::start(
            &self.pki,
            options,
            Router::new().fallback(any(echo_certificate)),
        )
    }

    /// A server that answers every request with this.
    pub(crate) fn answering<R>(&self, answer: R) -> CyclingServer
    where
        R: IntoResponse + Clone + Send + Sync + 'static,
    {
        self.serve(Router::new().fallback(any(move || async move { answer.clone() })))
    }

    pub(crate) fn serve(&self, router: Router) -> CyclingServer {
        let options = CyclingOptions {
            client_auth: ClientAuth::Optional,
            ..CyclingOptions::default()
        };
        CyclingServer::start(&self.pki, options, router)
    }
}

pub(crate) const METADATA: &str = "/.well-known/oauth-protected-resource";

async fn echo_certificate(Extension(facts): Extension<Arc<ConnectionFacts>>) -> String {
    facts.certificate().map_or("none".into(), |certificate| {
        certificate.thumbprint().to_string()
    })
}

pub(crate) fn identity(leaf: &Leaf) -> Identity {
    Identity::from_pem(leaf.chain_pem().as_bytes(), leaf.key_pem().as_bytes()).expect("a pair")
}

pub(crate) fn get_request(url: &str) -> Request<Full<Bytes>> {
    Request::get(url)
        .body(Full::default())
        .expect("a valid request")
}

/// Sends one request with this token.
pub(crate) async fn call(client: &Client, url: &str, token: &Token) -> Response<Body> {
    let mut request = get_request(url);
    token.attach(&mut request);
    client.send(request).await.expect("an answer")
}

pub(crate) async fn ok(response: Response<Body>) {
    assert_eq!(
        response.status(),
        StatusCode::OK,
        "{:?}",
        response.headers()
    );
    assert_eq!(text(response).await, "ok");
}

/// The certificate that a JWT is bound to.
pub(crate) fn bound_to(token: &Token) -> Thumbprint {
    let confirmation = token
        .access_token()
        .confirmation()
        .expect("a well-formed cnf");
    confirmation.x5t_s256.expect("a bound token")
}

/// Waits until the source gives another token than this one.
pub(crate) async fn successor(source: &dyn TokenSource, of: &Token) -> Token {
    let waiting = async {
        loop {
            let token = source.token().await.expect("a token");
            if token != *of {
                return token;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting)
        .await
        .expect("a successor")
}
