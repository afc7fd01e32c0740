//! A protected server, an agent that calls it, and a record of what the server saw.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod gate;
pub(crate) mod log;
pub(crate) mod raw;

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{any, get};
use bowline_client::{AccessToken, Body, Builder, Client, Error, Identity, Thumbprint, Trust};
use bowline_proof::PROOF_HEADER;
use bowline_server::{
    BindingLayer, ConnectionFacts, ConnectionId, TokenError, TokenValidator, ValidToken,
};
use bowline_testkit::peers::{CyclingOptions, CyclingServer};
use bowline_testkit::pki::{KeyKind, Leaf, Pki};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

/// Requests as the server saw them, in order of arrival.
#[derive(Clone, Default)]
pub(crate) struct Record(Arc<Mutex<Vec<Seen>>>);

#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) connection: ConnectionId,
    pub(crate) resumed: bool,
    pub(crate) proofs: Vec<String>,
    pub(crate) path: String,
}

impl Record {
    pub(crate) fn all(&self) -> Vec<Seen> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Every distinct proof that was seen, in order of arrival.
    pub(crate) fn proofs(&self) -> Vec<String> {
        let mut distinct = Vec::new();
        for proof in self.all().into_iter().flat_map(|seen| seen.proofs) {
            if !distinct.contains(&proof) {
                distinct.push(proof);
            }
        }
        distinct
    }
}

async fn record(State(record): State<Record>, request: Request, next: Next) -> Response {
    let facts = request
        .extensions()
        .get::<Arc<ConnectionFacts>>()
        .expect("the peer adds facts");
    let proofs = request.headers().get_all(PROOF_HEADER);
    let seen = Seen {
        connection: facts.id(),
        resumed: facts.is_resumed(),
        proofs: proofs
            .iter()
            .map(|v| v.to_str().unwrap_or_default().to_owned())
            .collect(),
        path: request.uri().path().to_owned(),
    };
    record
        .0
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(seen);
    next.run(request).await
}

/// Believes every JWT, so that a test can write its own claims; an opaque token is session-bound to
/// one certificate.
#[derive(Clone)]
pub(crate) struct Believer {
    pub(crate) opaque_tokens_of: Thumbprint,
}

impl TokenValidator for Believer {
    async fn validate(&self, token: &AccessToken) -> Result<ValidToken, TokenError> {
        let claims = match token.secret().split('.').nth(1) {
            Some(payload) => payload_of(payload).ok_or(TokenError::invalid("not a JWT"))?,
            None => json!({ "cnf": session_cnf(self.opaque_tokens_of) }),
        };
        Ok(ValidToken::new(claims))
    }
}

fn payload_of(payload: &str) -> Option<Value> {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(payload)
        .ok()?;
    serde_json::from_slice(&bytes).ok()
}

pub(crate) fn session_cnf(certificate: Thumbprint) -> Value {
    json!({ "x5t#S256": certificate.to_string(), "tls_exp": bowline_proof::EXPORTER_LABEL })
}

/// A JWT that nobody signed, with a name and a `cnf`.
pub(crate) fn jwt(name: &str, cnf: Option<Value>) -> AccessToken {
    use base64::Engine;
    let encode =
        |value: Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = match cnf {
        Some(cnf) => json!({ "sub": name, "cnf": cnf }),
        None => json!({ "sub": name }),
    };
    let token = format!(
        "{}.{}.c2ln",
        encode(json!({ "alg": "ES256", "typ": "at+jwt" })),
        encode(claims)
    );
    AccessToken::new(token).expect("base64url is b64token")
}

/// Who takes part.
pub(crate) struct Lab {
    pub(crate) pki: Pki,
    pub(crate) agent: Leaf,
    pub(crate) record: Record,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let pki = Pki::new();
        let agent = pki.client("agent", KeyKind::P256);
        Self {
            pki,
            agent,
            record: Record::default(),
        }
    }

    /// `/` answers any method with its request's body behind `ok:`; `/stream` sends one chunk and
    /// never ends.
    pub(crate) fn server(&self, options: CyclingOptions) -> CyclingServer {
        self.server_with(options, |layer| layer)
    }

    pub(crate) fn server_with(
        &self,
        options: CyclingOptions,
        configure: impl FnOnce(BindingLayer<Believer>) -> BindingLayer<Believer>,
    ) -> CyclingServer {
        CyclingServer::start_with(&self.pki, options, |origin| {
            self.protected(origin, configure)
        })
    }

    /// The service behind its verifier.
    pub(crate) fn protected(
        &self,
        origin: &str,
        configure: impl FnOnce(BindingLayer<Believer>) -> BindingLayer<Believer>,
    ) -> Router {
        let validator = Believer {
            opaque_tokens_of: self.agent.thumbprint(),
        };
        let layer = BindingLayer::new(validator).origins([origin.parse().expect("an origin")]);
        self.service()
            .layer(configure(layer))
            .layer(from_fn_with_state(self.record.clone(), record))
    }

    /// The same service without a verifier.
    pub(crate) fn unprotected(&self, options: CyclingOptions) -> CyclingServer {
        let service = self
            .service()
            .layer(from_fn_with_state(self.record.clone(), record));
        CyclingServer::start(&self.pki, options, service)
    }

    fn service(&self) -> Router {
        Router::new()
            .route("/stream", get(stream))
            .route("/slow", get(slow))
            .fallback(any(echo))
    }

    pub(crate) fn identity(&self) -> Identity {
        identity(&self.agent)
    }

    /// The agent's client, before `build`.
    pub(crate) fn builder(&self) -> Builder {
        Client::builder()
            .identity(self.identity())
            .trust(self.trust())
    }

    pub(crate) fn client(&self) -> Client {
        self.builder().build().expect("a usable configuration")
    }

    pub(crate) fn trust(&self) -> Trust {
        Trust::authorities([self.pki.ca_der().clone()]).expect("the CA is a trust anchor")
    }

    /// A session-bound token of the agent.
    pub(crate) fn token(&self, name: &str) -> AccessToken {
        jwt(name, Some(session_cnf(self.agent.thumbprint())))
    }
}

pub(crate) fn identity(leaf: &Leaf) -> Identity {
    Identity::from_pem(leaf.chain_pem().as_bytes(), leaf.key_pem().as_bytes()).expect("a pair")
}

async fn echo(body: Bytes) -> Vec<u8> {
    [b"ok:", &body[..]].concat()
}

async fn stream() -> axum::body::Body {
    let first =
        futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"data: 1\n\n"))]);
    axum::body::Body::from_stream(futures_util::StreamExt::chain(
        first,
        futures_util::stream::pending(),
    ))
}

/// `ok:` in two parts.
async fn slow() -> axum::body::Body {
    let parts = futures_util::stream::unfold(0, |part| async move {
        tokio::task::yield_now().await;
        let text = ["ok", ":"].get(part)?;
        Some((
            Ok::<_, std::io::Error>(Bytes::from_static(text.as_bytes())),
            part + 1,
        ))
    });
    axum::body::Body::from_stream(parts)
}

/// A GET with a token.
pub(crate) async fn fetch(
    client: &Client,
    url: &str,
    token: &AccessToken,
) -> Result<http::Response<Body>, Error> {
    post(client, url, token, "").await
}

/// A POST (or, without a body, a GET) with a token.
pub(crate) async fn post(
    client: &Client,
    url: &str,
    token: &AccessToken,
    body: &'static str,
) -> Result<http::Response<Body>, Error> {
    let method = if body.is_empty() {
        http::Method::GET
    } else {
        http::Method::POST
    };
    let request = http::Request::builder()
        .method(method)
        .uri(url)
        .extension(token.clone())
        .body(Full::new(Bytes::from_static(body.as_bytes())))
        .expect("a valid request");
    client.send(request).await
}

pub(crate) async fn text(response: http::Response<Body>) -> String {
    let bytes = response
        .into_body()
        .collect()
        .await
        .expect("a whole body")
        .to_bytes();
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// Fetches and reads to the end.
pub(crate) async fn ok(client: &Client, url: &str, token: &AccessToken) {
    let response = fetch(client, url, token).await.expect("an answer");
    assert_eq!(
        response.status(),
        200,
        "{:?}",
        response.headers().get("www-authenticate")
    );
    assert_eq!(text(response).await, "ok:");
}
