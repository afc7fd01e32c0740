//! RS-13: the configuration of a layer is replaced while the server runs.

use std::sync::Arc;
use std::time::Duration;

use bowline_proof::dpop::{Claims, DPOP_HEADER, DpopKey};
use bowline_proof::{AccessToken, RequestClaims, Scheme, Windows};
use bowline_server::AcceptPolicy::{Follow, RequireBound, RequireProof};
use bowline_server::{
    BindingLayer, ExpectedClaims, Jwks, JwtValidator, Reloader, RequireRequestBound, ServerEvent,
    TokenError, TokenValidator, ValidToken,
};
use http::{Method, Request};
use http_body_util::Empty;
use rustls_pki_types::UnixTime;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::authority::{AUDIENCE, ISSUER, jwks};
use crate::fixture::*;
use crate::observe::{Events, request_bound};
use crate::policies::{get, layer, start, token};

type Change = fn(BindingLayer<JwtValidator>) -> BindingLayer<JwtValidator>;

/// A cached proof is verified again under the new configuration, whatever has changed.
#[tokio::test]
async fn each_reload_clears_the_caches_of_the_connections_that_are_open() {
    let fixture = Fixture::new();
    let events = Events::default();
    let layer = events.of(fixture.layer().policy(Follow));
    let reloader = layer.reloader();
    let server = start(&fixture, layer).await;
    let mut connection = HttpConnection::connect(server.addr, &fixture.client("h2")).await;
    let token = fixture.token();
    let proof = connection.proof(&fixture.agent.proof_key(), &token);
    let changes: [Change; 6] = [
        |layer| layer.policy(RequireProof),
        |layer| layer.observe(true),
        |layer| layer.observe(false),
        |layer| layer.origins(["https://other.example".parse().unwrap()]),
        |layer| layer.windows(Windows::default()),
        |layer| layer,
    ];
    for change in changes {
        let mut request = async |cached| {
            let answer = get(&mut connection, &token, Some(&proof), None).await;
            assert_eq!(answer.body["class"], "session");
            let events = events.0.lock().unwrap();
            let verified = events
                .iter()
                .rfind(|event| matches!(event, ServerEvent::Verified { .. }));
            assert_eq!(
                matches!(verified, Some(ServerEvent::Verified { cached: true, .. })),
                cached
            );
        };
        request(false).await;
        request(true).await;
        reloader.reload(change).unwrap();
        request(false).await;
        request(true).await;
        reloader.reload(|layer| layer).unwrap();
    }
    // A narrower window is in force at once.
    get(&mut connection, &token, Some(&proof), None)
        .await
        .assert_passed("session");
    fixture.clock.advance(100);
    let mut none = Windows::default();
    none.past = Duration::ZERO;
    none.future = Duration::ZERO;
    let old = connection.proof_at(
        &fixture.agent.proof_key(),
        &token,
        UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs() - 60)),
    );
    get(&mut connection, &token, Some(&old), None)
        .await
        .assert_passed("session");
    get(&mut connection, &token, Some(&old), None)
        .await
        .assert_passed("session");
    reloader.reload(|layer| layer.windows(none)).unwrap();
    get(&mut connection, &token, Some(&old), None)
        .await
        .assert_refused("RS-8");
}

/// Trust in an authorization server is a part of the configuration.
#[tokio::test]
async fn a_reload_replaces_the_validator() {
    let fixture = Fixture::new();
    let layer = fixture.layer();
    let reloader: Reloader<JwtValidator> = layer.reloader();
    let server = start(&fixture, layer).await;
    let mut connection = HttpConnection::connect(server.addr, &fixture.client("h2")).await;
    let other = crate::authority::Authority::new("k2");
    let x5t = fixture.agent.thumbprint();
    let (mine, theirs) = (fixture.token(), other.session_bound(&x5t));
    let mut classes = async || {
        let mut classes = Vec::new();
        for token in [&mine, &theirs] {
            let proof = connection.proof(&fixture.agent.proof_key(), token);
            let answer = get(&mut connection, token, Some(&proof), None).await;
            classes.push(answer.body["class"].clone());
        }
        classes
    };
    assert_eq!(classes().await, [json!("session"), Value::Null]);
    let keys = Jwks::document(jwks(&[&other])).unwrap();
    let expected = ExpectedClaims::new(AUDIENCE).issuer(ISSUER);
    let validator = JwtValidator::builder(expected, keys).build();
    reloader.reload(|layer| layer.validator(validator)).unwrap();
    assert_eq!(classes().await, [Value::Null, json!("session")]);
}

/// RS-9: a `jti` is forgotten when RS-8 refuses its proof. A wider window must not accept it again.
#[tokio::test]
async fn a_wider_window_accepts_no_proof_again_whose_jti_was_forgotten_by_the_narrower_one() {
    let fixture = Fixture::new();
    let layer = layer(&fixture, RequireProof).require_request_bound(RequireRequestBound::Always);
    let reloader = layer.reloader();
    let server = start(&fixture, layer).await;
    let mut connection = HttpConnection::connect(server.addr, &fixture.client("h2")).await;
    let token = fixture.token();
    let at = |ahead: u64| {
        UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs() + ahead))
    };
    let first = request_bound(&fixture, &connection, &token, at(0));
    let answer = get(&mut connection, &token, Some(&first), None).await;
    answer.assert_passed("session");
    let mut wide = Windows::default();
    wide.past = Duration::from_secs(3600);
    wide.future = Duration::from_secs(60);
    // Before and after it would be forgotten.
    reloader.reload(|layer| layer.windows(wide)).unwrap();
    get(&mut connection, &token, Some(&first), None)
        .await
        .assert_refused("RS-9");
    fixture.clock.advance(400);
    let second = request_bound(&fixture, &connection, &token, at(400));
    get(&mut connection, &token, Some(&second), None)
        .await
        .assert_passed("session");
    get(&mut connection, &token, Some(&first), None)
        .await
        .assert_refused("RS-8");
    get(&mut connection, &token, Some(&second), None)
        .await
        .assert_refused("RS-9");
    // What is issued from now on has the wider window, through which its `jti` is kept.
    fixture.clock.advance(3000);
    let third = request_bound(&fixture, &connection, &token, at(3400));
    get(&mut connection, &token, Some(&third), None)
        .await
        .assert_passed("session");
    get(&mut connection, &token, Some(&second), None)
        .await
        .assert_refused("RS-9");
    fixture.clock.advance(700);
    get(&mut connection, &token, Some(&second), None)
        .await
        .assert_refused("RS-8");
}

/// RFC 9449 §11.1: the same for a DPoP proof, whose `jti` is in the replay store.
#[tokio::test]
async fn a_wider_window_accepts_no_dpop_proof_again_that_the_store_has_forgotten() {
    let fixture = Fixture::new();
    let key = DpopKey::generate().unwrap();
    let cnf = json!({ "jkt": key.thumbprint().to_string() });
    let token = token(&fixture, Some(cnf)).with_scheme(Scheme::Dpop);
    let layer = layer(&fixture, RequireBound);
    let reloader = layer.reloader();
    let server = start(&fixture, layer).await;
    let mut connection = HttpConnection::connect(server.addr, &fixture.client("h2")).await;
    let proof = |ahead: u64| {
        let at = Duration::from_secs(UnixTime::now().as_secs() + ahead);
        let target = "https://api.example.com/".parse().unwrap();
        let claims = Claims {
            request: &RequestClaims::new(&Method::GET, &target).unwrap(),
            issued_at: UnixTime::since_unix_epoch(at),
            token: Some(token.hash()),
            nonce: None,
        };
        key.mint(&claims).unwrap()
    };
    let mut send = async |proof: &bowline_proof::dpop::Proof| {
        let request = Request::get("/")
            .header("authorization", token.authorization())
            .header(DPOP_HEADER, proof.header_value());
        let request = request.body(Empty::new()).unwrap();
        connection.send(request).await.unwrap()
    };
    let (first, second) = (proof(0), proof(400));
    send(&first).await.assert_passed("dpop");
    let mut wide = Windows::default();
    wide.past = Duration::from_secs(3600);
    wide.future = Duration::from_secs(60);
    reloader.reload(|layer| layer.windows(wide)).unwrap();
    fixture.clock.advance(400);
    send(&second).await.assert_passed("dpop");
    send(&first).await.assert_refused("DP-11");
    send(&second).await.assert_refused("DP-14");
}

/// Waits in the middle of a request.
struct Waiting {
    inner: JwtValidator,
    asked: Arc<Notify>,
    go_on: Arc<Notify>,
}

impl TokenValidator for Waiting {
    async fn validate(&self, token: &AccessToken) -> Result<ValidToken, TokenError> {
        self.asked.notify_one();
        self.go_on.notified().await;
        self.inner.validate(token).await
    }
}

/// It is checked by the former configuration to its end, and what it leaves in the cache is of no
/// use under the new one.
#[tokio::test]
async fn a_request_that_has_begun_leaves_nothing_behind_that_a_later_one_passes_by() {
    let fixture = Fixture::new();
    let (asked, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let keys = Jwks::document(jwks(&[&fixture.authority])).unwrap();
    let expected = ExpectedClaims::new(AUDIENCE).issuer(ISSUER);
    let layer = BindingLayer::new(Waiting {
        inner: JwtValidator::builder(expected, keys).build(),
        asked: asked.clone(),
        go_on: go_on.clone(),
    });
    let reloader = layer.reloader();
    let server = start(&fixture, layer).await;
    let mut connection = HttpConnection::connect(server.addr, &fixture.client("h2")).await;
    let token = fixture.token();
    let minute_ago = Duration::from_secs(UnixTime::now().as_secs() - 60);
    let issued_at = UnixTime::since_unix_epoch(minute_ago);
    let proof = connection.proof_at(&fixture.agent.proof_key(), &token, issued_at);
    let mut narrow = Windows::default();
    narrow.past = Duration::ZERO;
    let (answer, ()) = tokio::join!(get(&mut connection, &token, Some(&proof), None), async {
        within(asked.notified()).await;
        reloader.reload(|layer| layer.windows(narrow)).unwrap();
        go_on.notify_one();
    });
    answer.assert_passed("session");
    go_on.notify_one();
    let answer = get(&mut connection, &token, Some(&proof), None).await;
    answer.assert_refused("RS-8");
}
