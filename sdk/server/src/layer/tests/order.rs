//! Which check is reported if several fail.

use std::sync::atomic::Ordering;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bowline_proof::{Check, EXPORTER_LABEL};
use serde_json::json;

use super::fixture::*;
use crate::{AcceptPolicy, RequireRequestBound, RequiredScope};

/// The check that refuses next, and the repair after which it passes.
type Step = (Check, Box<dyn Fn(&mut Fixture)>);

#[tokio::test]
async fn the_first_check_that_fails_is_the_one_that_is_reported() {
    let mut fixture = Fixture::default();
    let (mine, other) = (CLIENT.thumbprint(), OTHER_CLIENT.thumbprint());
    // Everything is wrong at first.
    fixture.now.store(2_300_000_000, Ordering::SeqCst);
    fixture.uri = "/mcp?access_token=x".to_owned();
    fixture.authorization = Some(vec![]);
    fixture.token = "stranger".to_owned();
    fixture.proofs = Some(vec![]);
    fixture.signer = &OTHER_CLIENT;
    fixture.proof_header = json!({ "typ": "JWT", "alg": "ES256", "x5t#S256": other });
    fixture.proof_claims = json!({
        "ekm": URL_SAFE_NO_PAD.encode([8; 32]),
        "ath": ath("another"),
        "iat": 1,
        "htm": "GET",
        "htu": "/other",
        "jti": "1",
    });
    fixture.configure(|layer| layer.jti_quota(0));
    // Then it is repaired step by step.
    let steps: Vec<Step> = vec![
        (
            Check::Certificate,
            Box::new(|fixture| fixture.now.store(NOW, Ordering::SeqCst)),
        ),
        (
            Check::TokenTransport,
            Box::new(|fixture| fixture.uri = "/mcp".to_owned()),
        ),
        (
            Check::NoToken,
            Box::new(|fixture| fixture.authorization = None),
        ),
        (
            Check::Token,
            Box::new(|fixture| fixture.token = fixture.tokens.issue(json!({ "cnf": 1 }))),
        ),
        (Check::Confirmation, {
            let cnf = json!({ "cnf": { "x5t#S256": other, "tls_exp": EXPORTER_LABEL } });
            Box::new(move |fixture| fixture.token = fixture.tokens.issue(cnf.clone()))
        }),
        (Check::TokenCertificate, {
            let cnf = json!({ "cnf": { "x5t#S256": mine, "tls_exp": EXPORTER_LABEL } });
            Box::new(move |fixture| fixture.token = fixture.tokens.issue(cnf.clone()))
        }),
        (
            Check::ProofMissing,
            Box::new(|fixture| fixture.proofs = Some(vec![".".to_owned(), ".".to_owned()])),
        ),
        (
            Check::ProofDuplicated,
            Box::new(|fixture| fixture.proofs = Some(vec![".".to_owned()])),
        ),
        (
            Check::ProofSyntax,
            Box::new(|fixture| fixture.proofs = None),
        ),
        (
            Check::ProofType,
            Box::new(|fixture| fixture.proof_header["typ"] = "tls-binding-proof+jwt".into()),
        ),
        (
            Check::ProofAlgorithm,
            Box::new(|fixture| fixture.proof_header["alg"] = "EdDSA".into()),
        ),
        (
            Check::ProofThumbprint,
            Box::new(move |fixture| fixture.proof_header["x5t#S256"] = mine.clone().into()),
        ),
        (
            Check::ProofSignature,
            Box::new(|fixture| fixture.signer = &CLIENT),
        ),
        (
            Check::Exporter,
            Box::new(|fixture| {
                fixture.proof_claims["ekm"] = URL_SAFE_NO_PAD.encode(EXPORTER).into()
            }),
        ),
        (
            Check::TokenHash,
            Box::new(|fixture| fixture.proof_claims["ath"] = ath(&fixture.token)),
        ),
        (
            Check::IssuedAt,
            Box::new(|fixture| fixture.proof_claims["iat"] = NOW.into()),
        ),
        (
            Check::Method,
            Box::new(|fixture| fixture.proof_claims["htm"] = "POST".into()),
        ),
        (
            Check::TargetUri,
            Box::new(|fixture| fixture.proof_claims["htu"] = "/mcp".into()),
        ),
        (
            Check::ReplayQuota,
            Box::new(|fixture| fixture.configure(|layer| layer.jti_quota(1))),
        ),
    ];
    assert_refused_in_order(&mut fixture, steps).await;
}

#[tokio::test]
async fn the_servers_own_requirements_are_checked_last_and_in_order() {
    let mut fixture = Fixture::default();
    fixture.use_token(json!({ "scope": "write" }));
    fixture.configure(|layer| {
        layer
            .require_request_bound(RequireRequestBound::Always)
            .policy(AcceptPolicy::RequireSession)
            .required_scope(RequiredScope::Always("read".parse().unwrap()))
            .jti_quota(0)
    });
    let steps: Vec<Step> = vec![
        (
            Check::RequestClaimsRequired,
            Box::new(|fixture| fixture.add_request_claims("1")),
        ),
        (Check::BindingRequired, {
            let cnf = json!({ "x5t#S256": CLIENT.thumbprint(), "tls_exp": EXPORTER_LABEL });
            Box::new(move |fixture| fixture.use_token(json!({ "cnf": cnf, "scope": "write" })))
        }),
        (Check::Scope, {
            let cnf = json!({ "x5t#S256": CLIENT.thumbprint(), "tls_exp": EXPORTER_LABEL });
            Box::new(move |fixture| fixture.use_token(json!({ "cnf": cnf, "scope": "read write" })))
        }),
        (
            Check::ReplayQuota,
            Box::new(|fixture| fixture.configure(|layer| layer.jti_quota(1))),
        ),
    ];
    assert_refused_in_order(&mut fixture, steps).await;
}

/// Each step's check refuses, until the request passes after the last repair.
async fn assert_refused_in_order(fixture: &mut Fixture, steps: Vec<Step>) {
    for (check, repair) in steps {
        assert_eq!(fixture.send().await.check(), Some(check));
        repair(fixture);
    }
    assert!(fixture.send().await.has_passed());
}
