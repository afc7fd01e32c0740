//! For every check, requests that fail it and no other: they differ from a passing request only in
//! what the case changes.

use std::sync::atomic::Ordering;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bowline_proof::{Challenge, Check, EXPORTER_LABEL, challenges};
use serde_json::json;

use super::fixture::*;
use crate::{AcceptPolicy, RequireRequestBound, Routes, ServerEvent};

/// A name, the check that must refuse, and what is wrong with the request.
type Case = (&'static str, Check, fn(&mut Fixture));

#[tokio::test]
async fn the_unchanged_request_passes() {
    let outcome = Fixture::default().send().await;
    assert!(outcome.has_passed());
}

#[tokio::test]
async fn rs_1_refuses_an_expired_certificate() {
    let cases: &[Case] = &[("past its notAfter", Check::Certificate, |fixture| {
        let later = 2_300_000_000; // 2042
        fixture.now.store(later, Ordering::SeqCst);
        // A fresh proof, so that its age is not the reason.
        fixture.proof_claims["iat"] = later.into();
    })];
    assert_refused(cases).await;
}

#[tokio::test]
async fn rs_2_refuses_a_token_that_is_not_valid() {
    let cases: &[Case] = &[
        ("not valid by the validator", Check::Token, |fixture| {
            fixture.token = "stranger".to_owned();
            fixture.proof_claims["ath"] = ath("stranger");
        }),
        ("not a token at all", Check::Token, |fixture| {
            fixture.authorization =
                Some(vec![format!("Bearer {} {}", fixture.token, fixture.token)]);
        }),
        ("empty", Check::Token, |fixture| {
            fixture.authorization = Some(vec!["Bearer ".to_owned()])
        }),
        ("too long", Check::Token, |fixture| {
            fixture.authorization = Some(vec![format!("Bearer {}", "a".repeat(65 * 1024))]);
        }),
    ];
    assert_refused(cases).await;
}

#[tokio::test]
async fn tk_0_refuses_a_token_outside_of_one_authorization_header() {
    let cases: &[Case] = &[
        ("also in the query", Check::TokenTransport, |fixture| {
            fixture.uri = format!("/mcp?a=b&access_token={}", fixture.token);
        }),
        (
            "in the query under an escaped name",
            Check::TokenTransport,
            |fixture| {
                fixture.uri = format!("/mcp?access%5ftoken={}", fixture.token);
            },
        ),
        ("only in the query", Check::TokenTransport, |fixture| {
            fixture.uri = format!("/mcp?access_token={}", fixture.token);
            fixture.authorization = Some(vec![]);
        }),
        (
            "in two Authorization headers",
            Check::TokenTransport,
            |fixture| {
                let field = format!("Bearer {}", fixture.token);
                fixture.authorization = Some(vec![field.clone(), field]);
            },
        ),
    ];
    assert_refused(cases).await;
}

#[tokio::test]
async fn rs_10_gives_a_bare_challenge_when_there_is_no_token() {
    let cases: &[Case] = &[
        ("no Authorization", Check::NoToken, |fixture| {
            fixture.authorization = Some(vec![])
        }),
        ("another scheme", Check::NoToken, |fixture| {
            fixture.authorization = Some(vec![format!("DPoP {}", fixture.token)]);
        }),
        (
            "a scheme that only begins alike",
            Check::NoToken,
            |fixture| {
                fixture.authorization = Some(vec![format!("Bearerer {}", fixture.token)]);
            },
        ),
    ];
    assert_refused(cases).await;

    let outcome = without_token().send().await;
    assert_eq!(outcome.header("www-authenticate"), Some("Bearer"));
}

fn without_token() -> Fixture {
    Fixture {
        authorization: Some(vec![]),
        ..Fixture::default()
    }
}

#[tokio::test]
async fn tk_1_and_tk_2_refuse_a_cnf_that_is_malformed_or_cannot_be_satisfied() {
    let cases: &[Case] = &[
        ("another exporter label", Check::Confirmation, |fixture| {
            fixture.use_token(
                json!({ "cnf": { "x5t#S256": CLIENT.thumbprint(), "tls_exp": "EXPORTER-other" } }),
            );
        }),
        (
            "tls_exp without a certificate",
            Check::Confirmation,
            |fixture| {
                fixture.use_token(json!({ "cnf": { "tls_exp": EXPORTER_LABEL } }));
            },
        ),
        ("tls_exp is no string", Check::Confirmation, |fixture| {
            fixture
                .use_token(json!({ "cnf": { "x5t#S256": CLIENT.thumbprint(), "tls_exp": true } }));
        }),
        (
            "x5t#S256 is not a thumbprint",
            Check::Confirmation,
            |fixture| {
                fixture.use_token(json!({ "cnf": { "x5t#S256": "AAAA" } }));
            },
        ),
        ("cnf is no object", Check::Confirmation, |fixture| {
            fixture.use_token(json!({ "cnf": "x" }))
        }),
        ("both jkt and tls_exp", Check::Confirmation, |fixture| {
            let x5t = CLIENT.thumbprint();
            fixture.use_token(
                json!({ "cnf": { "x5t#S256": x5t, "jkt": x5t, "tls_exp": EXPORTER_LABEL } }),
            );
        }),
        ("bound to a DPoP key", Check::Confirmation, |fixture| {
            fixture.use_token(json!({ "cnf": { "jkt": CLIENT.thumbprint() } }));
        }),
    ];
    assert_refused(cases).await;
}

#[tokio::test]
async fn tk_5_refuses_a_cnf_without_a_known_method_under_every_policy() {
    for cnf in [
        json!({}),
        json!({ "jwk": CLIENT.jwk() }),
        json!({ "kid": "1" }),
        json!({ "x5t#S512": CLIENT.thumbprint() }),
        json!({ "x5u": "https://example.com/" }),
        json!({ "tls_exp2": EXPORTER_LABEL }),
        json!({ "TLS_EXP": EXPORTER_LABEL }),
    ] {
        for policy in [
            AcceptPolicy::Follow,
            AcceptPolicy::RequireBound,
            AcceptPolicy::RequireProof,
            AcceptPolicy::RequireSession,
        ] {
            for proofs in [None, Some(vec![])] {
                let mut fixture = Fixture::default();
                fixture.use_token(json!({ "cnf": cnf }));
                fixture.configure(|layer| layer.policy(policy));
                fixture.proofs = proofs;
                let outcome = fixture.send().await;
                assert!(!outcome.reached, "{cnf}");
                assert_eq!(outcome.check(), Some(Check::Confirmation), "{cnf}");
            }
        }
    }
}

#[tokio::test]
async fn rs_3_refuses_a_token_of_another_certificate() {
    let cases: &[Case] = &[
        (
            "session-bound to another",
            Check::TokenCertificate,
            |fixture| {
                fixture.use_token(json!({ "cnf": { "x5t#S256": OTHER_CLIENT.thumbprint(), "tls_exp": EXPORTER_LABEL } }));
            },
        ),
        (
            "bound to another, no proof required",
            Check::TokenCertificate,
            |fixture| {
                fixture.use_token(json!({ "cnf": { "x5t#S256": OTHER_CLIENT.thumbprint() } }));
            },
        ),
        (
            "no client certificate",
            Check::TokenCertificate,
            |fixture| {
                fixture.facts = Some(connection(None, EXPORTER));
            },
        ),
        (
            "no client certificate, no proof required",
            Check::TokenCertificate,
            |fixture| {
                fixture.use_token(json!({ "cnf": { "x5t#S256": CLIENT.thumbprint() } }));
                fixture.facts = Some(connection(None, EXPORTER));
                fixture.proofs = Some(vec![]);
            },
        ),
    ];
    assert_refused(cases).await;
}

#[tokio::test]
async fn rs_4_requires_exactly_one_proof() {
    let cases: &[Case] = &[
        ("none", Check::ProofMissing, |fixture| {
            fixture.proofs = Some(vec![])
        }),
        ("two", Check::ProofDuplicated, |fixture| {
            fixture.proofs = Some(vec![fixture.proof(), fixture.proof()])
        }),
        (
            "two, though none is required",
            Check::ProofDuplicated,
            |fixture| {
                fixture.use_token(json!({}));
                fixture.proofs = Some(vec![fixture.proof(), fixture.proof()]);
            },
        ),
    ];
    assert_refused(cases).await;
}

#[tokio::test]
async fn rs_5_refuses_a_proof_that_is_not_one_of_this_certificates_key() {
    let cases: &[Case] = &[
        ("no JWS", Check::ProofSyntax, |fixture| {
            fixture.proofs = Some(vec!["proof".to_owned()])
        }),
        ("empty", Check::ProofSyntax, |fixture| {
            fixture.proofs = Some(vec![String::new()])
        }),
        ("two in one field", Check::ProofSyntax, |fixture| {
            fixture.proofs = Some(vec![format!("{0},{0}", fixture.proof())]);
        }),
        ("over 8 KiB", Check::ProofSyntax, |fixture| {
            fixture.proof_claims["padding"] = "x".repeat(8 * 1024).into();
        }),
        ("crit", Check::ProofSyntax, |fixture| {
            fixture.proof_header["crit"] = json!(["exp"])
        }),
        ("typ", Check::ProofType, |fixture| {
            fixture.proof_header["typ"] = "JWT".into()
        }),
        ("alg none", Check::ProofAlgorithm, |fixture| {
            fixture.proof_header["alg"] = "none".into()
        }),
        ("alg of a symmetric key", Check::ProofAlgorithm, |fixture| {
            fixture.proof_header["alg"] = "HS256".into()
        }),
        ("alg of another key", Check::ProofAlgorithm, |fixture| {
            fixture.proof_header["alg"] = "ES256".into()
        }),
        (
            "thumbprint of another certificate",
            Check::ProofThumbprint,
            |fixture| {
                fixture.proof_header["x5t#S256"] = OTHER_CLIENT.thumbprint().into();
            },
        ),
        (
            "no client certificate, for a bearer token",
            Check::ProofThumbprint,
            |fixture| {
                fixture.use_token(json!({}));
                fixture.facts = Some(connection(None, EXPORTER));
            },
        ),
        ("signed by another key", Check::ProofSignature, |fixture| {
            fixture.signer = &OTHER_CLIENT
        }),
        (
            "changed after it was signed",
            Check::ProofSignature,
            |fixture| {
                let genuine = fixture.proof();
                let signature = genuine.rsplit('.').next().unwrap();
                fixture.proof_claims["iat"] = (NOW + 1).into();
                let changed = fixture.proof();
                let (signed, _) = changed.rsplit_once('.').unwrap();
                fixture.proofs = Some(vec![format!("{signed}.{signature}")]);
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
            |fixture| {
                fixture.facts = Some(connection(Some(&CLIENT), [8; 32]));
            },
        ),
        ("one bit of ekm", Check::Exporter, |fixture| {
            let mut exporter = EXPORTER;
            exporter[31] ^= 1;
            fixture.proof_claims["ekm"] = URL_SAFE_NO_PAD.encode(exporter).into();
        }),
        (
            "though the token requires no proof",
            Check::Exporter,
            |fixture| {
                fixture.use_token(json!({}));
                fixture.facts = Some(connection(Some(&CLIENT), [8; 32]));
            },
        ),
    ];
    assert_refused(cases).await;
}

#[tokio::test]
async fn rs_7_refuses_a_proof_for_another_token() {
    let cases: &[Case] = &[("ath of another token", Check::TokenHash, |fixture| {
        fixture.proof_claims["ath"] = ath("another");
    })];
    assert_refused(cases).await;
}

#[tokio::test]
async fn rs_8_refuses_a_proof_out_of_its_window() {
    let cases: &[Case] = &[
        (
            "older than the connection allows",
            Check::IssuedAt,
            |fixture| {
                fixture.proof_claims["iat"] = (NOW - 301).into();
            },
        ),
        ("from the future", Check::IssuedAt, |fixture| {
            fixture.proof_claims["iat"] = (NOW + 61).into()
        }),
        (
            "for one request, and five minutes old",
            Check::IssuedAt,
            |fixture| {
                fixture.now.store(NOW + 301, Ordering::SeqCst);
                fixture.add_request_claims("1");
            },
        ),
        (
            "for one request, and from the future",
            Check::IssuedAt,
            |fixture| {
                fixture.add_request_claims("1");
                fixture.proof_claims["iat"] = (NOW + 61).into();
            },
        ),
    ];
    assert_refused(cases).await;
}

#[tokio::test]
async fn rs_9_refuses_a_proof_of_another_request() {
    let cases: &[Case] = &[
        ("another method", Check::Method, |fixture| {
            fixture.add_request_claims("1");
            fixture.proof_claims["htm"] = "GET".into();
        }),
        ("another path", Check::TargetUri, |fixture| {
            fixture.add_request_claims("1");
            fixture.proof_claims["htu"] = format!("{ORIGIN}/other").into();
        }),
        ("another origin", Check::TargetUri, |fixture| {
            fixture.add_request_claims("1");
            fixture.proof_claims["htu"] = "https://other.example.com/mcp".into();
        }),
        (
            "an origin that only Host names",
            Check::TargetUri,
            |fixture| {
                fixture.add_request_claims("1");
                fixture.host = "other.example.com";
                fixture.proof_claims["htu"] = "https://other.example.com/mcp".into();
            },
        ),
        (
            "a bare path, where that is not accepted",
            Check::TargetUri,
            |fixture| {
                fixture.add_request_claims("1");
                fixture.proof_claims["htu"] = "/mcp".into();
                fixture.configure(|layer| layer.accept_bare_path(false));
            },
        ),
        ("a jti without end", Check::ProofSyntax, |fixture| {
            fixture.add_request_claims(&"1".repeat(257))
        }),
        ("htm alone counts too", Check::Method, |fixture| {
            fixture.proof_claims["htm"] = "GET".into()
        }),
        ("a jti quota of zero", Check::ReplayQuota, |fixture| {
            fixture.add_request_claims("1");
            fixture.configure(|layer| layer.jti_quota(0));
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
            |fixture| {
                fixture.configure(|layer| layer.require_request_bound(RequireRequestBound::Always));
            },
        ),
        ("no htu", Check::RequestClaimsRequired, |fixture| {
            fixture.add_request_claims("1");
            fixture.proof_claims.as_object_mut().unwrap().remove("htu");
            fixture.configure(|layer| layer.require_request_bound(RequireRequestBound::Always));
        }),
        ("no jti", Check::RequestClaimsRequired, |fixture| {
            fixture.add_request_claims("1");
            fixture.proof_claims.as_object_mut().unwrap().remove("jti");
            fixture.configure(|layer| layer.require_request_bound(RequireRequestBound::Always));
        }),
        (
            "required of this request",
            Check::RequestClaimsRequired,
            |fixture| {
                fixture.configure(|layer| {
                    layer.require_request_bound(RequireRequestBound::when(|request| {
                        request.method == "POST"
                    }))
                });
            },
        ),
        (
            "a bearer token without a proof",
            Check::RequestClaimsRequired,
            |fixture| {
                fixture.use_token(json!({}));
                fixture.proofs = Some(vec![]);
                fixture.configure(|layer| layer.require_request_bound(RequireRequestBound::Always));
            },
        ),
    ];
    assert_refused(cases).await;
}

/// Whatever the handler, or a service behind it, makes of the path and of the method.
#[tokio::test]
async fn rs_12_holds_for_every_reading_of_a_path_and_allows_no_other_method() {
    let cases: &[Case] = &[
        ("the path itself", Check::RequestClaimsRequired, |fixture| {
            fixture.uri = "/admin/x".to_owned();
        }),
        ("escaped twice", Check::RequestClaimsRequired, |fixture| {
            fixture.uri = "/public/%252e%252e/admin/x".to_owned();
        }),
        (
            "with a parameter",
            Check::RequestClaimsRequired,
            |fixture| {
                fixture.uri = "/public/..;/admin/x".to_owned();
            },
        ),
        (
            "a method-override field, with all claims",
            Check::RequestClaimsRequired,
            |fixture| {
                fixture.uri = "/admin/public".to_owned();
                fixture.add_request_claims("1");
                fixture.proof_claims["htu"] = format!("{ORIGIN}/admin/public").into();
                fixture.fields = vec![("x_http_method_override", "DELETE".to_owned())];
            },
        ),
    ];
    for (name, check, spoil) in cases {
        let mut fixture = Fixture::default();
        let routes = Routes::new(["/admin/*"]).unwrap();
        let routes = routes.except(["/admin/public"]).unwrap();
        let required = RequireRequestBound::Routes(routes);
        fixture.configure(|layer| layer.require_request_bound(required));
        spoil(&mut fixture);
        assert_eq!(fixture.send().await.check(), Some(*check), "{name}");

        fixture.fields.clear();
        for path in ["/admin/public", "/other"] {
            fixture.uri = path.to_owned();
            fixture.add_request_claims(path);
            fixture.proof_claims["htu"] = format!("{ORIGIN}{path}").into();
            assert!(fixture.send().await.has_passed(), "{path}");
        }
        fixture.fields = vec![("x-http-method", "DELETE".to_owned())];
        fixture.add_request_claims("2");
        fixture.proof_claims["htu"] = format!("{ORIGIN}/other").into();
        assert!(
            fixture.send().await.has_passed(),
            "no pattern names the path"
        );
    }
}

#[tokio::test]
async fn rs_13_refuses_tokens_that_are_not_session_bound_where_that_is_required() {
    let cases: &[Case] = &[
        ("a bearer token", Check::BindingRequired, |fixture| {
            fixture.use_token(json!({}));
            fixture.proofs = Some(vec![]);
            fixture.configure(|layer| layer.policy(AcceptPolicy::RequireSession));
        }),
        (
            "a bearer token with a good proof",
            Check::BindingRequired,
            |fixture| {
                fixture.use_token(json!({}));
                fixture.configure(|layer| layer.policy(AcceptPolicy::RequireSession));
            },
        ),
        (
            "a certificate-bound token",
            Check::BindingRequired,
            |fixture| {
                fixture.use_token(json!({ "cnf": { "x5t#S256": CLIENT.thumbprint() } }));
                fixture.proofs = Some(vec![]);
                fixture.configure(|layer| layer.policy(AcceptPolicy::RequireSession));
            },
        ),
    ];
    assert_refused(cases).await;
}

#[tokio::test]
async fn without_facts_nothing_passes() {
    let mut fixture = Fixture {
        facts: None,
        ..Fixture::default()
    };
    let outcome = fixture.send().await;
    assert_eq!(outcome.response.status(), 500);
    assert!(!outcome.reached);
    // Not even if the policy would accept any token.
    fixture.use_token(json!({}));
    fixture.proofs = Some(vec![]);
    assert!(!fixture.send().await.reached);
}

#[tokio::test]
async fn a_validator_that_cannot_decide_causes_503_without_a_challenge() {
    let fixture = Fixture::default();
    fixture.tokens.unavailable.store(true, Ordering::SeqCst);
    let outcome = fixture.send().await;
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

/// Each case is refused by its check and by no other, never reaches the inner service, and gets a
/// challenge as RS-10 requires.
async fn assert_refused(cases: &[Case]) {
    for (name, check, spoil) in cases {
        let mut fixture = Fixture::default();
        spoil(&mut fixture);
        let outcome = fixture.send().await;
        assert_eq!(outcome.check(), Some(*check), "{name}");
        assert!(!outcome.reached, "{name}: the inner service was called");
        assert_eq!(outcome.response.status(), 401, "{name}");
        let connection = fixture.facts.as_ref().unwrap().id();
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
            &fixture.token,
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
