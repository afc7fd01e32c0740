//! All parts of the testkit together: a token granted over mutual TLS, proved on a connection to a
//! server that cycles, and verified there with keys fetched from the authority.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::routing::get;
use bowline_proof::{
    AccessToken, Check, ExporterValue, PROOF_HEADER, Proof, ProofClaims, ProofKey,
};
use bowline_server::{BindingLayer, ExpectedClaims, Jwks, JwksUrl, JwtValidator, ServerEvent};
use bowline_testkit::authority::{Authority, AuthorityOptions, TokenRequest};
use bowline_testkit::peers::{CyclingOptions, CyclingServer};
use bowline_testkit::pki::{KeyKind, Leaf, Pki};
use bowline_testkit::tls::TlsOptions;
use http::StatusCode;
use rustls::ClientConfig;
use rustls_pki_types::UnixTime;

use crate::client::{self, Http};

#[tokio::test]
async fn a_proof_is_valid_on_its_connection_and_on_no_later_one() {
    let fixture = Fixture::new();
    let Fixture {
        authority,
        agent,
        tls,
        events,
        server,
        ..
    } = &fixture;
    let token = TokenRequest::session_bound("agent", agent.thumbprint());
    let token = AccessToken::new(authority.issue(&token)).unwrap();

    let stream = client::connect(tls, server.addr()).await.unwrap();
    let proof = mint(
        agent,
        &token,
        &ExporterValue::derive(stream.get_ref().1).unwrap(),
    );
    let mut first = Http::over(stream).await;
    assert_eq!(
        call(&mut first, &token, None).await,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(refused_by(events), Some(Check::ProofMissing));
    assert_eq!(call(&mut first, &token, Some(&proof)).await, StatusCode::OK);
    assert_eq!(refused_by(events), None);

    server.retire_all();
    first.ended().await.unwrap();
    let mut second = Http::connect(tls, server.addr()).await;
    assert_eq!(
        call(&mut second, &token, Some(&proof)).await,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(refused_by(events), Some(Check::Exporter));
    assert_eq!(authority.jwks_fetches(), 1);
}

#[tokio::test]
async fn a_resource_server_fetches_the_key_set_again_after_a_rotation() {
    let fixture = Fixture::new();
    let Fixture {
        authority,
        tls,
        events,
        server,
        ..
    } = &fixture;
    let mut client = Http::connect(tls, server.addr()).await;
    let bearer = || AccessToken::new(authority.issue(&TokenRequest::bearer("agent"))).unwrap();

    assert_eq!(call(&mut client, &bearer(), None).await, StatusCode::OK);
    authority.rotate_key();
    assert_eq!(call(&mut client, &bearer(), None).await, StatusCode::OK);
    assert_eq!(authority.jwks_fetches(), 2);
    let forged = authority.issue(&TokenRequest::bearer("agent").forged());
    let forged = AccessToken::new(forged).unwrap();
    assert_eq!(
        call(&mut client, &forged, None).await,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(refused_by(events), Some(Check::Token));
}

type Events = Arc<Mutex<Vec<ServerEvent>>>;

struct Fixture {
    authority: Authority,
    server: CyclingServer,
    events: Events,
    agent: Leaf,
    tls: Arc<ClientConfig>,
}

impl Fixture {
    fn new() -> Self {
        let pki = Pki::new();
        let authority = Authority::start(&pki, AuthorityOptions::default());
        let (router, events) = guarded(&authority);
        let agent = pki.client("agent", KeyKind::P256);
        Self {
            server: CyclingServer::start(&pki, CyclingOptions::default(), router),
            tls: TlsOptions::default().client(&pki, Some(&agent)),
            authority,
            events,
            agent,
        }
    }
}

/// A service behind a verifier that fetches the authority's keys.
fn guarded(authority: &Authority) -> (Router, Events) {
    let jwks = JwksUrl::new(&authority.jwks_url()).unwrap();
    let jwks = jwks.trust_only_pem(authority.ca_pem().as_bytes()).unwrap();
    let validator = JwtValidator::builder(
        ExpectedClaims::new("https://resource.example").issuer(authority.issuer()),
        Jwks::from(jwks),
    )
    .retry_interval(std::time::Duration::ZERO)
    .build();
    let events = Events::default();
    let seen = Arc::clone(&events);
    let layer = BindingLayer::new(validator)
        .observer(move |event: &ServerEvent| seen.lock().unwrap().push(*event));
    (
        Router::new()
            .route("/", get(|| async { "hello" }))
            .layer(layer),
        events,
    )
}

fn refused_by(events: &Events) -> Option<Check> {
    match events.lock().unwrap().last() {
        Some(ServerEvent::Refused { check, .. }) => Some(*check),
        _ => None,
    }
}

fn mint(agent: &Leaf, token: &AccessToken, exporter: &ExporterValue) -> Proof {
    let key = ProofKey::new(agent.certificate(), agent.signing_key()).unwrap();
    let claims = ProofClaims {
        token: token.hash(),
        exporter,
        issued_at: UnixTime::now(),
        request: None,
    };
    key.mint(&claims).unwrap()
}

async fn call(client: &mut Http, token: &AccessToken, proof: Option<&Proof>) -> StatusCode {
    let mut request = client::get("/");
    request
        .headers_mut()
        .insert("authorization", token.authorization().clone());
    if let Some(proof) = proof {
        request
            .headers_mut()
            .insert(PROOF_HEADER, proof.header_value());
    }
    client.send(request).await.unwrap().status()
}
