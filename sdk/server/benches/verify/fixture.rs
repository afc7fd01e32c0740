//! One connection, its client, and requests over it.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bowline_proof::dpop::{self, DPOP_HEADER, DpopKey};
use bowline_proof::{
    AccessToken, EXPORTER_LABEL, ExporterValue, PROOF_HEADER, ProofClaims, ProofKey, RequestClaims,
    Scheme,
};
use bowline_server::{
    Acceptor, BindingClass, BindingLayer, BindingService, ClientAuth, ConnectionFacts, Dpop,
    MemoryReplayStore, ServerEvent, ServerTls, TokenError, TokenValidator, ValidToken,
};
use http::{HeaderValue, Method, Request};
use rustls::ClientConfig;
use rustls_pki_types::{ServerName, UnixTime};
use serde_json::json;
use tokio_rustls::TlsConnector;
use tower::Layer;

use crate::pki::Ca;

const ORIGIN: &str = "https://api.example.com";

static VERIFIED: AtomicU64 = AtomicU64::new(0);
static LAST: AtomicU8 = AtomicU8::new(0);

pub(crate) fn verified() -> u64 {
    VERIFIED.load(Ordering::Relaxed)
}

pub(crate) fn last_class() -> BindingClass {
    match LAST.load(Ordering::Relaxed) {
        1 => BindingClass::Session,
        2 => BindingClass::Dpop,
        _ => BindingClass::Bearer,
    }
}

pub(crate) struct Fixture {
    facts: Arc<ConnectionFacts>,
    key: ProofKey,
    dpop_key: DpopKey,
    exporter: ExporterValue,
    session: AccessToken,
    proof: HeaderValue,
    dpop: AccessToken,
    bearer: AccessToken,
}

/// A validator with three valid tokens.
#[derive(Clone)]
pub(crate) struct FixedTokens(Arc<[(AccessToken, ValidToken)]>);

impl TokenValidator for FixedTokens {
    async fn validate(&self, token: &AccessToken) -> Result<ValidToken, TokenError> {
        // In order of length, because even comparing them takes time.
        let found = self
            .0
            .iter()
            .find(|(known, _)| known.secret().len() == token.secret().len());
        Ok(found.expect("one of the three").1.clone())
    }
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let ca = Ca::new("bench");
        let client = ca.client("agent");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let (facts, exporter) = runtime.block_on(handshake(&ca, &client));
        let key = client.proof_key();
        // As long as a JWT of an ordinary authorization server.
        let token =
            |length: usize| AccessToken::new("eyJ".to_owned() + &"a".repeat(length)).unwrap();
        let session = token(897);
        let claims = ProofClaims {
            token: session.hash(),
            exporter: &exporter,
            issued_at: UnixTime::now(),
            request: None,
        };
        let proof = key.mint(&claims).unwrap().header_value().clone();
        Self {
            facts,
            key,
            dpop_key: DpopKey::generate().unwrap(),
            exporter,
            session,
            proof,
            dpop: token(898).with_scheme(Scheme::Dpop),
            bearer: token(899),
        }
    }

    pub(crate) fn service<S>(&self, inner: S) -> BindingService<S, FixedTokens> {
        self.service_with(inner, Dpop::new(MemoryReplayStore::default()))
    }

    pub(crate) fn service_with<S>(&self, inner: S, dpop: Dpop) -> BindingService<S, FixedTokens> {
        let thumbprint = self.facts.certificate().unwrap().thumbprint().to_string();
        let session = json!({ "cnf": { "x5t#S256": thumbprint, "tls_exp": EXPORTER_LABEL } });
        let key_bound = json!({ "cnf": { "jkt": self.dpop_key.thumbprint().to_string() } });
        let known = FixedTokens(Arc::new([
            (self.session.clone(), ValidToken::new(session)),
            (self.dpop.clone(), ValidToken::new(key_bound)),
            (self.bearer.clone(), ValidToken::new(json!({}))),
        ]));
        BindingLayer::new(known)
            .origins([ORIGIN.parse().unwrap()])
            .jti_quota(usize::MAX)
            .dpop(dpop)
            .observer(|event: &ServerEvent| {
                if let ServerEvent::Verified { class, .. } = event {
                    VERIFIED.fetch_add(1, Ordering::Relaxed);
                    let class = match class {
                        BindingClass::Session => 1,
                        BindingClass::Dpop => 2,
                        _ => 3,
                    };
                    LAST.store(class, Ordering::Relaxed);
                }
            })
            .layer(inner)
    }

    /// With the proof that passed before.
    pub(crate) fn cached(&self) -> Request<()> {
        self.request(&self.session, Some((PROOF_HEADER, self.proof.clone())))
    }

    pub(crate) fn bearer(&self) -> Request<()> {
        self.request(&self.bearer, None)
    }

    /// With a reusable proof that is new: ECDSA signatures are random.
    pub(crate) fn never_seen(&self) -> Request<()> {
        self.with_proof(None)
    }

    /// With `jti`, `htm` and `htu`.
    pub(crate) fn for_one_request(&self) -> Request<()> {
        let uri = format!("{ORIGIN}/mcp").parse().unwrap();
        self.with_proof(Some(RequestClaims::new(&Method::POST, &uri).unwrap()))
    }

    pub(crate) fn dpop(&self) -> Request<()> {
        let uri = format!("{ORIGIN}/mcp").parse().unwrap();
        let request = RequestClaims::new(&Method::POST, &uri).unwrap();
        let claims = dpop::Claims {
            request: &request,
            issued_at: UnixTime::now(),
            token: Some(self.dpop.hash()),
            nonce: None,
        };
        let proof = self.dpop_key.mint(&claims).unwrap();
        self.request(
            &self.dpop,
            Some((DPOP_HEADER, proof.header_value().clone())),
        )
    }

    fn with_proof(&self, request: Option<RequestClaims>) -> Request<()> {
        let claims = ProofClaims {
            token: self.session.hash(),
            exporter: &self.exporter,
            issued_at: UnixTime::now(),
            request,
        };
        let proof = self.key.mint(&claims).unwrap();
        self.request(
            &self.session,
            Some((PROOF_HEADER, proof.header_value().clone())),
        )
    }

    /// What a JSON-RPC client sends, with fields copied as a parser copies them.
    fn request(
        &self,
        token: &AccessToken,
        proof: Option<(http::HeaderName, HeaderValue)>,
    ) -> Request<()> {
        let copied = |value: &HeaderValue| HeaderValue::from_bytes(value.as_bytes()).unwrap();
        let mut request = Request::post("/mcp")
            .header("host", "api.example.com")
            .header("accept", "application/json, text/event-stream")
            .header("content-type", "application/json")
            .header("content-length", "200")
            .header("authorization", copied(token.authorization()))
            .extension(self.facts.clone());
        if let Some((name, value)) = proof {
            request = request.header(name, copied(&value));
        }
        request.body(()).unwrap()
    }
}

async fn handshake(
    ca: &Ca,
    client: &crate::pki::Identity,
) -> (Arc<ConnectionFacts>, ExporterValue) {
    let server = ca.server();
    let identity = bowline_server::Identity::from_pem(
        server.certificate_pem.as_bytes(),
        server.key.serialize_pem().as_bytes(),
    )
    .unwrap();
    let tls = ServerTls::builder(identity, ClientAuth::Required(ca.roots().into()))
        .build()
        .unwrap();
    let acceptor = Acceptor::new(tls).handshake_timeout(Duration::from_secs(60));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .unwrap()
        .with_root_certificates(ca.roots())
        .with_client_auth_cert(vec![client.certificate.clone()], client.private_key())
        .unwrap();
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from("localhost").unwrap();
    let (near, far) = tokio::join!(
        TlsConnector::from(Arc::new(config)).connect(name, near),
        acceptor.accept(far)
    );
    let exporter = ExporterValue::derive(near.unwrap().get_ref().1).unwrap();
    (far.unwrap().1, exporter)
}

/// The result of a future that is ready at once.
pub(crate) fn poll_now<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("there is nothing to wait for"),
    }
}
