//! RS-13: a policy that is observed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline_proof::dpop::DpopKey;
use bowline_proof::{AccessToken, PROOF_HEADER, Proof, ProofClaims, RequestClaims, Scheme};
use bowline_server::AcceptPolicy::{Follow, RequireBound, RequireProof, RequireSession};
use bowline_server::{
    BindingClass, BindingLayer, Dpop, DpopNonces, JwtValidator, MemoryReplayStore, RequiredScope,
    ServerEvent, UpstreamValidates,
};
use http::{Method, Request};
use http_body_util::Empty;
use rustls_pki_types::UnixTime;
use serde_json::json;

use crate::fixture::*;
use crate::log::Log;
use crate::policies::{POLICIES, certificate_bound, form, get, layer, start, token};

type Observing = BindingLayer<JwtValidator>;

const ORIGIN: &str = "https://api.example.com/";

#[derive(Clone, Default)]
pub(crate) struct Events(pub(crate) Arc<Mutex<Vec<ServerEvent>>>);

impl Events {
    pub(crate) fn of(&self, layer: Observing) -> Observing {
        let events = self.0.clone();
        layer.observer(move |event: &ServerEvent| events.lock().unwrap().push(*event))
    }

    /// The class, and one of the four counts with its check, of the last request.
    fn last(&self) -> (BindingClass, String) {
        let events = self.0.lock().unwrap();
        let [.., verified, observed] = &events[..] else {
            panic!("{events:?}")
        };
        match (verified, observed) {
            (ServerEvent::Verified { class, .. }, ServerEvent::Observed { outcome, .. }) => {
                let check = outcome.check().map_or("none", |check| check.id());
                (*class, format!("{} {check}", outcome.name()))
            }
            other => panic!("{other:?}"),
        }
    }

    fn was_cached(&self) -> bool {
        let events = self.0.lock().unwrap();
        matches!(
            events.last(),
            Some(ServerEvent::Verified { cached: true, .. })
        )
    }
}

fn assert_would_be(answer: &Answer, outcome: &str, check: &str) {
    assert_eq!(answer.status, 200, "{answer:?}");
    let expected = json!({
        "class": "none", "marked": false, "certificate": false, "presented": true,
        "subject": "agent", "observed": outcome, "check": check,
    });
    assert_eq!(answer.body, expected);
}

/// Every check that is observed, with a request that fails it.
#[tokio::test]
async fn what_a_policy_would_refuse_passes_with_class_none_and_is_counted_by_its_check() {
    let fixture = Fixture::new();
    let thief = fixture.ca.client("thief");
    let key = fixture.agent.proof_key();
    let cnf = |cnf| token(&fixture, Some(cnf));
    let (marked, bearer) = (fixture.token(), fixture.authority.bearer());
    let certificate = certificate_bound(&fixture);
    let others = cnf(json!({ "x5t#S256": thief.thumbprint() }));
    let unknown = cnf(json!({ "jwk": {} }));
    let other_label = cnf(json!({ "x5t#S256": fixture.agent.thumbprint(), "tls_exp": "x" }));
    let dpop = cnf(json!({ "jkt": fixture.agent.thumbprint() })).with_scheme(Scheme::Dpop);
    for policy in POLICIES {
        let events = Events::default();
        let observing = events.of(layer(&fixture, policy)).observe(true);
        let server = start(&fixture, observing).await;
        for alpn in ["h2", "http/1.1"] {
            let config = fixture.client(alpn);
            let mut connection = HttpConnection::connect(server.addr, &config).await;
            let elsewhere = HttpConnection::connect(server.addr, &config).await;
            let good = |token: &AccessToken| connection.proof(&key, token);
            let bad = |token: &AccessToken| elsewhere.proof(&key, token);
            let mut cases = vec![
                (&marked, None, "proof_missing", "proof_missing", "RS-4"),
                (
                    &marked,
                    Some(bad(&marked)),
                    "proof_failed",
                    "exporter",
                    "RS-6",
                ),
                (
                    &marked,
                    Some(connection.proof(&thief.proof_key(), &marked)),
                    "proof_failed",
                    "proof_thumbprint",
                    "RS-5",
                ),
                (
                    &marked,
                    Some(good(&bearer)),
                    "proof_failed",
                    "token_hash",
                    "RS-7",
                ),
                (
                    &marked,
                    Some(connection.proof_at(
                        &key,
                        &marked,
                        UnixTime::since_unix_epoch(Duration::ZERO),
                    )),
                    "proof_failed",
                    "issued_at",
                    "RS-8",
                ),
                (
                    &marked,
                    Some(connection.proof_for(&key, &marked, "https://other.example/")),
                    "proof_failed",
                    "target_uri",
                    "RS-9",
                ),
                (
                    &others,
                    Some(good(&others)),
                    "refused",
                    "token_certificate",
                    "RS-3",
                ),
                (&unknown, None, "refused", "confirmation", "TK-2"),
                (&other_label, None, "refused", "confirmation", "TK-2"),
            ];
            if policy != Follow {
                cases.push((
                    &bearer,
                    Some(good(&bearer)),
                    "refused",
                    "binding_required",
                    "RS-13",
                ));
            }
            match policy {
                RequireProof => {
                    cases.push((&certificate, None, "proof_missing", "proof_missing", "RS-4"));
                }
                RequireSession => {
                    cases.push((&certificate, None, "refused", "binding_required", "RS-13"));
                }
                _ => cases.push((&dpop, None, "proof_missing", "dpop_missing", "DP-13")),
            }
            if matches!(policy, RequireProof | RequireSession) {
                cases.push((&dpop, None, "refused", "binding_required", "RS-13"));
            }
            for (token, proof, outcome, check, id) in cases {
                let answer = get(&mut connection, token, proof.as_ref(), None).await;
                assert_would_be(&answer, outcome, check);
                assert_eq!(
                    events.last(),
                    (BindingClass::None, format!("{outcome} {id}"))
                );
            }
            // What the policy accepts has its class, and is counted too.
            let proof = connection.proof(&key, &marked);
            let answer = get(&mut connection, &marked, Some(&proof), None).await;
            assert_eq!(answer.body["class"], "session");
            assert_eq!(answer.body["certificate"], true);
            assert_eq!(
                events.last(),
                (BindingClass::Session, "held none".to_owned())
            );
        }
    }
}

#[tokio::test]
async fn a_token_in_the_wrong_place_passes_if_it_is_the_only_one() {
    let fixture = Fixture::new();
    let events = Events::default();
    let server = start(
        &fixture,
        events.of(layer(&fixture, RequireProof)).observe(true),
    )
    .await;
    let mut connection = HttpConnection::connect(server.addr, &fixture.client("h2")).await;
    let (token, other) = (fixture.token(), fixture.authority.bearer());
    let field = |token: &AccessToken| format!("Bearer {}", token.secret());
    let query = |token: &AccessToken| format!("/?access_token={}", token.secret());
    let invalid = AccessToken::new("made-up").unwrap();
    let cases = [
        (query(&token), vec![], true),
        (query(&token), vec![field(&token)], true),
        ("/".to_owned(), vec![field(&token), field(&token)], true),
        (query(&token), vec!["Basic YTpi".to_owned()], true),
        // A handler may take either, and only one can be validated.
        (query(&token), vec![field(&other)], false),
        ("/".to_owned(), vec![field(&token), field(&other)], false),
        // RS-2 refuses all the same.
        (query(&invalid), vec![], false),
    ];
    for (uri, fields, passes) in cases {
        let mut request = Request::get(&uri);
        for field in &fields {
            request = request.header("authorization", field);
        }
        let answer = connection
            .send(request.body(Empty::new()).unwrap())
            .await
            .unwrap();
        if passes {
            assert_would_be(&answer, "refused", "token_transport");
            assert_eq!(
                events.last(),
                (BindingClass::None, "refused TK-0".to_owned())
            );
        } else {
            assert_eq!(answer.status, 401, "{fields:?}");
        }
    }
}

#[tokio::test]
async fn what_is_not_the_policys_business_refuses_all_the_same() {
    let fixture = Fixture::new();
    let scope = RequiredScope::Always("read".parse().unwrap());
    let observing = layer(&fixture, RequireProof)
        .required_scope(scope)
        .observe(true);
    let server = start(&fixture, observing).await;
    let config = fixture.client("http/1.1");
    let mut connection = HttpConnection::connect(server.addr, &config).await;
    let request = Request::get("/").body(Empty::new()).unwrap();
    let answer = connection.send(request).await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), answer.challenge.as_deref()),
        (401, Some("Bearer"))
    );
    let stranger = crate::authority::Authority::new("k1").bearer();
    let answer = get(&mut connection, &stranger, None, None).await;
    answer.assert_refused("RS-2");
    // With a proof and without.
    let token = fixture.token();
    let proof = connection.proof(&fixture.agent.proof_key(), &token);
    for proof in [None, Some(&proof)] {
        assert_eq!(get(&mut connection, &token, proof, None).await.status, 403);
    }
    fixture.clock.advance(200 * 365 * 24 * 60 * 60);
    get(&mut connection, &token, None, None)
        .await
        .assert_refused("RS-1");
}

/// GW-4: the upstream validates the token.
#[tokio::test]
async fn binding_only_is_observed_too_and_an_opaque_token_is_refused_all_the_same() {
    let fixture = Fixture::new();
    let observing = BindingLayer::new(UpstreamValidates).policy(RequireProof);
    let server = start(&fixture, observing.observe(true)).await;
    let mut connection = HttpConnection::connect(server.addr, &fixture.client("h2")).await;
    for (token, outcome) in [
        (fixture.authority.bearer(), "refused"),
        (certificate_bound(&fixture), "proof_missing"),
    ] {
        let answer = get(&mut connection, &token, None, None).await;
        assert_eq!(answer.body["observed"], outcome, "{answer:?}");
        assert_eq!(answer.body["subject"], json!(null));
    }
    let token = fixture.token();
    let answer = connection.send(form(&token)).await.unwrap();
    assert_eq!(answer.body["check"], "token_transport", "{answer:?}");
    let opaque = AccessToken::new("2YotnFZFEjr1zCsicMWpAA").unwrap();
    get(&mut connection, &opaque, None, None)
        .await
        .assert_refused("RS-2");
}

/// A DPoP client must learn the nonce also where its requests pass.
#[tokio::test]
async fn a_nonce_is_given_to_a_client_that_would_be_asked_for_it() {
    let fixture = Fixture::new();
    let key = DpopKey::generate().unwrap();
    let cnf = json!({ "jkt": key.thumbprint().to_string() });
    let token = token(&fixture, Some(cnf)).with_scheme(Scheme::Dpop);
    let nonces = DpopNonces::random(Duration::from_secs(3600));
    let events = Events::default();
    let observing = events
        .of(layer(&fixture, RequireBound))
        .dpop(Dpop::new(MemoryReplayStore::default()).nonces(nonces))
        .observe(true);
    let server = start(&fixture, observing).await;
    let mut connection = HttpConnection::connect(server.addr, &fixture.client("h2")).await;
    let answer = get(&mut connection, &token, None, Some(&key)).await;
    assert_would_be(&answer, "proof_missing", "dpop_nonce");
    assert!(answer.nonce.is_some());
}

pub(crate) fn request_bound(
    fixture: &Fixture,
    connection: &HttpConnection,
    token: &AccessToken,
    issued_at: UnixTime,
) -> Proof {
    let request = RequestClaims::new(&Method::GET, &ORIGIN.parse().unwrap()).unwrap();
    let claims = ProofClaims {
        token: token.hash(),
        exporter: &connection.exporter,
        issued_at,
        request: Some(request),
    };
    fixture.agent.proof_key().mint(&claims).unwrap()
}

#[tokio::test]
async fn nothing_is_remembered_of_a_request_that_would_be_refused() {
    let fixture = Fixture::new();
    let events = Events::default();
    let observing = events.of(layer(&fixture, RequireSession)).observe(true);
    let reloader = observing.reloader();
    let server = start(&fixture, observing).await;
    let mut connection = HttpConnection::connect(server.addr, &fixture.client("h2")).await;
    // RS-13 would refuse the token, after its proof has passed RS-5..RS-9.
    let token = certificate_bound(&fixture);
    let reusable = connection.proof(&fixture.agent.proof_key(), &token);
    let once = request_bound(&fixture, &connection, &token, UnixTime::now());
    for _ in 0..3 {
        for proof in [&reusable, &once] {
            let answer = get(&mut connection, &token, Some(proof), None).await;
            assert_would_be(&answer, "refused", "binding_required");
        }
    }
    reloader
        .reload(|layer| layer.policy(RequireProof).observe(false))
        .unwrap();
    for (proof, again) in [(&reusable, 200), (&once, 401)] {
        let answer = get(&mut connection, &token, Some(proof), None).await;
        assert_eq!(answer.body["class"], "session");
        assert!(!events.was_cached());
        assert_eq!(
            get(&mut connection, &token, Some(proof), None).await.status,
            again
        );
    }
}

/// Enforced, the connection would be drained after the ninth and refuse the eleventh.
#[tokio::test]
async fn a_full_quota_of_jti_neither_drains_nor_closes() {
    let fixture = Fixture::new();
    for alpn in ["h2", "http/1.1"] {
        for observe in [true, false] {
            let events = Events::default();
            let layer = events
                .of(layer(&fixture, RequireProof))
                .jti_quota(10)
                .observe(observe);
            let server = start(&fixture, layer).await;
            let mut connection = HttpConnection::connect(server.addr, &fixture.client(alpn)).await;
            let token = fixture.token();
            for number in 0..if observe { 30 } else { 9 } {
                let proof = request_bound(&fixture, &connection, &token, UnixTime::now());
                let answer = get(&mut connection, &token, Some(&proof), None).await;
                assert_eq!(answer.status, 200, "{alpn} {number}: {answer:?}");
                if number >= 10 {
                    assert_would_be(&answer, "proof_failed", "replay_quota");
                }
            }
            if observe {
                assert!(!connection.ended.is_finished());
            } else {
                within(&mut connection.ended).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn the_log_says_at_the_start_and_after_a_reload_that_a_policy_is_only_observed() {
    let log = Log::of_the_process();
    let fixture = Fixture::new();
    let last = |part: &str| {
        let text = log.text();
        let line = text.lines().rfind(|line| line.contains(part));
        line.map(str::to_owned).unwrap_or_default()
    };
    // Other tests log it too, but none before the first one.
    let layer = layer(&fixture, RequireBound).observe(true);
    assert!(last("the policy is only observed").contains("WARN"));
    let reloader = layer.reloader();
    reloader.reload(|layer| layer).unwrap();
    let line = last("replaced; the policy is only observed policy=\"require_bound\"");
    assert!(line.contains("WARN"), "{line}");
    reloader
        .reload(|layer| layer.policy(RequireProof).observe(false).dpop(None))
        .unwrap();
    let line = last("replaced; the policy is enforced policy=\"require_proof\"");
    assert!(line.contains("INFO"), "{line}");
}

/// A bad proof under observe, reload to enforce, the same connection and proof: refused.
#[tokio::test]
async fn a_policy_that_is_enforced_after_it_was_observed_refuses_what_it_let_pass() {
    let fixture = Fixture::new();
    let observing = layer(&fixture, RequireProof).observe(true);
    let reloader = observing.reloader();
    let server = start(&fixture, observing).await;
    let token = certificate_bound(&fixture);
    for alpn in ["h2", "http/1.1"] {
        reloader.reload(|layer| layer.observe(true)).unwrap();
        let config = fixture.client(alpn);
        let mut connection = HttpConnection::connect(server.addr, &config).await;
        let elsewhere = HttpConnection::connect(server.addr, &config).await;
        let bad = elsewhere.proof(&fixture.agent.proof_key(), &token);
        for _ in 0..3 {
            let answer = get(&mut connection, &token, Some(&bad), None).await;
            assert_would_be(&answer, "proof_failed", "exporter");
        }
        reloader.reload(|layer| layer.observe(false)).unwrap();
        get(&mut connection, &token, Some(&bad), None)
            .await
            .assert_refused("RS-6");
        get(&mut connection, &token, None, None)
            .await
            .assert_refused("RS-4");
    }
}

/// A session-binding proof that came with a DPoP proof which is refused is not used up.
#[tokio::test]
async fn a_jti_is_not_used_up_by_a_request_whose_dpop_proof_is_a_replay() {
    let fixture = Fixture::new();
    let key = DpopKey::generate().unwrap();
    let cnf = json!({ "jkt": key.thumbprint().to_string() });
    let token = token(&fixture, Some(cnf)).with_scheme(Scheme::Dpop);
    let server = start(&fixture, layer(&fixture, Follow)).await;
    let mut connection = HttpConnection::connect(server.addr, &fixture.client("h2")).await;
    let claims =
        |connection: &HttpConnection| request_bound(&fixture, connection, &token, UnixTime::now());
    let dpop = {
        let claims = bowline_proof::dpop::Claims {
            request: &RequestClaims::new(&Method::GET, &ORIGIN.parse().unwrap()).unwrap(),
            issued_at: UnixTime::now(),
            token: Some(token.hash()),
            nonce: None,
        };
        key.mint(&claims).unwrap()
    };
    let (first, second) = (claims(&connection), claims(&connection));
    for (proof, id) in [(&first, None), (&second, Some("DP-14"))] {
        let request = Request::get("/")
            .header("authorization", token.authorization())
            .header("dpop", dpop.header_value())
            .header(PROOF_HEADER, proof.header_value());
        let answer = connection
            .send(request.body(Empty::new()).unwrap())
            .await
            .unwrap();
        match id {
            None => answer.assert_passed("dpop"),
            Some(id) => answer.assert_refused(id),
        }
    }
    let answer = get(&mut connection, &token, Some(&second), Some(&key)).await;
    answer.assert_passed("dpop");
    let answer = get(&mut connection, &token, Some(&second), Some(&key)).await;
    answer.assert_refused("RS-9");
}
