//! DPoP at the layer: what passes, and for every check a request that fails it and no other.

mod nonces;
#[cfg(feature = "redis")]
mod redis;
mod replay;

use bowline_proof::dpop::DpopCheck;
use bowline_proof::{Challenge, Check, EXPORTER_LABEL, challenges};
use http::Request;
use serde_json::{Value, json};

use super::fixture::*;
use crate::{
    AcceptPolicy, BindingClass, Dpop, MemoryReplayStore, RequireRequestBound, RequiredScope,
    ServerEvent,
};

/// A request with a DPoP-bound token on a connection without a client certificate.
/// [`DpopFixture::new`] passes.
struct DpopFixture {
    base: Fixture,
    scheme: &'static str,
    signer: &'static Client,
    header: Value,
    claims: Value,
    /// `DPoP` fields; by default one, made from the two above.
    fields: Option<Vec<String>>,
}

impl DpopFixture {
    fn new() -> Self {
        Self::with(Dpop::new(MemoryReplayStore::default()))
    }

    fn with(dpop: Dpop) -> Self {
        let mut base = Fixture {
            facts: Some(connection(None, EXPORTER)),
            proofs: Some(vec![]),
            ..Fixture::default()
        };
        base.configure(|layer| layer.dpop(dpop));
        let mut fixture = Self {
            base,
            scheme: "DPoP",
            signer: &CLIENT,
            header: json!({ "typ": "dpop+jwt", "alg": "EdDSA", "jwk": CLIENT.jwk() }),
            claims: json!({ "jti": "1", "htm": "POST", "htu": format!("{ORIGIN}/mcp"), "iat": NOW }),
            fields: None,
        };
        fixture.use_token(json!({ "cnf": { "jkt": CLIENT.jkt() } }));
        fixture
    }

    fn use_token(&mut self, claims: Value) {
        self.base.use_token(claims);
        self.claims["ath"] = ath(&self.base.token);
    }

    /// Makes the proof a new one, with this `jti`.
    fn renew(&mut self, jti: &str) -> &mut Self {
        self.claims["jti"] = jti.into();
        self
    }

    fn proof(&self) -> String {
        self.signer.sign(&self.header, &self.claims)
    }

    fn request(&self) -> Request<()> {
        let mut request = self.base.request();
        if self.base.authorization.is_none() {
            let field = format!("{} {}", self.scheme, self.base.token);
            request
                .headers_mut()
                .insert("authorization", field.parse().unwrap());
        }
        for field in self.fields.clone().unwrap_or_else(|| vec![self.proof()]) {
            request.headers_mut().append("dpop", field.parse().unwrap());
        }
        request
    }

    async fn send(&self) -> Outcome {
        self.base.send_this(self.request()).await
    }
}

fn dpop_check(outcome: &Outcome) -> Option<DpopCheck> {
    outcome.response.extensions().get().copied()
}

#[tokio::test]
async fn a_dpop_bound_request_passes_without_a_client_certificate_and_says_what_it_is_bound_to() {
    let fixture = DpopFixture::new();
    let outcome = fixture.send().await;
    assert!(outcome.has_passed());
    assert_eq!(outcome.header("dpop-nonce"), None);
    let binding = outcome.binding();
    assert_eq!(binding.class(), BindingClass::Dpop);
    assert_eq!(binding.dpop_key().unwrap().to_string(), CLIENT.jkt());
    assert_eq!(binding.thumbprint(), None);
    assert!(binding.is_request_bound());
    let connection = fixture.base.facts.as_ref().unwrap().id();
    assert_eq!(
        outcome.event,
        Some(ServerEvent::Verified {
            connection,
            proof: true,
            class: BindingClass::Dpop,
            marked: false,
            cached: false,
            request_bound: true
        })
    );
}

#[tokio::test]
async fn a_dpop_proof_satisfies_the_requirement_of_request_claims() {
    let mut fixture = DpopFixture::new();
    fixture
        .base
        .configure(|layer| layer.require_request_bound(RequireRequestBound::Always));
    assert!(fixture.send().await.has_passed());
}

#[tokio::test]
async fn a_token_bound_to_a_key_and_a_certificate_needs_both() {
    let mut fixture = DpopFixture::new();
    fixture.use_token(json!({ "cnf": { "jkt": CLIENT.jkt(), "x5t#S256": CLIENT.thumbprint() } }));
    assert_eq!(fixture.send().await.check(), Some(Check::TokenCertificate));
    fixture.base.facts = Some(connection(Some(&CLIENT), EXPORTER));
    assert!(fixture.send().await.has_passed());
}

/// RS-4: a proof is verified even if the token does not require one.
#[tokio::test]
async fn a_session_proof_beside_a_dpop_proof_is_verified_too() {
    let mut fixture = DpopFixture::new();
    fixture.base.facts = Some(connection(Some(&CLIENT), EXPORTER));
    fixture.base.proofs = None;
    assert!(fixture.send().await.has_passed());
    fixture.base.proof_claims["ekm"] = "AA".into();
    assert_eq!(
        fixture.renew("2").send().await.check(),
        Some(Check::Exporter)
    );
}

/// RFC 9449 §7.2. A session-binding proof in the connection's cache must not make the scheme Bearer
/// pass.
#[tokio::test]
async fn the_scheme_bearer_is_refused_even_beside_a_session_proof_that_passed_before() {
    let mut fixture = DpopFixture::new();
    fixture.base.facts = Some(connection(Some(&CLIENT), EXPORTER));
    fixture.base.proofs = None;
    for jti in ["1", "2"] {
        let outcome = fixture.renew(jti).send().await;
        // The signature of the DPoP proof is verified each time.
        assert!(outcome.has_passed() && !outcome.was_cached());
    }
    fixture.scheme = "Bearer";
    let outcome = fixture.renew("3").send().await;
    assert_eq!(dpop_check(&outcome), Some(DpopCheck::BearerScheme));
}

#[tokio::test]
async fn the_scheme_is_read_in_any_case() {
    for scheme in ["DPoP", "dpop", "DPOP"] {
        let mut fixture = DpopFixture::new();
        fixture.scheme = scheme;
        assert!(fixture.send().await.has_passed(), "{scheme}");
    }
}

/// A name, the check that must refuse, and what is wrong with the request.
type Case = (&'static str, DpopCheck, fn(&mut DpopFixture));

#[tokio::test]
async fn each_check_refuses_a_request_that_fails_it_alone() {
    let cases: &[Case] = &[
        ("no proof", DpopCheck::Missing, |fixture| {
            fixture.fields = Some(vec![])
        }),
        ("the same proof twice", DpopCheck::Duplicated, |fixture| {
            fixture.fields = Some(vec![fixture.proof(), fixture.proof()]);
        }),
        ("two proofs in one field", DpopCheck::Syntax, |fixture| {
            fixture.fields = Some(vec![format!("{}, {}", fixture.proof(), fixture.proof())]);
        }),
        ("no jti", DpopCheck::Claims, |fixture| {
            fixture.claims.as_object_mut().unwrap().remove("jti");
        }),
        ("a session proof's typ", DpopCheck::Type, |fixture| {
            fixture.header["typ"] = "tls-binding-proof+jwt".into();
        }),
        ("an unknown algorithm", DpopCheck::Algorithm, |fixture| {
            fixture.header["alg"] = "HS256".into();
        }),
        ("no key", DpopCheck::Jwk, |fixture| {
            fixture.header.as_object_mut().unwrap().remove("jwk");
        }),
        ("a private key", DpopCheck::PrivateKey, |fixture| {
            fixture.header["jwk"]["d"] = "AA".into();
        }),
        ("another's signature", DpopCheck::Signature, |fixture| {
            fixture.signer = &OTHER_CLIENT
        }),
        (
            "another client's key, everything else right",
            DpopCheck::KeyBinding,
            |fixture| {
                fixture.signer = &OTHER_CLIENT;
                fixture.header["jwk"] = OTHER_CLIENT.jwk();
            },
        ),
        ("for another method", DpopCheck::Method, |fixture| {
            fixture.claims["htm"] = "GET".into();
        }),
        ("for another path", DpopCheck::TargetUri, |fixture| {
            fixture.claims["htu"] = format!("{ORIGIN}/other").into();
        }),
        (
            "for another origin, which Host names",
            DpopCheck::TargetUri,
            |fixture| {
                fixture.base.host = "evil.example.com";
                fixture.claims["htu"] = "https://evil.example.com/mcp".into();
            },
        ),
        ("for a bare path", DpopCheck::TargetUri, |fixture| {
            fixture.claims["htu"] = "/mcp".into();
        }),
        ("too old", DpopCheck::IssuedAt, |fixture| {
            fixture.claims["iat"] = (NOW - 301).into()
        }),
        ("from the future", DpopCheck::IssuedAt, |fixture| {
            fixture.claims["iat"] = (NOW + 61).into()
        }),
        ("for another token", DpopCheck::TokenHash, |fixture| {
            fixture.claims["ath"] = ath("another");
        }),
        ("without a token hash", DpopCheck::Claims, |fixture| {
            fixture.claims.as_object_mut().unwrap().remove("ath");
        }),
        (
            "a token bound to nothing",
            DpopCheck::TokenNotBound,
            |fixture| {
                fixture.use_token(json!({}));
            },
        ),
        (
            "a session-bound token",
            DpopCheck::TokenNotBound,
            |fixture| {
                let cnf = json!({ "x5t#S256": CLIENT.thumbprint(), "tls_exp": EXPORTER_LABEL });
                fixture.use_token(json!({ "cnf": cnf }));
                fixture.base.facts = Some(connection(Some(&CLIENT), EXPORTER));
                fixture.base.proofs = None;
            },
        ),
        (
            "with the scheme Bearer",
            DpopCheck::BearerScheme,
            |fixture| fixture.scheme = "Bearer",
        ),
    ];
    for (name, check, spoil) in cases {
        let mut fixture = DpopFixture::new();
        spoil(&mut fixture);
        let outcome = fixture.send().await;
        assert_eq!(dpop_check(&outcome), Some(*check), "{name}");
        assert!(!outcome.reached, "{name}: the inner service was called");
        assert_eq!(outcome.response.status(), 401, "{name}");
        let connection = fixture.base.facts.as_ref().unwrap().id();
        let event = ServerEvent::DpopRefused {
            connection,
            check: *check,
        };
        assert_eq!(outcome.event, Some(event), "{name}");
        let challenge = &challenges(outcome.response.headers())[0];
        assert_challenge(challenge, *check, name);
        let field = outcome.header("www-authenticate").unwrap();
        for secret in [&CLIENT.jkt(), &fixture.base.token, ORIGIN] {
            assert!(
                !field.contains(secret),
                "{name}: the challenge tells an expected value: {field}"
            );
        }
    }
}

fn assert_challenge(challenge: &Challenge, check: DpopCheck, name: &str) {
    assert_eq!(challenge.scheme, "DPoP", "{name}");
    assert_eq!(challenge.error(), check.error(), "{name}");
    assert_eq!(
        challenge.param("algs"),
        Some("ES256 ES384 EdDSA PS256 RS256"),
        "{name}"
    );
    let description = challenge.param("error_description").unwrap();
    assert!(
        description.starts_with(&format!("{}: ", check.id())),
        "{name}: {description}"
    );
}

/// If everything is wrong, the first check refuses; after each repair the next one does.
#[tokio::test]
async fn checks_of_dpop_come_after_those_of_the_token_and_before_those_of_the_server() {
    let mut fixture = DpopFixture::new();
    let scope = RequiredScope::Always("read".parse().unwrap());
    fixture.base.configure(|layer| {
        layer
            .policy(AcceptPolicy::RequireBound)
            .required_scope(scope)
    });
    fixture.use_token(json!({ "cnf": { "jkt": CLIENT.jkt(), "x5t#S256": CLIENT.thumbprint() } }));
    fixture.claims["htm"] = "GET".into();
    let token = fixture.base.token.clone();
    fixture.base.token = "stranger".to_owned();
    assert_eq!(fixture.send().await.check(), Some(Check::Token));
    fixture.base.token = token;
    assert_eq!(fixture.send().await.check(), Some(Check::TokenCertificate));
    fixture.base.facts = Some(connection(Some(&CLIENT), EXPORTER));
    assert_eq!(dpop_check(&fixture.send().await), Some(DpopCheck::Method));
    fixture.claims["htm"] = "POST".into();
    assert_eq!(fixture.send().await.check(), Some(Check::Scope));
    fixture
        .base
        .configure(|layer| layer.required_scope(RequiredScope::None));
    // None of the refusals has marked the proof as used.
    assert!(fixture.send().await.has_passed());
}

#[tokio::test]
async fn refusals_by_other_checks_use_the_scheme_of_the_token() {
    let mut fixture = DpopFixture::new();
    fixture.base.token = "stranger".to_owned();
    let outcome = fixture.send().await;
    let challenge = &challenges(outcome.response.headers())[0];
    assert_eq!(
        (challenge.scheme.as_str(), challenge.error()),
        ("DPoP", Some("invalid_token"))
    );

    fixture.scheme = "Bearer";
    let outcome = fixture.send().await;
    let read = challenges(outcome.response.headers());
    assert_eq!((read.len(), read[0].scheme.as_str()), (1, "Bearer"));
}

#[tokio::test]
async fn without_a_token_both_schemes_are_offered() {
    let mut fixture = DpopFixture::new();
    fixture.base.configure(|layer| {
        layer.resource_metadata("https://api.example.com/.well-known/oauth-protected-resource")
    });
    fixture.base.authorization = Some(vec![]);
    let outcome = fixture.send().await;
    assert_eq!(outcome.check(), Some(Check::NoToken));
    let read = challenges(outcome.response.headers());
    let schemes: Vec<_> = read
        .iter()
        .map(|challenge| challenge.scheme.as_str())
        .collect();
    assert_eq!(schemes, ["Bearer", "DPoP"]);
    for challenge in read {
        assert_eq!(challenge.error(), None);
        assert!(challenge.param("resource_metadata").is_some());
    }
}

#[tokio::test]
async fn without_dpop_configured_dpop_tokens_are_refused() {
    let mut fixture = DpopFixture::new();
    let plain = Fixture::default();
    fixture.base.layer = plain.layer;
    fixture.base.tokens = plain.tokens;
    fixture.use_token(json!({ "cnf": { "jkt": CLIENT.jkt() } }));
    let outcome = fixture.send().await;
    assert_eq!(outcome.check(), Some(Check::NoToken));
    assert_eq!(
        challenges(outcome.response.headers()),
        [Challenge::bearer()]
    );
    fixture.scheme = "Bearer";
    assert_eq!(fixture.send().await.check(), Some(Check::Confirmation));
}
