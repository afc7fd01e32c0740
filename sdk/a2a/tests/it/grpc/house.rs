//! The official agent behind `BindingLayer`, which believes tokens whose names the test knows.

use std::sync::atomic::{AtomicUsize, Ordering};

use a2a_client::Transport;
use axum::Router;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bowline_a2a::Transports;
use bowline_client::bind::TokenSourceId;
use bowline_client::{AccessToken, Client, Identity, Thumbprint, Trust};
use bowline_server::{BindingLayer, Policy, TokenError, TokenValidator, ValidToken};
use bowline_testkit::a2a::{Echo, agent, card};
use bowline_testkit::peers::{CyclingOptions, CyclingServer};
use bowline_testkit::pki::{KeyKind, Leaf, Pki};
use bowline_token::{Error, Token, TokenSource};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

pub(crate) struct House {
    pub(crate) server: CyclingServer,
    pki: Pki,
    leaf: Leaf,
}

impl House {
    pub(crate) fn open() -> Self {
        Self::open_with(CyclingOptions::default(), |origin| agent(Echo::default(), card(origin)))
    }

    pub(crate) fn open_with(options: CyclingOptions, agent: impl FnOnce(&str) -> Router) -> Self {
        let pki = Pki::new();
        let leaf = pki.client("caller", KeyKind::P256);
        let believer = Believer(leaf.thumbprint());
        let server = CyclingServer::start_with(&pki, options, |origin| {
            let layer = BindingLayer::new(believer).origins([origin.parse().unwrap()]);
            agent(origin).layer(layer.policy(Policy::Require))
        });
        Self { server, pki, leaf }
    }

    pub(crate) fn client(&self) -> Client {
        Client::builder()
            .identity(Identity::new(self.leaf.chain(), self.leaf.signing_key()).unwrap())
            .trust(Trust::authorities([self.pki.ca_der().clone()]).unwrap())
            .build()
            .unwrap()
    }

    pub(crate) fn transports(&self, client: &Client) -> Transports {
        Transports::new(client.clone(), &self.server.origin()).unwrap()
    }

    pub(crate) async fn transport(&self, transports: &Transports) -> Box<dyn Transport> {
        super::transport(&*transports.grpc(), &self.authority()).await.unwrap()
    }

    /// `localhost` and the port: a gRPC interface's URL.
    pub(crate) fn authority(&self) -> String {
        format!("localhost:{}", self.server.addr().port())
    }

    /// A JWT, which says that it is bound to the caller's certificate.
    pub(crate) fn token(&self, name: &str) -> AccessToken {
        let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let head = encode(json!({ "alg": "ES256", "typ": "at+jwt" }));
        let claims = encode(claims(name, self.leaf.thumbprint()));
        AccessToken::new(format!("{head}.{claims}.c2ln")).unwrap()
    }
}

fn claims(name: &str, certificate: Thumbprint) -> Value {
    let cnf = json!({ "x5t#S256": certificate.to_string(), "tls_exp": bowline_proof::EXPORTER_LABEL });
    json!({ "sub": name, "cnf": cnf })
}

/// Takes every token but `stale`.
struct Believer(Thumbprint);

impl TokenValidator for Believer {
    async fn validate(&self, token: &AccessToken) -> Result<ValidToken, TokenError> {
        match token.secret() {
            "stale" => Err(TokenError::invalid("stale")),
            _ => Ok(ValidToken::new(claims("somebody", self.0))),
        }
    }
}

/// A source of these tokens, one after the other as they are refused.
pub(crate) struct Successive {
    pub(crate) tokens: Vec<AccessToken>,
    pub(crate) refused: AtomicUsize,
}

impl Successive {
    pub(crate) fn new(tokens: Vec<AccessToken>) -> Self {
        let refused = AtomicUsize::new(0);
        Self { tokens, refused }
    }
}

impl TokenSource for Successive {
    fn id(&self) -> TokenSourceId {
        TokenSourceId(7)
    }

    fn token(&self) -> BoxFuture<'_, Result<Token, Error>> {
        let at = self.refused.load(Ordering::Relaxed).min(self.tokens.len() - 1);
        let token = Token::new(self.tokens[at].clone(), self.id());
        Box::pin(async { Ok(token) })
    }

    fn refused(&self, _: &Token) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}
