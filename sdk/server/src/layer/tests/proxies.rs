//! GW-3: attestations by trusted proxies, and by peers that are not trusted.

use std::num::NonZeroUsize;
use std::sync::LazyLock;
use std::sync::atomic::Ordering;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bowline_proof::Check;
use rcgen::{DnType, SanType};
use serde_json::{Value, json};

use super::fixture::*;
use crate::{AcceptPolicy, BindingClass, MemoryReplayStore, ProxyName, TrustedProxies};

const SPIFFE_ID: &str = "spiffe://example.org/gateway";

static PROXY: LazyLock<Client> = LazyLock::new(|| {
    Client::with(|params| {
        params
            .distinguished_name
            .push(DnType::CommonName, "gateway");
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Example");
        params.subject_alt_names = vec![SanType::URI(SPIFFE_ID.try_into().unwrap())];
    })
});

/// The exporter value of the proxy's own connection to this server.
const UPSTREAM: [u8; 32] = [9; 32];

fn proxies() -> TrustedProxies {
    TrustedProxies::new(MemoryReplayStore::new(10)).thumbprint(PROXY.thumbprint().parse().unwrap())
}

fn attest(client: &Client, exporter: [u8; 32]) -> Vec<(&'static str, String)> {
    let field = |bytes: &[u8]| format!(":{}:", STANDARD.encode(bytes));
    vec![
        ("client-cert", field(&client.certificate)),
        ("tls-exporter", field(&exporter)),
    ]
}

/// The passing request, sent through a trusted proxy over the proxy's connection and with its
/// attestation.
fn behind_proxy() -> Fixture {
    let mut fixture = Fixture {
        facts: Some(connection(Some(&PROXY), UPSTREAM)),
        fields: attest(&CLIENT, EXPORTER),
        ..Fixture::default()
    };
    fixture.configure(|layer| layer.trusted_proxies(proxies()).accept_proxy_attested(true));
    fixture
}

fn certificate_bound() -> Value {
    json!({ "cnf": { "x5t#S256": CLIENT.thumbprint() } })
}

#[tokio::test]
async fn what_a_trusted_proxy_attests_passes_and_is_never_called_session_bound() {
    for claims in [session_bound(), certificate_bound()] {
        let mut fixture = behind_proxy();
        fixture.use_token(claims);
        let outcome = fixture.send().await;
        assert!(outcome.has_passed());
        let binding = outcome.binding();
        assert_eq!(binding.class(), BindingClass::ProxyAttested);
        assert_eq!(
            binding.thumbprint().unwrap().to_string(),
            CLIENT.thumbprint()
        );
        assert_eq!(
            binding.attested_by().unwrap().to_string(),
            PROXY.thumbprint()
        );
    }
    let outcome = Fixture::default().send().await;
    assert_eq!(
        (outcome.binding().class(), outcome.binding().attested_by()),
        (BindingClass::Session, None)
    );
}

#[tokio::test]
async fn rs_13_attested_connections_are_refused_under_every_policy_unless_they_are_allowed() {
    for policy in [
        AcceptPolicy::Follow,
        AcceptPolicy::RequireBound,
        AcceptPolicy::RequireProof,
        AcceptPolicy::RequireSession,
    ] {
        let mut fixture = behind_proxy();
        fixture.configure(|layer| layer.policy(policy).accept_proxy_attested(false));
        let outcome = fixture.send().await;
        assert_eq!(outcome.check(), Some(Check::BindingRequired), "{policy}");
        let description = outcome.challenges()[0]
            .param("error_description")
            .unwrap()
            .to_owned();
        assert!(description.contains("GW-3"), "{description}");

        fixture.configure(|layer| layer.accept_proxy_attested(true));
        let outcome = fixture.send().await;
        assert_eq!(outcome.binding().class(), BindingClass::ProxyAttested);
        assert!(outcome.binding().is_marked());
    }
    // What the policy demands, it demands all the same, also where the proxy's word is enough.
    let mut fixture = behind_proxy();
    fixture.configure(|layer| {
        layer
            .policy(AcceptPolicy::RequireProof)
            .trusted_proxies(proxies().accept_certificates_without_proof(true))
    });
    fixture.use_token(certificate_bound());
    let outcome = fixture.send().await;
    assert_eq!(outcome.binding().class(), BindingClass::ProxyAttested);
    assert!(!outcome.binding().is_marked());
    fixture.proofs = Some(vec![]);
    assert_eq!(fixture.send().await.check(), Some(Check::ProofMissing));

    let mut fixture = behind_proxy();
    fixture.configure(|layer| layer.policy(AcceptPolicy::RequireSession));
    // The proxy can attest the connection, but a binding must still be there.
    for claims in [certificate_bound(), json!({})] {
        fixture.use_token(claims);
        fixture.proofs = Some(vec![]);
        assert_eq!(fixture.send().await.check(), Some(Check::BindingRequired));
    }
    // A connection that this server terminates satisfies the policy as well.
    let mut direct = Fixture::default();
    direct.configure(|layer| layer.policy(AcceptPolicy::RequireSession));
    assert_eq!(direct.send().await.binding().class(), BindingClass::Session);
}

#[tokio::test]
async fn rs_13_attestations_are_observed_and_a_proxy_that_attests_nothing_is_refused() {
    let mut fixture = behind_proxy();
    fixture.configure(|layer| layer.accept_proxy_attested(false).observe(true));
    let outcome = fixture.send().await;
    assert!(outcome.has_passed());
    let binding = outcome.binding();
    assert_eq!(
        (binding.class(), binding.attested_by()),
        (BindingClass::None, None)
    );
    let observed = binding.observed().unwrap();
    let check = observed.check().unwrap().name();
    assert_eq!((observed.name(), check), ("refused", "binding_required"));
    let presented = binding.presented_certificate().unwrap().thumbprint();
    assert_eq!(presented.to_string(), CLIENT.thumbprint());
    fixture.fields.clear();
    assert_eq!(fixture.send().await.check(), Some(Check::Certificate));
}

#[tokio::test]
async fn no_other_peer_is_trusted() {
    let named = || Some(proxies());
    let none = || Some(TrustedProxies::new(MemoryReplayStore::new(10)));
    for (who, proxies) in [
        (Some(&*PROXY), None),
        (Some(&*PROXY), none()),
        (Some(&*OTHER_CLIENT), named()),
        (None, named()),
    ] {
        // A thief on their own connection, with the victim's certificate, which is public, and the
        // victim's proof.
        let mut fixture = Fixture {
            facts: Some(connection(who, UPSTREAM)),
            fields: attest(&CLIENT, EXPORTER),
            ..Fixture::default()
        };
        if let Some(proxies) = proxies {
            fixture.configure(|layer| layer.trusted_proxies(proxies));
        }
        assert_eq!(fixture.send().await.check(), Some(Check::TokenCertificate));
    }
    // A client that adds the fields to its own request gains and loses nothing.
    let mut honest = Fixture {
        fields: attest(&OTHER_CLIENT, [8; 32]),
        ..Fixture::default()
    };
    honest.configure(|layer| layer.trusted_proxies(proxies()));
    assert_eq!(honest.send().await.binding().class(), BindingClass::Session);
}

#[tokio::test]
async fn the_fields_never_reach_the_handler_from_any_peer() {
    let named = [
        "client-cert",
        "client-cert-chain",
        "tls-exporter",
        "session-binding-verified",
    ];
    let further = [
        ("client-cert-chain", ":AAAA:".to_owned()),
        ("session-binding-verified", "class=session".to_owned()),
    ];
    let mut direct = Fixture {
        fields: attest(&CLIENT, EXPORTER),
        ..Fixture::default()
    };
    direct.fields.extend(attest(&CLIENT, EXPORTER));
    let mut public = Fixture {
        authorization: Some(vec![]),
        proofs: Some(vec![]),
        fields: attest(&CLIENT, EXPORTER),
        ..Fixture::default()
    };
    public.configure(|layer| layer.public_paths(["/mcp"]));
    for mut fixture in [behind_proxy(), direct, public] {
        fixture.fields.extend(further.clone());
        fixture.fields.push(("x-other", "stays".to_owned()));
        let outcome = fixture.send().await;
        assert!(outcome.reached);
        for name in named {
            assert!(!outcome.arrived().contains_key(name), "{name}");
        }
        assert_eq!(outcome.arrived()["x-other"], "stays");
    }
}

/// A name, the check that must refuse, and what is wrong with the request.
type Case = (&'static str, Check, fn(&mut Fixture));

#[tokio::test]
async fn rs_3_rs_5_and_rs_6_are_checked_against_what_is_attested() {
    let cases: &[Case] = &[
        ("another certificate", Check::TokenCertificate, |fixture| {
            fixture.fields = attest(&OTHER_CLIENT, EXPORTER);
        }),
        (
            "the proxy's own certificate",
            Check::TokenCertificate,
            |fixture| {
                fixture.fields = attest(&PROXY, EXPORTER);
            },
        ),
        ("no proof", Check::ProofMissing, |fixture| {
            fixture.proofs = Some(vec![])
        }),
        (
            "a proof signed by another",
            Check::ProofSignature,
            |fixture| fixture.signer = &OTHER_CLIENT,
        ),
        (
            "a proof signed by the proxy",
            Check::ProofSignature,
            |fixture| fixture.signer = &PROXY,
        ),
        ("another exporter value", Check::Exporter, |fixture| {
            fixture.fields = attest(&CLIENT, [8; 32])
        }),
        (
            "a proof for the proxy's connection",
            Check::Exporter,
            |fixture| {
                fixture.fields = attest(&CLIENT, UPSTREAM);
            },
        ),
        (
            "five minutes old, and for one request",
            Check::IssuedAt,
            |fixture| {
                fixture.add_request_claims("1");
                fixture.proof_claims["iat"] = (NOW - 301).into();
            },
        ),
    ];
    for (name, check, spoil) in cases {
        let mut fixture = behind_proxy();
        spoil(&mut fixture);
        let outcome = fixture.send().await;
        assert_eq!(outcome.check(), Some(*check), "{name}");
        assert!(!outcome.reached, "{name}");
    }
}

#[tokio::test]
async fn malformed_fields_of_a_trusted_proxy_are_refused_and_the_proxy_is_not_taken_for_the_client()
{
    let spoilt: [fn(&mut Fixture); 9] = [
        |fixture| drop(fixture.fields.remove(0)),
        |fixture| drop(fixture.fields.remove(1)),
        |fixture| fixture.fields.push(attest(&CLIENT, EXPORTER).remove(0)),
        |fixture| fixture.fields.push(attest(&CLIENT, EXPORTER).remove(1)),
        |fixture| fixture.fields[0].1 = String::new(),
        |fixture| fixture.fields[0].1 = ":AAAA:".to_owned(),
        |fixture| fixture.fields[0].1 = STANDARD.encode(&CLIENT.certificate),
        |fixture| fixture.fields[1].1 = String::new(),
        |fixture| fixture.fields[1].1 = ":AAAA:".to_owned(),
    ];
    for (index, spoil) in spoilt.into_iter().enumerate() {
        let mut fixture = behind_proxy();
        // The proxy's own token and proof would pass if the proxy were taken for the client.
        fixture.use_token(json!({}));
        fixture.proofs = Some(vec![]);
        spoil(&mut fixture);
        let outcome = fixture.send().await;
        assert_eq!(outcome.check(), Some(Check::Certificate), "{index}");
        assert!(
            outcome.challenges()[0]
                .param("error_description")
                .unwrap()
                .contains("GW-3"),
            "{index}"
        );
    }
}

/// Gateways commonly set the fields only if their client showed a certificate: all others would
/// inherit the gateway's identity, and with it its certificate-bound tokens.
#[tokio::test]
async fn a_proxys_request_without_the_fields_is_refused_unless_it_also_speaks_for_itself() {
    let mut fixture = behind_proxy();
    fixture.fields.clear();
    fixture.use_token(json!({ "cnf": { "x5t#S256": PROXY.thumbprint() } }));
    fixture.proofs = Some(vec![]);
    let other = ProxyName::SpiffeId("spiffe://example.org/other".to_owned());
    for proxies in [proxies(), proxies().own_requests_of(other)] {
        fixture.configure(|layer| layer.trusted_proxies(proxies));
        assert_eq!(fixture.send().await.check(), Some(Check::Certificate));
    }
    for name in [
        ProxyName::Thumbprint(PROXY.thumbprint().parse().unwrap()),
        ProxyName::SpiffeId(SPIFFE_ID.to_owned()),
        ProxyName::Subject("O=Example,CN=gateway".to_owned()),
    ] {
        fixture.configure(|layer| layer.trusted_proxies(proxies().own_requests_of(name)));
        let outcome = fixture.send().await;
        assert_eq!(outcome.binding().class(), BindingClass::Certificate);
        assert_eq!(outcome.binding().spiffe_id(), Some(SPIFFE_ID));
        assert_eq!(outcome.binding().attested_by(), None);
    }
    // Named for its own requests alone, it is a client like any other.
    let own = ProxyName::SpiffeId(SPIFFE_ID.to_owned());
    let proxies = TrustedProxies::new(MemoryReplayStore::new(10)).own_requests_of(own);
    fixture.configure(|layer| layer.trusted_proxies(proxies));
    assert!(fixture.send().await.has_passed());
    fixture.fields = attest(&CLIENT, EXPORTER);
    assert_eq!(
        fixture.send().await.binding().class(),
        BindingClass::Certificate
    );
}

/// Otherwise a certificate, which is public, would pass by the proxy's word alone.
#[tokio::test]
async fn whatever_comes_through_a_proxy_must_carry_a_proof_under_every_policy() {
    for is_remote in [false, true] {
        for claims in [session_bound(), certificate_bound(), json!({})] {
            let mut fixture = behind_proxy();
            fixture.tokens.is_remote.store(is_remote, Ordering::SeqCst);
            fixture.use_token(claims);
            fixture.proofs = Some(vec![]);
            assert_eq!(fixture.send().await.check(), Some(Check::ProofMissing));
            assert_eq!(fixture.tokens.asked(), usize::from(!is_remote));
        }
        for policy in [AcceptPolicy::RequireSession, AcceptPolicy::RequireProof] {
            let mut fixture = behind_proxy();
            fixture.tokens.is_remote.store(is_remote, Ordering::SeqCst);
            fixture.configure(|layer| layer.policy(policy));
            fixture.proofs = Some(vec![]);
            assert_eq!(fixture.send().await.check(), Some(Check::ProofMissing));
        }
        // A JWT that names no certificate is asked about first (RS-10), and refused all the same.
        let mut fixture = behind_proxy();
        fixture.tokens.is_remote.store(is_remote, Ordering::SeqCst);
        fixture.token = fixture.tokens.issue_jwt(json!({}));
        fixture.proofs = Some(vec![]);
        assert_eq!(fixture.send().await.check(), Some(Check::ProofMissing));
        assert_eq!(fixture.tokens.asked(), 1);
    }
}

#[tokio::test]
async fn a_certificate_by_the_proxys_word_alone_is_a_separate_switch() {
    let mut fixture = behind_proxy();
    fixture.configure(|layer| {
        layer.trusted_proxies(proxies().accept_certificates_without_proof(true))
    });
    fixture.proofs = Some(vec![]);
    fixture.use_token(certificate_bound());
    let outcome = fixture.send().await;
    assert_eq!(outcome.binding().class(), BindingClass::ProxyAttested);
    // Nothing else.
    for claims in [session_bound(), json!({})] {
        fixture.use_token(claims);
        assert_eq!(fixture.send().await.check(), Some(Check::ProofMissing));
    }
    fixture.use_token(json!({ "cnf": { "x5t#S256": OTHER_CLIENT.thumbprint() } }));
    assert_eq!(fixture.send().await.check(), Some(Check::TokenCertificate));
}

#[tokio::test]
async fn two_spellings_of_a_connection_are_one() {
    let mut fixture = behind_proxy();
    fixture.add_request_claims("1");
    assert!(fixture.send().await.has_passed());
    let unpadded = |bytes: &[u8]| {
        let text = STANDARD.encode(bytes);
        format!(":{}:", text.trim_end_matches('='))
    };
    let url_safe = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(EXPORTER);
    let spellings: [(usize, String); 5] = [
        (0, unpadded(&CLIENT.certificate)),
        (0, format!(" {} ", fixture.fields[0].1)),
        (1, unpadded(&EXPORTER)),
        (1, format!("{}\t", fixture.fields[1].1)),
        (1, url_safe),
    ];
    for (index, spelling) in spellings {
        let mut fields = fixture.fields.clone();
        fields[index].1 = spelling.clone();
        std::mem::swap(&mut fixture.fields, &mut fields);
        assert_eq!(
            fixture.send().await.check(),
            Some(Check::Replay),
            "{spelling}"
        );
        std::mem::swap(&mut fixture.fields, &mut fields);
    }
}

/// CGI and WSGI make one variable of `Client-Cert` and `Client_Cert`.
#[tokio::test]
async fn b5_fields_that_differ_by_an_underscore_never_reach_the_handler() {
    for mut fixture in [Fixture::default(), behind_proxy()] {
        for name in ["client_cert", "session_binding_verified", "tls_exporter"] {
            fixture.fields.push((name, "x".to_owned()));
        }
        let outcome = fixture.send().await;
        assert!(outcome.has_passed(), "they are not read either");
        let underscored = |name: &http::HeaderName| name.as_str().contains('_');
        assert!(!outcome.arrived().keys().any(underscored));
    }
}

/// GW-2: a proxy that passes the request on would have to remove it.
#[tokio::test]
async fn a_connection_option_that_names_such_a_field_is_answered_400() {
    for option in [
        "Session-Binding-Verified",
        "close, host",
        "authorization",
        "dpop",
    ] {
        let mut fixture = Fixture::default();
        fixture.fields.push(("connection", option.to_owned()));
        let outcome = fixture.send().await;
        assert_eq!(outcome.response.status(), 400, "{option}");
        assert!(!outcome.reached);
    }
    let mut fixture = Fixture::default();
    fixture.fields.push(("connection", "close".to_owned()));
    assert!(fixture.send().await.has_passed());
}

#[tokio::test]
async fn a_proxy_is_identified_by_thumbprint_spiffe_id_or_subject() {
    let none = || TrustedProxies::new(MemoryReplayStore::new(10));
    let thumbprint = PROXY.thumbprint().parse().unwrap();
    for (proxies, known) in [
        (none().thumbprint(thumbprint), true),
        (none().spiffe_id(SPIFFE_ID), true),
        (none().subject("O=Example,CN=gateway"), true),
        (
            none().thumbprint(OTHER_CLIENT.thumbprint().parse().unwrap()),
            false,
        ),
        (none().spiffe_id("spiffe://example.org/"), false),
        (none().spiffe_id("spiffe://example.org/gateway/x"), false),
        (none().subject("CN=gateway"), false),
        (none().subject(""), false),
        (none(), false),
    ] {
        let mut fixture = behind_proxy();
        let shown = format!("{proxies:?}");
        fixture.configure(|layer| layer.trusted_proxies(proxies));
        assert_eq!(fixture.send().await.has_passed(), known, "{shown}");
    }
}

#[tokio::test]
async fn rs_1_an_attested_certificate_that_has_expired_is_refused_and_the_proxys_connection_stays()
{
    static EXPIRED: LazyLock<Client> = LazyLock::new(|| {
        Client::with(|params| params.not_after = rcgen::date_time_ymd(2026, 1, 1))
    });
    static EARLY: LazyLock<Client> = LazyLock::new(|| {
        Client::with(|params| params.not_before = rcgen::date_time_ymd(2039, 1, 1))
    });
    for client in [&*EXPIRED, &*EARLY] {
        let mut fixture = behind_proxy();
        fixture.use_token(json!({}));
        fixture.proofs = Some(vec![]);
        fixture.fields = attest(client, EXPORTER);
        let outcome = fixture.send().await;
        assert_eq!(outcome.check(), Some(Check::Certificate));
        assert_eq!(outcome.header("connection"), None);
        let facts = fixture.facts.clone().unwrap();
        assert!(futures_util::FutureExt::now_or_never(facts.drain_wanted()).is_none());
    }
}

#[tokio::test]
async fn rs_8_a_reusable_proof_may_be_as_old_as_the_clients_connection_which_only_the_proxy_knows()
{
    let mut fixture = behind_proxy();
    fixture.proof_claims["iat"] = (NOW - 86_400).into();
    assert!(fixture.send().await.has_passed());
    fixture.proof_claims["iat"] = (NOW + 61).into();
    assert_eq!(fixture.send().await.check(), Some(Check::IssuedAt));
}

#[tokio::test]
async fn rs_9_a_jti_is_accepted_once_over_all_connections_of_the_proxy() {
    let mut fixture = behind_proxy();
    fixture.add_request_claims("1");
    assert!(fixture.send().await.has_passed());
    assert_eq!(fixture.send().await.check(), Some(Check::Replay));
    fixture.facts = Some(connection(Some(&PROXY), [10; 32]));
    assert_eq!(fixture.send().await.check(), Some(Check::Replay));
    // Another client's connection has jti values of its own.
    fixture.fields = attest(&CLIENT, [8; 32]);
    fixture.proof_claims["ekm"] = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .encode([8; 32])
        .into();
    assert!(fixture.send().await.has_passed());

    fixture.configure(|layer| {
        layer.trusted_proxies(
            TrustedProxies::new(MemoryReplayStore::new(0))
                .thumbprint(PROXY.thumbprint().parse().unwrap()),
        )
    });
    assert_eq!(fixture.send().await.response.status(), 503);
}

#[tokio::test]
async fn rs_11_a_proof_is_cached_per_connection_of_the_client_within_a_bound() {
    let mut fixture = behind_proxy();
    fixture
        .configure(|layer| layer.trusted_proxies(proxies().cached_connections(NonZeroUsize::MIN)));
    assert!(!fixture.send().await.was_cached());
    assert!(fixture.send().await.was_cached());
    fixture.facts = Some(connection(Some(&PROXY), [10; 32]));
    assert!(
        fixture.send().await.was_cached(),
        "on any connection of the proxy"
    );
    // The same proof on another connection of the client is refused, cached or not.
    fixture.fields = attest(&CLIENT, [8; 32]);
    assert_eq!(fixture.send().await.check(), Some(Check::Exporter));
    // That connection has evicted the first.
    fixture.fields = attest(&CLIENT, EXPORTER);
    let outcome = fixture.send().await;
    assert!(outcome.has_passed() && !outcome.was_cached());
    fixture.now.fetch_add(1, Ordering::SeqCst);
    assert!(fixture.send().await.was_cached());
}
