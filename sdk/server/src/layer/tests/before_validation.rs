//! RS-10: where the policy demands a proof for a token, the proof is checked before a server is
//! asked about the token.

use std::sync::atomic::Ordering;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bowline_proof::{Check, EXPORTER_LABEL};
use serde_json::{Value, json};

use super::fixture::*;
use crate::AcceptPolicy;

/// Another server validates the tokens.
fn remote() -> Fixture {
    let fixture = Fixture::default();
    fixture.tokens.is_remote.store(true, Ordering::SeqCst);
    fixture
}

fn opaque() -> Fixture {
    opaque_under(AcceptPolicy::RequireSession)
}

fn opaque_under(policy: AcceptPolicy) -> Fixture {
    let mut fixture = remote();
    fixture.configure(|layer| layer.policy(policy));
    fixture
}

fn jwt(policy: AcceptPolicy, cnf: Value) -> Fixture {
    let mut fixture = remote();
    fixture.configure(|layer| layer.policy(policy));
    fixture.token = fixture.tokens.issue_jwt(json!({ "cnf": cnf }));
    fixture.proof_claims["ath"] = ath(&fixture.token);
    fixture
}

fn session(client: &Client) -> Value {
    json!({ "x5t#S256": client.thumbprint(), "tls_exp": EXPORTER_LABEL })
}

fn certificate(client: &Client) -> Value {
    json!({ "x5t#S256": client.thumbprint() })
}

/// A name, the check that must refuse, and what is wrong with the proof.
type Case = (&'static str, Check, fn(&mut Fixture));

const BAD_PROOFS: &[Case] = &[
    ("none", Check::ProofMissing, |fixture| {
        fixture.proofs = Some(vec![])
    }),
    ("two", Check::ProofDuplicated, |fixture| {
        fixture.proofs = Some(vec![fixture.proof(), fixture.proof()])
    }),
    ("malformed", Check::ProofSyntax, |fixture| {
        fixture.proofs = Some(vec!["proof".to_owned()])
    }),
    ("of another key", Check::ProofSignature, |fixture| {
        fixture.signer = &OTHER_CLIENT
    }),
    ("of another connection", Check::Exporter, |fixture| {
        fixture.proof_claims["ekm"] = URL_SAFE_NO_PAD.encode([8; 32]).into()
    }),
    ("for another token", Check::TokenHash, |fixture| {
        fixture.proof_claims["ath"] = ath("another")
    }),
    ("too old", Check::IssuedAt, |fixture| {
        fixture.proof_claims["iat"] = (NOW - 301).into()
    }),
];

#[tokio::test]
async fn a_token_without_the_proof_that_it_needs_is_refused_before_anybody_is_asked() {
    let fixtures: [fn() -> Fixture; 7] = [
        opaque,
        || opaque_under(AcceptPolicy::RequireProof),
        || jwt(AcceptPolicy::RequireProof, session(&CLIENT)),
        // The policy demands one.
        || jwt(AcceptPolicy::RequireProof, certificate(&CLIENT)),
        || jwt(AcceptPolicy::RequireSession, session(&CLIENT)),
        // The token itself demands a proof, if it is genuine.
        || jwt(AcceptPolicy::Follow, session(&CLIENT)),
        || jwt(AcceptPolicy::RequireBound, session(&CLIENT)),
    ];
    for (index, fixture) in fixtures.into_iter().enumerate() {
        for (name, check, spoil) in BAD_PROOFS {
            let mut fixture = fixture();
            spoil(&mut fixture);
            // Whether the token is valid does not matter.
            for forget in [false, true] {
                if forget {
                    fixture.tokens.forget(&fixture.token);
                }
                let outcome = fixture.send().await;
                assert_eq!(outcome.check(), Some(*check), "{index} {name}");
                assert!(!outcome.reached, "{index} {name}");
            }
            assert_eq!(fixture.tokens.asked(), 0, "{index} {name}");
        }
        let fixture = fixture();
        assert!(fixture.send().await.has_passed());
        assert_eq!(fixture.tokens.asked(), 1);
        fixture.tokens.forget(&fixture.token);
        // The proof is in the cache now, and the token is asked about all the same.
        assert_eq!(fixture.send().await.check(), Some(Check::Token));
        assert_eq!(fixture.tokens.asked(), 2);
    }
}

/// `use_session_binding` only where a proof would help: the client has a certificate, and the token
/// is opaque or a JWT that names it.
#[tokio::test]
async fn a_token_that_no_proof_would_help_is_refused_as_invalid_before_anybody_is_asked() {
    let require = |cnf| jwt(AcceptPolicy::RequireSession, cnf);
    let prove = |cnf| jwt(AcceptPolicy::RequireProof, cnf);
    let both = json!({ "x5t#S256": CLIENT.thumbprint(), "jkt": CLIENT.jkt() });
    let mut bearer = remote();
    bearer.configure(|layer| layer.policy(AcceptPolicy::RequireBound));
    bearer.token = bearer.tokens.issue_jwt(json!({}));
    let mut without_certificate = opaque();
    without_certificate.facts = Some(connection(None, EXPORTER));
    let mut no_cnf = remote();
    no_cnf.configure(|layer| layer.policy(AcceptPolicy::RequireSession));
    no_cnf.token = no_cnf.tokens.issue_jwt(json!({}));
    let cases = [
        (
            "no certificate",
            without_certificate,
            Check::TokenCertificate,
        ),
        (
            "another's",
            require(session(&OTHER_CLIENT)),
            Check::TokenCertificate,
        ),
        (
            "another's, under Follow",
            jwt(AcceptPolicy::Follow, session(&OTHER_CLIENT)),
            Check::TokenCertificate,
        ),
        (
            "certificate-bound",
            require(certificate(&CLIENT)),
            Check::BindingRequired,
        ),
        (
            "another's, certificate-bound",
            prove(certificate(&OTHER_CLIENT)),
            Check::TokenCertificate,
        ),
        ("both confirmations", prove(both), Check::BindingRequired),
        ("bearer", bearer, Check::BindingRequired),
        ("no cnf", no_cnf, Check::BindingRequired),
        ("unknown method", require(json!({})), Check::Confirmation),
        ("malformed", require(json!(1)), Check::Confirmation),
    ];
    for (name, mut fixture, check) in cases {
        for proofs in [Some(vec![]), None] {
            fixture.proofs = proofs;
            assert_eq!(fixture.send().await.check(), Some(check), "{name}");
            assert_eq!(check.error(), Some("invalid_token"), "{name}");
        }
        assert_eq!(fixture.tokens.asked(), 0, "{name}");
    }
}

/// What such a token demands only the validator can say.
#[tokio::test]
async fn a_token_for_which_no_proof_is_demanded_is_asked_about_first() {
    for fixture in [
        remote(),
        opaque_under(AcceptPolicy::RequireBound),
        jwt(AcceptPolicy::Follow, certificate(&CLIENT)),
        jwt(AcceptPolicy::RequireBound, certificate(&CLIENT)),
    ] {
        let fixture = Fixture {
            signer: &OTHER_CLIENT,
            ..fixture
        };
        assert_eq!(fixture.send().await.check(), Some(Check::ProofSignature));
        assert_eq!(fixture.tokens.asked(), 1);
        fixture.tokens.forget(&fixture.token);
        assert_eq!(fixture.send().await.check(), Some(Check::Token));
    }
}

/// The order of the profile, where it costs nothing.
#[tokio::test]
async fn where_nobody_has_to_be_asked_the_checks_keep_their_order() {
    for (_, _, spoil) in BAD_PROOFS {
        let mut fixture = opaque();
        fixture.tokens.is_remote.store(false, Ordering::SeqCst);
        spoil(&mut fixture);
        fixture.tokens.forget(&fixture.token);
        assert_eq!(fixture.send().await.check(), Some(Check::Token));
    }
}
