//! RS-13 over real TLS: each policy with each kind of token, with a proof, with none and with a bad
//! one; and the attacks that it is for.

use axum::extract::Extension;
use axum::routing::any;
use axum::{Json, Router};
use bowline_proof::dpop::{Claims, DPOP_HEADER, DpopKey};
use bowline_proof::{AccessToken, EXPORTER_LABEL, PROOF_HEADER, Proof, RequestClaims, Scheme};
use bowline_server::AcceptPolicy::{Follow, RequireBound, RequireProof, RequireSession};
use bowline_server::{
    AcceptPolicy, BindingLayer, ClientAuth, Dpop, InvalidPolicy, JwtValidator, MemoryReplayStore,
    TokenError, TokenValidator, UpstreamValidates, ValidToken, VerifiedBinding,
};
use http::{Method, Request};
use http_body_util::Empty;
use rustls_pki_types::UnixTime;
use serde_json::{Value, json};
use tower::Layer;

use crate::authority::Authority;
use crate::fixture::*;

pub(crate) const POLICIES: [AcceptPolicy; 4] = [Follow, RequireBound, RequireProof, RequireSession];

const ORIGIN: &str = "https://api.example.com/";

/// Answers with what a handler learns.
pub(crate) fn report() -> Router {
    let answer = |Extension(binding): Extension<VerifiedBinding>| async move {
        let observed = binding.observed();
        Json(json!({
            "class": binding.class().name(),
            "marked": binding.is_marked(),
            "certificate": binding.certificate().is_some(),
            "presented": binding.presented_certificate().is_some(),
            "subject": binding.claims()["sub"],
            "observed": observed.map(|observed| observed.name()),
            "check": observed.and_then(|observed| observed.check()).map(|check| check.name()),
        }))
    };
    Router::new().fallback(any(answer))
}

pub(crate) async fn start<V: TokenValidator>(
    fixture: &Fixture,
    layer: BindingLayer<V>,
) -> TestServer {
    // Optional, so that the policy alone decides.
    let tls = fixture.tls_with(ClientAuth::Optional(fixture.ca.roots().into()));
    let router = report().layer(layer);
    TestServer::start(fixture.listener(tls).await, router, fixture.options())
}

/// A token with this `cnf`.
pub(crate) fn token(fixture: &Fixture, cnf: Option<Value>) -> AccessToken {
    let mut claims = Authority::claims();
    if let Some(cnf) = cnf {
        claims["cnf"] = cnf;
    }
    fixture.authority.sign(&fixture.authority.header(), &claims)
}

/// A request with the token whose body is a form, in which another token could be.
pub(crate) fn form(token: &AccessToken) -> Request<Empty<bytes::Bytes>> {
    Request::post("/")
        .header("authorization", token.authorization())
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Empty::new())
        .unwrap()
}

pub(crate) fn certificate_bound(fixture: &Fixture) -> AccessToken {
    token(
        fixture,
        Some(json!({ "x5t#S256": fixture.agent.thumbprint() })),
    )
}

pub(crate) fn layer(fixture: &Fixture, policy: AcceptPolicy) -> BindingLayer<JwtValidator> {
    let layer = fixture
        .layer()
        .policy(policy)
        .origins([ORIGIN.parse().unwrap()]);
    match policy {
        Follow | RequireBound => layer.dpop(Dpop::new(MemoryReplayStore::default())),
        _ => layer,
    }
}

pub(crate) async fn get(
    connection: &mut HttpConnection,
    token: &AccessToken,
    proof: Option<&Proof>,
    dpop: Option<&DpopKey>,
) -> Answer {
    let mut request = Request::get("/").header("authorization", token.authorization());
    if let Some(proof) = proof {
        request = request.header(PROOF_HEADER, proof.header_value());
    }
    if let Some(key) = dpop {
        let claims = Claims {
            request: &RequestClaims::new(&Method::GET, &ORIGIN.parse().unwrap()).unwrap(),
            issued_at: UnixTime::now(),
            token: Some(token.hash()),
            nonce: None,
        };
        request = request.header(DPOP_HEADER, key.mint(&claims).unwrap().header_value());
    }
    let request = request.body(Empty::new()).unwrap();
    connection.send(request).await.unwrap()
}

/// A cell of the table: what the request passes as, or what refuses it and with which `error`.
#[derive(Clone, Copy)]
enum Cell {
    /// The class, and whether it is marked.
    Passes(&'static str, bool),
    Refused(&'static str, &'static str),
}

use Cell::{Passes, Refused};

impl Cell {
    fn assert(self, answer: &Answer, case: &str) {
        match self {
            Passes(class, marked) => {
                let found = (answer.status.as_u16(), &answer.body["class"]);
                assert_eq!(found, (200, &json!(class)), "{case}: {answer:?}");
                assert_eq!(answer.body["marked"], marked, "{case}");
                assert_eq!(answer.body["observed"], Value::Null, "{case}");
            }
            Refused(id, error) => {
                let challenge = answer.challenge.as_deref().unwrap_or_default();
                assert_eq!(answer.status, 401, "{case}: {answer:?}");
                for part in [
                    format!("error=\"{error}\""),
                    format!("error_description=\"{id}: "),
                ] {
                    assert!(
                        challenge.contains(&part),
                        "{case}: {challenge} has no {part}"
                    );
                }
            }
        }
    }
}

const NO_BEARER: Cell = Refused("RS-13", "invalid_token");
const NO_DPOP: Cell = Refused("RS-13", "invalid_token");
const UNKNOWN: Cell = Refused("TK-2", "invalid_token");
const OTHERS: Cell = Refused("RS-3", "invalid_token");
const BAD: Cell = Refused("RS-6", "invalid_proof");
const MISSING: Cell = Refused("RS-4", "use_session_binding");

/// The table: for each kind of token and policy, without a proof, with a good one, and with one of
/// another connection of the same client.
#[rustfmt::skip]
const TABLE: &[(&str, [[Cell; 3]; 4])] = &[
    ("marked", [[MISSING, Passes("session", true), BAD]; 4]),
    ("certificate", [
        [Passes("certificate", false), Passes("session", false), BAD],
        [Passes("certificate", false), Passes("session", false), BAD],
        [MISSING, Passes("session", false), BAD],
        [Refused("RS-13", "invalid_token"), Refused("RS-13", "invalid_token"), BAD],
    ]),
    // A session-binding proof that is sent besides is verified, and makes no session of it.
    ("dpop", [
        [Passes("dpop", false), Passes("dpop", false), BAD],
        [Passes("dpop", false), Passes("dpop", false), BAD],
        [NO_DPOP; 3],
        [NO_DPOP; 3],
    ]),
    ("dpop without its proof", [
        [Refused("DP-13", "invalid_dpop_proof"); 3],
        [Refused("DP-13", "invalid_dpop_proof"); 3],
        [NO_DPOP; 3],
        [NO_DPOP; 3],
    ]),
    ("dpop by Bearer", [
        [Refused("DP-16", "invalid_token"); 3],
        [Refused("DP-16", "invalid_token"); 3],
        [NO_DPOP; 3],
        [NO_DPOP; 3],
    ]),
    ("both", [
        [Passes("dpop", false), Passes("dpop", false), BAD],
        [Passes("dpop", false), Passes("dpop", false), BAD],
        [NO_DPOP; 3],
        [NO_DPOP; 3],
    ]),
    ("both, of another certificate", [
        [OTHERS; 3],
        [OTHERS; 3],
        [NO_DPOP; 3],
        [NO_DPOP; 3],
    ]),
    ("bearer", [
        [Passes("bearer", false), Passes("bearer", false), BAD],
        [NO_BEARER, NO_BEARER, BAD],
        [NO_BEARER, NO_BEARER, BAD],
        [NO_BEARER, NO_BEARER, BAD],
    ]),
    ("of another certificate", [[OTHERS; 3]; 4]),
    // TK-5
    ("empty cnf", [[UNKNOWN; 3]; 4]),
    ("unknown cnf", [[UNKNOWN; 3]; 4]),
    // TK-0, TK-2
    ("tls_exp and jkt", [[UNKNOWN; 3]; 4]),
    ("another label", [[UNKNOWN; 3]; 4]),
];

#[tokio::test]
async fn rs_13_each_policy_decides_by_the_table() {
    let fixture = Fixture::new();
    let key = DpopKey::generate().unwrap();
    let (x5t, jkt) = (fixture.agent.thumbprint(), key.thumbprint().to_string());
    let other = fixture.ca.client("other").thumbprint();
    let named = |name: &str| {
        let (cnf, scheme, dpop) = match name {
            "marked" => (
                json!({ "x5t#S256": x5t, "tls_exp": EXPORTER_LABEL }),
                Scheme::Bearer,
                false,
            ),
            "certificate" => (json!({ "x5t#S256": x5t }), Scheme::Bearer, false),
            "dpop" => (json!({ "jkt": jkt }), Scheme::Dpop, true),
            "dpop without its proof" => (json!({ "jkt": jkt }), Scheme::Dpop, false),
            "dpop by Bearer" => (json!({ "jkt": jkt }), Scheme::Bearer, true),
            "both" => (json!({ "x5t#S256": x5t, "jkt": jkt }), Scheme::Dpop, true),
            "both, of another certificate" => {
                (json!({ "x5t#S256": other, "jkt": jkt }), Scheme::Dpop, true)
            }
            "of another certificate" => (json!({ "x5t#S256": other }), Scheme::Bearer, false),
            "empty cnf" => (json!({}), Scheme::Bearer, false),
            "unknown cnf" => (json!({ "x5t#S512": x5t }), Scheme::Bearer, false),
            "tls_exp and jkt" => (
                json!({ "x5t#S256": x5t, "jkt": jkt, "tls_exp": EXPORTER_LABEL }),
                Scheme::Bearer,
                false,
            ),
            "another label" => (
                json!({ "x5t#S256": x5t, "tls_exp": "EXPORTER-x" }),
                Scheme::Bearer,
                false,
            ),
            name => panic!("{name}"),
        };
        (token(&fixture, Some(cnf)).with_scheme(scheme), dpop)
    };
    for (column, policy) in POLICIES.into_iter().enumerate() {
        let server = start(&fixture, layer(&fixture, policy)).await;
        for alpn in ["h2", "http/1.1"] {
            let config = fixture.client(alpn);
            let mut connection = HttpConnection::connect(server.addr, &config).await;
            let elsewhere = HttpConnection::connect(server.addr, &config).await;
            for (name, rows) in TABLE {
                let (token, with_dpop) = match *name {
                    "bearer" => (token(&fixture, None), false),
                    name => named(name),
                };
                let session_key = fixture.agent.proof_key();
                let good = connection.proof(&session_key, &token);
                let bad = elsewhere.proof(&session_key, &token);
                let proofs = [None, Some(&good), Some(&bad)];
                for (cell, (proof, sent)) in rows[column]
                    .into_iter()
                    .zip(proofs.into_iter().zip(["no", "good", "bad"]))
                {
                    let dpop = with_dpop.then_some(&key);
                    let answer = get(&mut connection, &token, proof, dpop).await;
                    cell.assert(&answer, &format!("{policy}, {name}, {sent} proof, {alpn}"));
                }
            }
        }
    }
}

/// RS-1, RS-3 and RS-5: no policy lets a bound token pass on a connection without a certificate.
#[tokio::test]
async fn without_a_client_certificate_only_unbound_and_dpop_bound_tokens_pass_where_they_may() {
    let fixture = Fixture::new();
    let config = fixture.client_as(None, "h2", rustls::ALL_VERSIONS);
    for policy in POLICIES {
        let server = start(&fixture, layer(&fixture, policy)).await;
        let mut connection = HttpConnection::connect(server.addr, &config).await;
        for bound in [fixture.token(), certificate_bound(&fixture)] {
            let answer = get(&mut connection, &bound, None, None).await;
            Refused("RS-3", "invalid_token").assert(&answer, policy.name());
        }
        let bearer = fixture.authority.bearer();
        let answer = get(&mut connection, &bearer, None, None).await;
        match policy {
            Follow => Passes("bearer", false).assert(&answer, policy.name()),
            _ => NO_BEARER.assert(&answer, policy.name()),
        }
        let own = connection.proof(&fixture.agent.proof_key(), &bearer);
        let answer = get(&mut connection, &bearer, Some(&own), None).await;
        Refused("RS-5", "invalid_proof").assert(&answer, policy.name());
    }
}

#[tokio::test]
async fn only_of_a_marked_token_the_challenge_says_that_the_token_asks_for_a_proof() {
    let fixture = Fixture::new();
    let server = start(&fixture, layer(&fixture, RequireProof)).await;
    let mut connection = HttpConnection::connect(server.addr, &fixture.client("h2")).await;
    for (token, claims) in [
        (fixture.token(), true),
        (certificate_bound(&fixture), false),
    ] {
        let answer = get(&mut connection, &token, None, None).await;
        MISSING.assert(&answer, "");
        let challenge = answer.challenge.unwrap();
        assert_eq!(
            challenge.contains("the access token requires"),
            claims,
            "{challenge}"
        );
    }
}

/// What refuses a stolen certificate-bound token, for each policy.
struct Stolen {
    without_proof: [Cell; 4],
    with_proof: [Cell; 4],
}

const RFC_8705: Cell = Passes("certificate", false);

/// T1 and T7: the thief's connection has the victim's certificate. Under `Follow` and
/// `RequireBound` they succeed when the thief leaves the proof away. That is why `RequireProof`
/// exists.
const SAME_CERTIFICATE: Stolen = Stolen {
    without_proof: [
        RFC_8705,
        RFC_8705,
        MISSING,
        Refused("RS-13", "invalid_token"),
    ],
    with_proof: [BAD; 4],
};

#[tokio::test]
async fn t1_a_stolen_certificate_bound_token_on_another_connection_with_the_same_certificate() {
    let fixture = Fixture::new();
    let token = certificate_bound(&fixture);
    for (column, policy) in POLICIES.into_iter().enumerate() {
        let server = start(&fixture, layer(&fixture, policy)).await;
        for alpn in ["h2", "http/1.1"] {
            let config = fixture.client(alpn);
            let mut victim = HttpConnection::connect(server.addr, &config).await;
            let proof = victim.proof(&fixture.agent.proof_key(), &token);
            let answer = get(&mut victim, &token, Some(&proof), None).await;
            assert_eq!(answer.status == 200, policy != RequireSession, "{answer:?}");
            let mut thief = HttpConnection::connect(server.addr, &config).await;
            let answer = get(&mut thief, &token, Some(&proof), None).await;
            SAME_CERTIFICATE.with_proof[column].assert(&answer, policy.name());
            let answer = get(&mut thief, &token, None, None).await;
            SAME_CERTIFICATE.without_proof[column].assert(&answer, policy.name());
        }
    }
}

/// The victim's ticket without the victim's key: RS-3 holds on the resumed session (RFC 8705).
#[tokio::test]
async fn t7_a_stolen_ticket_and_a_certificate_bound_token_without_the_key() {
    let fixture = Fixture::new();
    let token = certificate_bound(&fixture);
    let own = fixture.ca.client("thief").proof_key();
    for (column, policy) in POLICIES.into_iter().enumerate() {
        let server = start(&fixture, layer(&fixture, policy)).await;
        // The same configuration holds the ticket.
        let config = fixture.client("h2");
        let mut victim = HttpConnection::connect(server.addr, &config).await;
        let proof = victim.proof(&fixture.agent.proof_key(), &token);
        get(&mut victim, &token, Some(&proof), None).await;
        let mut thief = HttpConnection::connect(server.addr, &config).await;
        assert!(thief.resumed);
        let answer = get(&mut thief, &token, Some(&proof), None).await;
        SAME_CERTIFICATE.with_proof[column].assert(&answer, policy.name());
        let own = thief.proof(&own, &token);
        let answer = get(&mut thief, &token, Some(&own), None).await;
        Refused("RS-5", "invalid_proof").assert(&answer, policy.name());
        let answer = get(&mut thief, &token, None, None).await;
        SAME_CERTIFICATE.without_proof[column].assert(&answer, policy.name());
    }
}

#[tokio::test]
async fn t2_t4_a_certificate_bound_token_and_its_proof_stolen_by_a_client_with_another_certificate()
{
    let fixture = Fixture::new();
    let thief = fixture.ca.client("thief");
    let config = fixture.client_as(Some(&thief), "h2", rustls::ALL_VERSIONS);
    for policy in POLICIES {
        let server = start(&fixture, layer(&fixture, policy)).await;
        let victim = HttpConnection::connect(server.addr, &fixture.client("h2")).await;
        let mut connection = HttpConnection::connect(server.addr, &config).await;
        for token in [certificate_bound(&fixture), fixture.token()] {
            let stolen = victim.proof(&fixture.agent.proof_key(), &token);
            let own = connection.proof(&thief.proof_key(), &token);
            for proof in [None, Some(&stolen), Some(&own)] {
                let answer = get(&mut connection, &token, proof, None).await;
                Refused("RS-3", "invalid_token").assert(&answer, policy.name());
            }
        }
        // A stolen bearer token, with a certificate and a proof of the thief's own.
        let bearer = fixture.authority.bearer();
        let own = connection.proof(&thief.proof_key(), &bearer);
        let answer = get(&mut connection, &bearer, Some(&own), None).await;
        match policy {
            Follow => Passes("bearer", false).assert(&answer, policy.name()),
            _ => NO_BEARER.assert(&answer, policy.name()),
        }
    }
}

#[tokio::test]
async fn gw_4_binding_only_demands_a_proof_for_every_token() {
    let fixture = Fixture::new();
    for policy in [RequireProof, RequireSession] {
        let layer = BindingLayer::new(UpstreamValidates).policy(policy);
        let server = start(&fixture, layer).await;
        let mut connection = HttpConnection::connect(server.addr, &fixture.client("h2")).await;
        let key = fixture.agent.proof_key();
        let refused = Refused("RS-13", "invalid_token");
        let (marked, certificate) = (fixture.token(), certificate_bound(&fixture));
        let cells = match policy {
            RequireProof => [MISSING, Passes("session", false)],
            _ => [refused; 2],
        };
        for (token, cells) in [
            (marked, [MISSING, Passes("session", true)]),
            (certificate, cells),
            (fixture.authority.bearer(), [refused; 2]),
        ] {
            let proof = connection.proof(&key, &token);
            for (proof, cell) in [None, Some(&proof)].into_iter().zip(cells) {
                let answer = get(&mut connection, &token, proof, None).await;
                cell.assert(&answer, policy.name());
            }
        }
        // The upstream could take another token from the body.
        let token = fixture.token();
        let proof = connection.proof(&key, &token);
        for (name, value, passes) in [
            ("content-type", "application/json", true),
            ("content-type", "application/x-www-form-urlencoded", false),
            (
                "content-type",
                "Application/X-WWW-Form-URLencoded ; charset=utf-8",
                false,
            ),
            (
                "content-type",
                "text/plain, multipart/form-data; boundary=a",
                false,
            ),
            ("content_type", "application/x-www-form-urlencoded", false),
        ] {
            let request = Request::post("/")
                .header("authorization", token.authorization())
                .header(PROOF_HEADER, proof.header_value())
                .header(name, value);
            let request = request.body(Empty::new()).unwrap();
            let answer = connection.send(request).await.unwrap();
            if passes {
                Passes("session", true).assert(&answer, value);
            } else {
                Refused("TK-0", "invalid_token").assert(&answer, value);
            }
        }
    }
}

/// A validator that does not say that it validates nothing.
struct Silent;

impl TokenValidator for Silent {
    async fn validate(&self, token: &AccessToken) -> Result<ValidToken, TokenError> {
        UpstreamValidates.validate(token).await
    }
}

#[tokio::test]
async fn gw_4_unverified_claims_are_proved_under_every_policy() {
    let fixture = Fixture::new();
    for policy in [Follow, RequireBound] {
        let server = start(&fixture, BindingLayer::new(Silent).policy(policy)).await;
        let mut connection = HttpConnection::connect(server.addr, &fixture.client("h2")).await;
        let key = fixture.agent.proof_key();
        let bearer = fixture.authority.bearer();
        let proof = connection.proof(&key, &bearer);
        let answer = get(&mut connection, &bearer, Some(&proof), None).await;
        NO_BEARER.assert(&answer, policy.name());
        let token = certificate_bound(&fixture);
        let answer = get(&mut connection, &token, None, None).await;
        MISSING.assert(&answer, policy.name());
        let answer = connection.send(form(&token)).await.unwrap();
        Refused("TK-0", "invalid_token").assert(&answer, policy.name());
    }
}

#[tokio::test]
async fn options_that_contradict_the_policy_are_configuration_errors() {
    let fixture = Fixture::new();
    let dpop = || Dpop::new(MemoryReplayStore::default());
    for policy in POLICIES {
        let binding_only = BindingLayer::new(UpstreamValidates).policy(policy);
        let with_dpop = fixture.layer().policy(policy).dpop(dpop());
        let is_lax = matches!(policy, Follow | RequireBound);
        let (no_binding_only, no_dpop) = if is_lax {
            (Err(InvalidPolicy::BindingOnly(policy)), Ok(()))
        } else {
            (Ok(()), Err(InvalidPolicy::Dpop(policy)))
        };
        assert_eq!(binding_only.check(), no_binding_only);
        assert_eq!(with_dpop.check(), no_dpop);
        assert_eq!(fixture.layer().policy(policy).check(), Ok(()));
        // It is no better observed.
        assert_eq!(binding_only.clone().observe(true).check(), no_binding_only);

        // Nothing is served.
        let refuses = |serve: &mut dyn FnMut()| {
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(serve)).is_err()
        };
        assert_eq!(
            refuses(&mut || drop(binding_only.layer(()))),
            no_binding_only.is_err()
        );
        assert_eq!(refuses(&mut || drop(with_dpop.layer(()))), no_dpop.is_err());
        // Nor reloaded.
        let layer = fixture.layer();
        let reloader = layer.reloader();
        let outcome = reloader.reload(|layer| layer.policy(policy).dpop(dpop()));
        assert_eq!(outcome, no_dpop);
        let in_use = format!("{layer:?}");
        let expected = if is_lax { policy } else { RequireSession };
        assert!(in_use.contains(&format!("{expected:?}")), "{in_use}");
    }
    let error = InvalidPolicy::BindingOnly(Follow).to_string();
    assert!(
        error.contains("RequireProof") && error.contains("UpstreamValidates"),
        "{error}"
    );
}
