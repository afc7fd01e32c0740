//! A request that passes every check, and whose parts a test can change one at a time.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Ready;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bowline_proof::{
    AccessToken, Challenge, Check, EXPORTER_LABEL, ExporterValue, PROOF_HEADER, challenges,
};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Full;
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519, SigningKey, date_time_ymd};
use rustls::ProtocolVersion;
use rustls_pki_types::{CertificateDer, UnixTime};
use serde_json::{Value, json};
use tower::ServiceExt;
use tower_layer::Layer;
use tower_service::Service;

use crate::certificate::ClientCertificate;
use crate::connection_id::ConnectionId;
use crate::event::CloseReport;
use crate::facts::ConnectionFacts;
use crate::proof_cache::ProofCache;
use crate::{
    BindingLayer, Clock, ServerEvent, TokenError, TokenValidator, ValidToken, VerifiedBinding,
};

/// 2027-01-15, within the validity of [`Client`]s.
pub(super) const NOW: u64 = 1_800_000_000;
pub(super) const EXPORTER: [u8; 32] = [7; 32];
pub(super) const ORIGIN: &str = "https://api.example.com";

/// A client's certificate and key. Ed25519, because its JWS signatures need no conversion.
pub(super) struct Client {
    pub(super) certificate: CertificateDer<'static>,
    key: KeyPair,
}

pub(super) static CLIENT: LazyLock<Client> = LazyLock::new(Client::new);
pub(super) static OTHER_CLIENT: LazyLock<Client> = LazyLock::new(Client::new);

impl Client {
    fn new() -> Self {
        Self::with(|_| {})
    }

    pub(super) fn with(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2040, 1, 1);
        change(&mut params);
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self { certificate, key }
    }

    pub(super) fn thumbprint(&self) -> String {
        bowline_proof::Thumbprint::from_certificate(&self.certificate).to_string()
    }

    /// Its key as a DPoP key (RFC 8037 §2).
    pub(super) fn jwk(&self) -> Value {
        json!({ "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(self.key.public_key_raw()) })
    }

    /// The thumbprint of that (RFC 7638).
    pub(super) fn jkt(&self) -> String {
        // `serde_json` sorts members.
        let hash = aws_lc_rs::digest::digest(
            &aws_lc_rs::digest::SHA256,
            self.jwk().to_string().as_bytes(),
        );
        URL_SAFE_NO_PAD.encode(hash)
    }

    pub(super) fn sign(&self, header: &Value, claims: &Value) -> String {
        let encoded = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encoded(header), encoded(claims));
        let signature = self.key.sign(signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// Everything that one request depends on. [`Fixture::default`] passes.
pub(super) struct Fixture {
    pub(super) layer: BindingLayer<Arc<Tokens>>,
    pub(super) tokens: Arc<Tokens>,
    pub(super) facts: Option<Arc<ConnectionFacts>>,
    pub(super) now: Arc<AtomicU64>,
    pub(super) method: &'static str,
    pub(super) uri: String,
    pub(super) host: &'static str,
    pub(super) token: String,
    /// `Authorization` fields; by default one with the token.
    pub(super) authorization: Option<Vec<String>>,
    pub(super) signer: &'static Client,
    pub(super) proof_header: Value,
    pub(super) proof_claims: Value,
    /// Proof fields; by default one, made of the two above.
    pub(super) proofs: Option<Vec<String>>,
    /// Further fields.
    pub(super) fields: Vec<(&'static str, String)>,
    pub(super) events: Arc<Mutex<Vec<ServerEvent>>>,
    pub(super) reached: Arc<AtomicUsize>,
}

impl Default for Fixture {
    fn default() -> Self {
        let tokens = Arc::new(Tokens::default());
        let now = Arc::new(AtomicU64::new(NOW));
        let events: Arc<Mutex<Vec<ServerEvent>>> = Arc::default();
        let log = events.clone();
        let layer = BindingLayer::new(tokens.clone())
            .origins([ORIGIN.parse().unwrap()])
            .clock(clock(&now))
            .observer(move |event: &ServerEvent| log.lock().unwrap().push(*event));
        let mut fixture = Self {
            layer,
            tokens,
            facts: Some(connection(Some(&CLIENT), EXPORTER)),
            now,
            method: "POST",
            uri: "/mcp?a=b".to_owned(),
            host: "api.example.com",
            token: String::new(),
            authorization: None,
            signer: &CLIENT,
            proof_header: json!({
                "typ": "tls-binding-proof+jwt",
                "alg": "EdDSA",
                "x5t#S256": CLIENT.thumbprint(),
            }),
            proof_claims: json!({ "ekm": URL_SAFE_NO_PAD.encode(EXPORTER), "iat": NOW }),
            proofs: None,
            fields: Vec::new(),
            events,
            reached: Arc::default(),
        };
        fixture.use_token(session_bound());
        fixture
    }
}

impl Fixture {
    /// Presents another valid token, with these claims, and makes the proof for it.
    pub(super) fn use_token(&mut self, claims: Value) {
        self.token = self.tokens.issue(claims);
        self.proof_claims["ath"] = ath(&self.token);
    }

    /// Makes the proof a request-bound one.
    pub(super) fn add_request_claims(&mut self, jti: &str) {
        self.proof_claims["jti"] = jti.into();
        self.proof_claims["htm"] = self.method.into();
        self.proof_claims["htu"] = format!("{ORIGIN}/mcp").into();
    }

    pub(super) fn proof(&self) -> String {
        self.signer.sign(&self.proof_header, &self.proof_claims)
    }

    pub(super) fn configure(
        &mut self,
        change: impl FnOnce(BindingLayer<Arc<Tokens>>) -> BindingLayer<Arc<Tokens>>,
    ) {
        self.layer = change(self.layer.clone());
    }

    pub(super) fn request(&self) -> Request<()> {
        let mut request = Request::builder()
            .method(self.method)
            .uri(&self.uri)
            .header("host", self.host);
        let authorization = self.authorization.clone();
        for field in authorization.unwrap_or_else(|| vec![format!("Bearer {}", self.token)]) {
            request = request.header("authorization", field);
        }
        for field in self.proofs.clone().unwrap_or_else(|| vec![self.proof()]) {
            request = request.header(PROOF_HEADER, field);
        }
        for (name, value) in &self.fields {
            request = request.header(*name, value);
        }
        if let Some(facts) = &self.facts {
            request = request.extension(facts.clone());
        }
        // As `serve` does it.
        let mut request = request.body(()).unwrap();
        crate::layer::keep_uri(&mut request);
        request
    }

    pub(super) async fn send(&self) -> Outcome {
        self.send_this(self.request()).await
    }

    pub(super) async fn send_this(&self, request: Request<()>) -> Outcome {
        let handler = Handler(self.reached.clone());
        let before = self.reached.load(Ordering::SeqCst);
        let response = self.layer.layer(handler).oneshot(request).await.unwrap();
        Outcome {
            reached: self.reached.load(Ordering::SeqCst) > before,
            event: self.events.lock().unwrap().last().copied(),
            response,
        }
    }
}

pub(super) struct Outcome {
    pub(super) response: Response<Full<bytes::Bytes>>,
    /// Whether the inner service was called.
    pub(super) reached: bool,
    pub(super) event: Option<ServerEvent>,
}

impl Outcome {
    pub(super) fn check(&self) -> Option<Check> {
        self.response.extensions().get().copied()
    }

    pub(super) fn has_passed(&self) -> bool {
        self.reached && self.response.status() == StatusCode::OK && self.check().is_none()
    }

    pub(super) fn binding(&self) -> &VerifiedBinding {
        self.response
            .extensions()
            .get()
            .expect("the request passed with a token")
    }

    /// The fields of the request as the inner service got them.
    pub(super) fn arrived(&self) -> &HeaderMap {
        self.response
            .extensions()
            .get()
            .expect("the inner service was called")
    }

    pub(super) fn challenges(&self) -> Vec<Challenge> {
        challenges(self.response.headers())
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.response
            .headers()
            .get(name)
            .map(|value| value.to_str().unwrap())
    }

    pub(super) fn was_cached(&self) -> bool {
        matches!(self.event, Some(ServerEvent::Verified { cached: true, .. }))
    }
}

/// A connection with `client` at the other end and an empty proof cache.
pub(super) fn connection(client: Option<&Client>, exporter: [u8; 32]) -> Arc<ConnectionFacts> {
    let id = ConnectionId::next();
    Arc::new(ConnectionFacts {
        id,
        exporter: ExporterValue::from_bytes(exporter),
        certificate: client
            .map(|client| Arc::new(ClientCertificate::new(client.certificate.clone()).unwrap())),
        resumed: false,
        tls_version: ProtocolVersion::TLSv1_3,
        alpn: Some(b"h2".to_vec()),
        handshake_at: UnixTime::since_unix_epoch(Duration::from_secs(NOW)),
        peer: None,
        proofs: ProofCache::new(),
        drain: tokio::sync::Notify::new(),
        close_report: CloseReport::new(id, None),
    })
}

/// The claims of a token that is bound to [`CLIENT`]'s certificate and TLS sessions.
pub(super) fn session_bound() -> Value {
    json!({ "cnf": { "x5t#S256": CLIENT.thumbprint(), "tls_exp": EXPORTER_LABEL } })
}

pub(super) fn ath(token: &str) -> Value {
    let token = AccessToken::new(token).unwrap();
    URL_SAFE_NO_PAD.encode(token.hash().as_bytes()).into()
}

fn clock(now: &Arc<AtomicU64>) -> Clock {
    let now = now.clone();
    Clock::from_fn(move || {
        UnixTime::since_unix_epoch(Duration::from_secs(now.load(Ordering::SeqCst)))
    })
}

/// A validator in memory: a token is valid if it was issued here.
#[derive(Default)]
pub(super) struct Tokens {
    issued: Mutex<HashMap<String, Value>>,
    pub(super) unavailable: std::sync::atomic::AtomicBool,
    asked: AtomicUsize,
    /// Whether another server validates a token.
    pub(super) is_remote: std::sync::atomic::AtomicBool,
}

impl Tokens {
    pub(super) fn issue(&self, claims: Value) -> String {
        let mut issued = self.issued.lock().unwrap();
        let token = format!("token-{}", issued.len());
        issued.insert(token.clone(), claims);
        token
    }

    /// The same as a JWT, which shows its claims to all.
    pub(super) fn issue_jwt(&self, claims: Value) -> String {
        self.issue_text(&claims.to_string())
    }

    /// A JWT with this text as its claims.
    pub(super) fn issue_text(&self, claims: &str) -> String {
        let mut issued = self.issued.lock().unwrap();
        let payload = URL_SAFE_NO_PAD.encode(claims);
        let token = format!("e30.{payload}.{}", issued.len());
        issued.insert(token.clone(), serde_json::from_str(claims).unwrap());
        token
    }

    /// How often the layer asked about a token.
    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub(super) fn forget(&self, token: &str) {
        self.issued.lock().unwrap().remove(token);
    }
}

impl TokenValidator for Tokens {
    async fn validate(&self, token: &AccessToken) -> Result<ValidToken, TokenError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.unavailable.load(Ordering::SeqCst) {
            return Err(TokenError::unavailable(
                "the authority is away",
                Duration::from_secs(7),
            ));
        }
        match self.issued.lock().unwrap().get(token.secret()) {
            Some(claims) => Ok(ValidToken::new(claims.clone())),
            None => Err(TokenError::invalid("the access token has expired")),
        }
    }

    fn asks(&self, _: &AccessToken) -> bool {
        self.is_remote.load(Ordering::SeqCst)
    }
}

/// Answers 200 and returns the request's [`VerifiedBinding`] and its fields as extensions.
#[derive(Clone)]
struct Handler(Arc<AtomicUsize>);

impl Service<Request<()>> for Handler {
    type Response = Response<Full<bytes::Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<()>) -> Self::Future {
        self.0.fetch_add(1, Ordering::SeqCst);
        let mut response = Response::new(Full::default());
        response.extensions_mut().insert(request.headers().clone());
        if let Some(binding) = request.extensions_mut().remove::<VerifiedBinding>() {
            response.extensions_mut().insert(binding);
        }
        std::future::ready(Ok(response))
    }
}

/// A request without credentials, to a server on which these paths are public.
pub(super) fn public(paths: &[&str]) -> Fixture {
    let mut fixture = Fixture {
        authorization: Some(vec![]),
        proofs: Some(vec![]),
        ..Fixture::default()
    };
    fixture.configure(|layer| {
        layer
            .policy(crate::AcceptPolicy::RequireSession)
            .public_paths(paths.iter().copied())
    });
    fixture
}
