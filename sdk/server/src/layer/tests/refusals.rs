//! For every check, requests that fail it and no other: what is spoiled is all that differs from a
//! request that passes.

use std::sync::atomic::Ordering;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bowline_proof::{Challenge, Check, EXPORTER_LABEL, challenges};
use serde_json::json;

use super::world::*;
use crate::{AcceptPolicy, RequireRequestBound, ServerEvent};

/// A name, the check that must refuse, and what is wrong with the request.
type Case = (&'static str, Check, fn(&mut World));

#[tokio::test]
async fn a_request_that_nothing_is_wrong_with_passes() {
    let outcome = World::default().send().await;
    assert!(outcome.has_passed());
}

#[tokio::test]
async fn rs_1_refuses_an_expired_certificate() {
    let cases: &[Case] = &[("past its notAfter", Check::Certificate, |world| {
        let later = 2_300_000_000; // 2042
        world.now.store(later, Ordering::SeqCst);
        // A fresh proof, so that its age is not what is wrong.
        world.proof_claims["iat"] = later.into();
    })];
    assert_refused(cases).await;
}

#[tokio::test]
async fn rs_2_refuses_a_token_that_is_not_valid() {
    let cases: &[Case] = &[
        ("not valid, says the validator", Check::Token, |world| {
            world.token = "stranger".to_owned();
            world.proof_claims["ath"] = ath("stranger");
        }),
        ("not a token at all", Check::Token, |world| {
            world.authorization = Some(vec![format!("Bearer {} {}", world.token, world.token)]);
        }),
        ("empty", Check::Token, |world| {
            world.authorization = Some(vec!["Bearer ".to_owned()])
        }),
        ("too long", Check::Token, |world| {
            world.authorization = Some(vec![format!("Bearer {}", "a".repeat(65 * 1024))]);
        }),
    ];
    assert_refused(cases).await;
}

#[tokio::test]
async fn tk_0_refuses_a_token_elsewhere_than_in_one_authorization_header() {
    let cases: &[Case] = &[
        ("also in the query", Check::TokenTransport, |world| {
            world.uri = format!("/mcp?a=b&access_token={}", world.token);
        }),
        (
            "in the query under an escaped name",
            Check::TokenTransport,
            |world| {
                world.uri = format!("/mcp?access%5ftoken={}", world.token);
            },
        ),
        ("only in the query", Check::TokenTransport, |world| {
            world.uri = format!("/mcp?access_token={}", world.token);
            world.authorization = Some(vec![]);
        }),
        (
            "in two Authorization headers",
            Check::TokenTransport,
            |world| {
                let field = format!("Bearer {}", world.token);
                world.authorization = Some(vec![field.clone(), field]);
            },
        ),
    ];
    assert_refused(cases).await;
}

#[tokio::test]
async fn rs_10_gives_a_bare_challenge_when_there_is_no_token() {
    let cases: &[Case] = &[
        ("no Authorization", Check::NoToken, |world| {
            world.authorization = Some(vec![])
        }),
        ("another scheme", Check::NoToken, |world| {
            world.authorization = Some(vec![format!("DPoP {}", world.token)]);
        }),
        ("a scheme that only begins alike", Check::NoToken, |world| {
            world.authorization = Some(vec![format!("Bearerer {}", world.token)]);
        }),
    ];
    assert_refused(cases).await;

    let outcome = without_token().send().await;
    assert_eq!(outcome.header("www-authenticate"), Some("Bearer"));
}

fn without_token() -> World {
    World {
        authorization: Some(vec![]),
        ..World::default()
    }
}

#[tokio::test]
async fn tk_1_and_tk_2_refuse_a_cnf_that_is_malformed_or_cannot_be_satisfied() {
    let cases: &[Case] = &[
        ("another exporter label", Check::Confirmation, |world| {
            world.use_token(
                json!({ "cnf": { "x5t#S256": CLIENT.thumbprint(), "tls_exp": "EXPORTER-other" } }),
            );
        }),
        (
            "tls_exp without a certificate",
            Check::Confirmation,
            |world| {
                world.use_token(json!({ "cnf": { "tls_exp": EXPORTER_LABEL } }));
            },
        ),
        ("tls_exp is no string", Check::Confirmation, |world| {
            world.use_token(json!({ "cnf": { "x5t#S256": CLIENT.thumbprint(), "tls_exp": true } }));
        }),
        ("x5t#S256 is no thumbprint", Check::Confirmation, |world| {
            world.use_token(json!({ "cnf": { "x5t#S256": "AAAA" } }));
        }),
        ("cnf is no object", Check::Confirmation, |world| {
            world.use_token(json!({ "cnf": "x" }))
        }),
        ("both jkt and tls_exp", Check::Confirmation, |world| {
            let x5t = CLIENT.thumbprint();
            world.use_token(
                json!({ "cnf": { "x5t#S256": x5t, "jkt": x5t, "tls_exp": EXPORTER_LABEL } }),
            );
        }),
        ("bound to a DPoP key", Check::Confirmation, |world| {
            world.use_token(json!({ "cnf": { "jkt": CLIENT.thumbprint() } }));
        }),
    ];
    assert_refused(cases).await;
}

#[tokio::test]
async fn rs_3_refuses_a_token_of_another_certificate() {
    let cases: &[Case] = &[
        (
            "session-bound to another",
            Check::TokenCertificate,
            |world| {
                world.use_token(json!({ "cnf": { "x5t#S256": OTHER_CLIENT.thumbprint(), "tls_exp": EXPORTER_LABEL } }));
            },
        ),
        (
            "bound to another, no proof asked for",
            Check::TokenCertificate,
            |world| {
                world.use_token(json!({ "cnf": { "x5t#S256": OTHER_CLIENT.thumbprint() } }));
            },
        ),
        ("no client certificate", Check::TokenCertificate, |world| {
            world.facts = Some(connection(None, EXPORTER));
        }),
        (
            "no client certificate, no proof asked for",
            Check::TokenCertificate,
            |world| {
                world.use_token(json!({ "cnf": { "x5t#S256": CLIENT.thumbprint() } }));
                world.facts = Some(connection(None, EXPORTER));
                world.proofs = Some(vec![]);
            },
        ),
    ];
    assert_refused(cases).await;
}

#[tokio::test]
async fn rs_4_wants_exactly_one_proof() {
    let cases: &[Case] = &[
        ("none", Check::ProofMissing, |world| {
            world.proofs = Some(vec![])
        }),
        ("two", Check::ProofDuplicated, |world| {
            world.proofs = Some(vec![world.proof(), world.proof()])
        }),
        (
            "two, though none is asked for",
            Check::ProofDuplicated,
            |world| {
                world.use_token(json!({}));
                world.proofs = Some(vec![world.proof(), world.proof()]);
            },
        ),
    ];
    assert_refused(cases).await;
}

#[tokio::test]
async fn rs_5_refuses_a_proof_that_is_not_one_of_this_certificates_key() {
    let cases: &[Case] = &[
        ("no JWS", Check::ProofSyntax, |world| {
            world.proofs = Some(vec!["proof".to_owned()])
        }),
        ("empty", Check::ProofSyntax, |world| {
            world.proofs = Some(vec![String::new()])
        }),
        ("two in one field", Check::ProofSyntax, |world| {
            world.proofs = Some(vec![format!("{0},{0}", world.proof())]);
        }),
        ("over 8 KiB", Check::ProofSyntax, |world| {
            world.proof_claims["padding"] = "x".repeat(8 * 1024).into();
        }),
        ("crit", Check::ProofSyntax, |world| {
            world.proof_header["crit"] = json!(["exp"])
        }),
        ("typ", Check::ProofType, |world| {
            world.proof_header["typ"] = "JWT".into()
        }),
        ("alg none", Check::ProofAlgorithm, |world| {
            world.proof_header["alg"] = "none".into()
        }),
        ("alg of a symmetric key", Check::ProofAlgorithm, |world| {
            world.proof_header["alg"] = "HS256".into()
        }),
        ("alg of another key", Check::ProofAlgorithm, |world| {
            world.proof_header["alg"] = "ES256".into()
        }),
        (
            "thumbprint of another certificate",
            Check::ProofThumbprint,
            |world| {
                world.proof_header["x5t#S256"] = OTHER_CLIENT.thumbprint().into();
            },
        ),
        (
            "no client certificate, for a bearer token",
            Check::ProofThumbprint,
            |world| {
                world.use_token(json!({}));
                world.facts = Some(connection(None, EXPORTER));
            },
        ),
        ("signed by another key", Check::ProofSignature, |world| {
            world.signer = &OTHER_CLIENT
        }),
        (
            "changed after it was signed",
            Check::ProofSignature,
            |world| {
                let genuine = world.proof();
                let signature = genuine.rsplit('.').next().unwrap();
                world.proof_claims["iat"] = (NOW + 1).into();
                let changed = world.proof();
                let (signed, _) = changed.rsplit_once('.').unwrap();
                world.proofs = Some(vec![format!("{signed}.{signature}")]);
            },
        ),
    ];
    assert_refused(cases).await;
}

#[tokio::test]
async fn rs_6_refuses_a_proof_of_another_connection() {
    let cases: &[Case] = &[
        (
            "same certificate, other connection",
            Check::Exporter,
            |world| {
                world.facts = Some(connection(Some(&CLIENT), [8; 32]));
            },
        ),
        ("one bit of ekm", Check::Exporter, |world| {
            let mut exporter = EXPORTER;
            exporter[31] ^= 1;
            world.proof_claims["ekm"] = URL_SAFE_NO_PAD.encode(exporter).into();
        }),
        (
            "though the token asks for no proof",
            Check::Exporter,
            |world| {
                world.use_token(json!({}));
                world.facts = Some(connection(Some(&CLIENT), [8; 32]));
            },
        ),
    ];
    assert_refused(cases).await;
}

#[tokio::test]
async fn rs_7_refuses_a_proof_for_another_token() {
    let cases: &[Case] = &[("ath of another token", Check::TokenHash, |world| {
        world.proof_claims["ath"] = ath("another");
    })];
    assert_refused(cases).await;
}

#[tokio::test]
async fn rs_8_refuses_a_proof_out_of_its_window() {
    let cases: &[Case] = &[
        (
            "older than the connection allows",
            Check::IssuedAt,
            |world| {
                world.proof_claims["iat"] = (NOW - 301).into();
            },
        ),
        ("from the future", Check::IssuedAt, |world| {
            world.proof_claims["iat"] = (NOW + 61).into()
        }),
        (
            "for one request, and five minutes old",
            Check::IssuedAt,
            |world| {
                world.now.store(NOW + 301, Ordering::SeqCst);
                world.add_request_claims("1");
            },
        ),
        (
            "for one request, and from the future",
            Check::IssuedAt,
            |world| {
                world.add_request_claims("1");
                world.proof_claims["iat"] = (NOW + 61).into();
            },
        ),
    ];
    assert_refused(cases).await;
}

#[tokio::test]
async fn rs_9_refuses_a_proof_of_another_request() {
    let cases: &[Case] = &[
        ("another method", Check::Method, |world| {
            world.add_request_claims("1");
            world.proof_claims["htm"] = "GET".into();
        }),
        ("another path", Check::TargetUri, |world| {
            world.add_request_claims("1");
            world.proof_claims["htu"] = format!("{ORIGIN}/other").into();
        }),
        ("another origin", Check::TargetUri, |world| {
            world.add_request_claims("1");
            world.proof_claims["htu"] = "https://other.example.com/mcp".into();
        }),
        (
            "an origin that only Host names",
            Check::TargetUri,
            |world| {
                world.add_request_claims("1");
                world.host = "other.example.com";
                world.proof_claims["htu"] = "https://other.example.com/mcp".into();
            },
        ),
        (
            "a bare path, where that is not accepted",
            Check::TargetUri,
            |world| {
                world.add_request_claims("1");
                world.proof_claims["htu"] = "/mcp".into();
                world.configure(|layer| layer.accept_bare_path(false));
            },
        ),
        ("a jti without end", Check::ProofSyntax, |world| {
            world.add_request_claims(&"1".repeat(257))
        }),
        ("htm alone counts too", Check::Method, |world| {
            world.proof_claims["htm"] = "GET".into()
        }),
        ("no jti may be remembered", Check::ReplayQuota, |world| {
            world.add_request_claims("1");
            world.configure(|layer| layer.jti_quota(0));
        }),
    ];
    assert_refused(cases).await;
}

#[tokio::test]
async fn rs_12_refuses_a_proof_that_is_not_for_this_request_alone() {
    let cases: &[Case] = &[
        (
            "none of the claims",
            Check::RequestClaimsRequired,
            |world| {
                world.configure(|layer| layer.require_request_bound(RequireRequestBound::Always));
            },
        ),
        ("no htu", Check::RequestClaimsRequired, |world| {
            world.add_request_claims("1");
            world.proof_claims.as_object_mut().unwrap().remove("htu");
            world.configure(|layer| layer.require_request_bound(RequireRequestBound::Always));
        }),
        ("no jti", Check::RequestClaimsRequired, |world| {
            world.add_request_claims("1");
            world.proof_claims.as_object_mut().unwrap().remove("jti");
            world.configure(|layer| layer.require_request_bound(RequireRequestBound::Always));
        }),
        (
            "demanded of this request",
            Check::RequestClaimsRequired,
            |world| {
                world.configure(|layer| {
                    layer.require_request_bound(RequireRequestBound::when(|request| {
                        request.method == "POST"
                    }))
                });
            },
        ),
        (
            "a bearer token without a proof",
            Check::RequestClaimsRequired,
            |world| {
                world.use_token(json!({}));
                world.proofs = Some(vec![]);
                world.configure(|layer| layer.require_request_bound(RequireRequestBound::Always));
            },
        ),
    ];
    assert_refused(cases).await;
}

#[tokio::test]
async fn rs_13_refuses_tokens_that_are_not_session_bound_where_that_is_required() {
    let cases: &[Case] = &[
        ("a bearer token", Check::BindingRequired, |world| {
            world.use_token(json!({}));
            world.proofs = Some(vec![]);
            world.configure(|layer| layer.policy(AcceptPolicy::Require));
        }),
        (
            "a bearer token with a good proof",
            Check::BindingRequired,
            |world| {
                world.use_token(json!({}));
                world.configure(|layer| layer.policy(AcceptPolicy::Require));
            },
        ),
        (
            "a certificate-bound token",
            Check::BindingRequired,
            |world| {
                world.use_token(json!({ "cnf": { "x5t#S256": CLIENT.thumbprint() } }));
                world.proofs = Some(vec![]);
                world.configure(|layer| layer.policy(AcceptPolicy::Require));
            },
        ),
    ];
    assert_refused(cases).await;
}

#[tokio::test]
async fn without_facts_nothing_passes() {
    let mut world = World {
        facts: None,
        ..World::default()
    };
    let outcome = world.send().await;
    assert_eq!(outcome.response.status(), 500);
    assert!(!outcome.reached);
    // Not even where the policy would let everything pass.
    world.use_token(json!({}));
    world.proofs = Some(vec![]);
    assert!(!world.send().await.reached);
}

#[tokio::test]
async fn a_validator_that_cannot_tell_makes_503_and_no_challenge() {
    let world = World::default();
    world.tokens.unavailable.store(true, Ordering::SeqCst);
    let outcome = world.send().await;
    assert_eq!(outcome.response.status(), 503);
    assert_eq!(outcome.header("retry-after"), Some("7"));
    assert_eq!(outcome.header("www-authenticate"), None);
    assert!(!outcome.reached);
    assert_eq!(outcome.check(), None);
    assert!(matches!(
        outcome.event,
        Some(ServerEvent::Unavailable { .. })
    ));
}

/// Each case is refused by its check and by no other, never reaches the inner service, and says so
/// as RS-10 asks.
async fn assert_refused(cases: &[Case]) {
    for (name, check, spoil) in cases {
        let mut world = World::default();
        spoil(&mut world);
        let outcome = world.send().await;
        assert_eq!(outcome.check(), Some(*check), "{name}");
        assert!(!outcome.reached, "{name}: the inner service was called");
        assert_eq!(outcome.response.status(), 401, "{name}");
        let connection = world.facts.as_ref().unwrap().id();
        assert_eq!(
            outcome.event,
            Some(ServerEvent::Refused {
                connection,
                check: *check
            }),
            "{name}"
        );
        let challenge = &challenges(outcome.response.headers())[0];
        assert_eq!(challenge.error(), check.error(), "{name}");
        assert_describes(challenge, *check, name);
        let field = outcome.header("www-authenticate").unwrap();
        for secret in [
            &CLIENT.thumbprint(),
            &URL_SAFE_NO_PAD.encode(EXPORTER),
            &world.token,
            ORIGIN,
        ] {
            assert!(
                !field.contains(secret),
                "{name}: the challenge tells an expected value: {field}"
            );
        }
    }
}

fn assert_describes(challenge: &Challenge, check: Check, name: &str) {
    match challenge.param("error_description") {
        Some(text) => assert!(
            text.starts_with(&format!("{}: ", check.id())),
            "{name}: {text}"
        ),
        None => assert_eq!(check, Check::NoToken, "{name}"),
    }
}
