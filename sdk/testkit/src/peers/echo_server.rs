//! A server that echoes what it should never have to: access tokens and proofs.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bowline_proof::dpop::{DPOP_HEADER, JwkThumbprint};
use bowline_proof::{PROOF_HEADER, Thumbprint};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use serde_json::{Value, json};

use super::{CyclingOptions, CyclingServer};
use crate::pki::Pki;

/// A response that echoes this.
pub type Echo = fn(&str) -> Response;

/// Echoes the access token and the proofs of each request, over mutual TLS: whole, and each half,
/// in every form of response, one after the other.
pub struct EchoServer {
    server: CyclingServer,
    echoed: Arc<Mutex<Echoed>>,
    rounds: usize,
}

#[derive(Default)]
struct Echoed {
    requests: usize,
    secrets: BTreeSet<String>,
}

impl EchoServer {
    /// Answers in these forms.
    ///
    /// # Panics
    /// As [`CyclingServer::start`], and if there is no form.
    #[must_use]
    pub fn start(pki: &Pki, options: CyclingOptions, forms: Vec<Echo>) -> Self {
        assert!(!forms.is_empty(), "an echo has a form");
        let rounds = 6 * forms.len(); // a token and a proof, each whole and in halves
        let echoed = Arc::<Mutex<Echoed>>::default();
        let shared = Arc::clone(&echoed);
        let answer = move |request: Request| {
            let mut echoed = shared.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = echoed.requests;
            echoed.requests += 1;
            let secrets = secrets(request.headers());
            echoed.secrets.extend(secrets.iter().cloned());
            let pieces: Vec<_> = secrets.iter().flat_map(|secret| pieces(secret)).collect();
            let piece = pieces.get(turn / forms.len() % pieces.len().max(1));
            let response = forms[turn % forms.len()](piece.copied().unwrap_or_default());
            async move { response }
        };
        Self {
            server: CyclingServer::start(pki, options, Router::new().fallback(answer)),
            echoed,
            rounds,
        }
    }

    /// Its origin.
    #[must_use]
    pub fn origin(&self) -> String {
        self.server.origin()
    }

    /// Whether it has echoed every piece of token and proof in every form.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.lock().requests >= self.rounds
    }

    /// How many different tokens and proofs came.
    #[must_use]
    pub fn secrets(&self) -> usize {
        self.lock().secrets.len()
    }

    /// Any ten characters in a row of a token or proof, which a text shows. The head of a JWT is no
    /// secret.
    #[must_use]
    pub fn find_in(&self, text: &str) -> Option<String> {
        let echoed = self.lock();
        let parts = echoed
            .secrets
            .iter()
            .map(|secret| match secret.split_once('.') {
                Some((_, rest)) => rest.as_bytes(),
                None => secret.as_bytes(),
            });
        let windows: HashSet<&[u8]> = parts.flat_map(|part| part.windows(10)).collect();
        let found = text
            .as_bytes()
            .windows(10)
            .find(|window| windows.contains(window));
        found.map(|window| String::from_utf8_lossy(window).into_owned())
    }

    /// The confirmations of a session-bound and of a DPoP-bound token, to be tried one after the
    /// other.
    #[must_use]
    pub fn confirmations(certificate: Thumbprint, dpop_key: &JwkThumbprint) -> [Value; 2] {
        let session = json!({
            "x5t#S256": certificate.to_string(),
            "tls_exp": bowline_proof::EXPORTER_LABEL,
        });
        [session, json!({ "jkt": dpop_key.to_string() })]
    }

    /// A JWT with this confirmation, signed by nobody, which the server does not mind.
    #[must_use]
    pub fn token(cnf: &Value) -> String {
        let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let head = encode(json!({ "alg": "ES256", "typ": "at+jwt" }));
        let claims = encode(json!({ "sub": "a-name-that-nobody-else-has", "cnf": cnf }));
        let signature = URL_SAFE_NO_PAD.encode([0xd6; 64]);
        format!("{head}.{claims}.{signature}")
    }

    fn lock(&self) -> MutexGuard<'_, Echoed> {
        self.echoed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn secrets(fields: &HeaderMap) -> Vec<String> {
    let field = |name| fields.get(name)?.to_str().ok();
    let token = field(AUTHORIZATION).and_then(|value| value.split(' ').next_back());
    let proofs = [field(PROOF_HEADER), field(DPOP_HEADER)];
    let secrets = [token].into_iter().chain(proofs).flatten();
    secrets.map(str::to_owned).collect()
}

fn pieces(secret: &str) -> [&str; 3] {
    let (first, second) = secret.split_at(secret.len() / 2);
    [secret, first, second]
}
