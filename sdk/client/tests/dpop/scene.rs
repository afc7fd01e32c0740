//! A lab with a DPoP key, and a server that takes DPoP and keeps what arrives.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bowline_client::{AccessToken, Builder, Client, DpopKey};
use bowline_proof::dpop::DPOP_HEADER;
use bowline_server::{
    BindingLayer, Dpop, MemoryReplayStore, TokenError, TokenValidator, ValidToken, VerifiedBinding,
};
use bowline_testkit::peers::{CyclingOptions, CyclingServer};
use bowline_testkit::tls::{Alpn, ClientAuth};
use http::HeaderMap;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::support::{Lab, fetch, jwt, text};

/// Requests as they arrived: their header fields.
#[derive(Clone, Default)]
pub(crate) struct Arrivals(Arc<Mutex<Vec<HeaderMap>>>);

impl Arrivals {
    pub(crate) fn all(&self) -> Vec<HeaderMap> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn proofs(&self) -> Vec<String> {
        let text =
            |headers: &HeaderMap| Some(headers.get(DPOP_HEADER)?.to_str().unwrap().to_owned());
        self.all().iter().filter_map(text).collect()
    }

    /// The claims of each proof.
    pub(crate) fn claims(&self) -> Vec<Value> {
        let payload = |proof: String| {
            URL_SAFE_NO_PAD
                .decode(proof.split('.').nth(1).unwrap())
                .unwrap()
        };
        let read = |proof| serde_json::from_slice(&payload(proof)).unwrap();
        self.proofs().into_iter().map(read).collect()
    }

    pub(crate) fn layer(&self, router: Router) -> Router {
        let arrivals = self.clone();
        router.layer(from_fn(move |request: Request, next: Next| {
            arrivals.0.lock().unwrap().push(request.headers().clone());
            next.run(request)
        }))
    }
}

/// Believes every JWT; an opaque token is bound to one key.
pub(crate) struct Believer {
    opaque_tokens_of: DpopKey,
}

impl TokenValidator for Believer {
    async fn validate(&self, token: &AccessToken) -> Result<ValidToken, TokenError> {
        let claims = match token.secret().split('.').nth(1) {
            Some(payload) => {
                serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
            }
            None => json!({ "cnf": { "jkt": self.opaque_tokens_of.thumbprint().to_string() } }),
        };
        Ok(ValidToken::new(claims))
    }
}

/// A lab with a key, and a server that takes DPoP.
pub(crate) struct Scene {
    pub(crate) lab: Lab,
    pub(crate) key: DpopKey,
    pub(crate) arrivals: Arrivals,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self {
            lab: Lab::new(),
            key: DpopKey::generate().unwrap(),
            arrivals: Arrivals::default(),
        }
    }

    /// Answers with what the request was bound to, and its body.
    pub(crate) fn server(&self, options: CyclingOptions, dpop: Dpop) -> CyclingServer {
        self.server_with(options, |layer| layer.dpop(dpop))
    }

    pub(crate) fn server_with(
        &self,
        options: CyclingOptions,
        configure: impl FnOnce(BindingLayer<Believer>) -> BindingLayer<Believer>,
    ) -> CyclingServer {
        let validator = Believer {
            opaque_tokens_of: self.key.clone(),
        };
        let answer = |request: Request| async {
            let class = request
                .extensions()
                .get::<VerifiedBinding>()
                .map(|binding| binding.class().name());
            let body = request.into_body().collect().await.unwrap().to_bytes();
            [class.unwrap_or("none").as_bytes(), b":", &body].concat()
        };
        CyclingServer::start_with(&self.lab.pki, options, |origin| {
            let layer = BindingLayer::new(validator).origins([origin.parse().unwrap()]);
            self.arrivals
                .layer(Router::new().fallback(answer).layer(configure(layer)))
        })
    }

    /// A client without a certificate, before `build`.
    pub(crate) fn builder(&self) -> Builder {
        Client::builder()
            .trust(self.lab.trust())
            .dpop_key(self.key.clone())
    }

    pub(crate) fn client(&self) -> Client {
        self.builder().build().unwrap()
    }

    pub(crate) fn cnf(&self) -> Value {
        json!({ "jkt": self.key.thumbprint().to_string() })
    }

    pub(crate) fn token(&self, name: &str) -> AccessToken {
        jwt(name, Some(self.cnf()))
    }
}

pub(crate) fn remembering() -> Dpop {
    Dpop::new(MemoryReplayStore::default())
}

pub(crate) fn without_certificates(alpn: Alpn) -> CyclingOptions {
    CyclingOptions {
        alpn,
        client_auth: ClientAuth::None,
        ..CyclingOptions::default()
    }
}

pub(crate) async fn class(client: &Client, url: &str, token: &AccessToken) -> String {
    let response = fetch(client, url, token).await.unwrap();
    assert_eq!(
        response.status(),
        200,
        "{:?}",
        response.headers().get("www-authenticate")
    );
    text(response).await
}
