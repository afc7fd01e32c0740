//! Token exchange (RFC 8693).

use std::time::Duration;

use bowline_proof::dpop::{Claims, DpopKey};
use bowline_proof::{EXPORTER_LABEL, RequestClaims};
use bowline_testkit::authority::{
    Authority, Client, ClientAuthentication, TokenBinding, TokenFormat, TokenRequest,
};
use bowline_testkit::pki::{KeyKind, Leaf, LeafSpec, Pki};
use http::{HeaderValue, Method};
use rustls_pki_types::UnixTime;
use serde_json::{Value, json};

use super::{
    ACCESS_TOKEN, ASSERTION_TYPE, Ask, B, C, EXCHANGE, JWT, assertion_claims, claims, sign,
    with_clients,
};

/// A calls B, and B exchanges A's token to call C.
struct Chain {
    pki: Pki,
    authority: Authority,
    a: Leaf,
    b: Leaf,
}

impl Chain {
    fn new() -> Self {
        Self::with(Client {
            resources: vec![B.to_owned()],
            ..Client::new("b")
        })
    }

    fn with(b: Client) -> Self {
        let pki = Pki::new();
        let [a, own] = ["a", "b"].map(|name| pki.client(name, KeyKind::P256));
        let c = Client {
            resources: vec![C.to_owned()],
            ..Client::new("c")
        };
        Self {
            authority: with_clients(&pki, [b, c]),
            pki,
            a,
            b: own,
        }
    }

    /// The token that A sends to B.
    fn hop_1(&self) -> TokenRequest {
        TokenRequest::session_bound("a", self.a.thumbprint())
            .audience(B)
            .scope("read write")
    }

    fn issue(&self, request: &TokenRequest) -> String {
        self.authority.issue(request)
    }

    fn by_b(&self) -> Ask<'_> {
        Ask::new(&self.pki, &self.authority).by(&self.b)
    }

    /// B's exchange of a token, with further parameters.
    async fn granted(&self, token: &str, more: &[(&str, &str)]) -> Value {
        self.by_b().granted(&form("b", token, more)).await
    }

    async fn refused(&self, token: &str, more: &[(&str, &str)]) -> (String, String) {
        self.by_b().refused(&form("b", token, more)).await
    }
}

fn form<'a>(
    client_id: &'a str,
    token: &'a str,
    more: &[(&'a str, &'a str)],
) -> Vec<(&'a str, &'a str)> {
    let mut form = vec![
        ("grant_type", EXCHANGE),
        ("client_id", client_id),
        ("subject_token", token),
        ("subject_token_type", ACCESS_TOKEN),
    ];
    // A parameter given again replaces the one above.
    form.retain(|(name, _)| more.iter().all(|(other, _)| other != name));
    form.extend(more);
    form
}

#[tokio::test]
async fn tk_4_the_new_token_is_session_bound_to_the_client_that_exchanged() {
    // For every binding that B may have registered.
    for binding in [
        TokenBinding::Bearer,
        TokenBinding::Certificate,
        TokenBinding::Session,
    ] {
        let chain = Chain::with(Client {
            resources: vec![B.to_owned()],
            binding,
            ..Client::new("b")
        });
        let token = chain.issue(&chain.hop_1());
        let answer = chain.granted(&token, &[("resource", C)]).await;
        assert_eq!(answer["issued_token_type"], ACCESS_TOKEN);
        assert_eq!(answer["token_type"], "Bearer");
        let claims = claims(&chain.authority, &answer);
        let cnf =
            json!({ "x5t#S256": chain.b.thumbprint().to_string(), "tls_exp": EXPORTER_LABEL });
        assert_eq!(claims["cnf"], cnf);
        assert_eq!(claims["aud"], C);
        assert_eq!(
            (&claims["sub"], &claims["client_id"]),
            (&json!("a"), &json!("b"))
        );
    }
}

#[tokio::test]
async fn actors_are_nested_with_the_latest_outermost() {
    let chain = Chain::new();
    let hop_1 = chain.issue(&chain.hop_1().subject("alice"));
    let hop_2 = chain.granted(&hop_1, &[("resource", C)]).await;
    let hop_2 = hop_2["access_token"].as_str().unwrap();
    let c = chain.pki.client("c", KeyKind::P256);
    let ask = Ask::new(&chain.pki, &chain.authority).by(&c);
    let more = [("audience", "d"), ("requested_token_type", JWT)];
    let hop_3 = ask.granted(&form("c", hop_2, &more)).await;
    let claims = claims(&chain.authority, &hop_3);
    assert_eq!(claims["sub"], "alice");
    assert_eq!(claims["act"], json!({ "sub": "c", "act": { "sub": "b" } }));
    assert_eq!(claims["aud"], "d");
    assert_eq!(hop_3["issued_token_type"], JWT);
    assert_eq!(chain.authority.exchanges(), 2);
}

#[tokio::test]
async fn a_client_that_exchanges_its_own_token_adds_no_actor() {
    let chain = Chain::new();
    let own = chain.issue(&TokenRequest::session_bound("b", chain.b.thumbprint()).audience(C));
    let answer = chain
        .granted(&own, &[("resource", "https://d.example")])
        .await;
    assert_eq!(claims(&chain.authority, &answer).get("act"), None);
    // Nor with the result of an earlier exchange.
    let delegated = chain
        .granted(&chain.issue(&chain.hop_1()), &[("resource", C)])
        .await;
    let delegated = delegated["access_token"].as_str().unwrap();
    let answer = chain
        .granted(delegated, &[("resource", "https://d.example")])
        .await;
    assert_eq!(
        claims(&chain.authority, &answer)["act"],
        json!({ "sub": "b" })
    );
}

#[tokio::test]
async fn an_actor_token_names_the_actor_and_is_the_clients_own() {
    let chain = Chain::new();
    let token = chain.issue(&chain.hop_1());
    let own = TokenRequest::session_bound("b", chain.b.thumbprint()).subject("b's worker 7");
    let own = chain.issue(&own);
    let more = [
        ("actor_token", &*own),
        ("actor_token_type", JWT),
        ("resource", C),
    ];
    let answer = chain.granted(&token, &more).await;
    assert_eq!(
        claims(&chain.authority, &answer)["act"],
        json!({ "sub": "b's worker 7" })
    );

    let bound_elsewhere = TokenRequest::session_bound("b", chain.a.thumbprint());
    for other in [TokenRequest::bearer("c"), bound_elsewhere] {
        let other = chain.issue(&other);
        let more = [
            ("actor_token", &*other),
            ("actor_token_type", JWT),
            ("resource", C),
        ];
        let (error, description) = chain.refused(&token, &more).await;
        assert_eq!(error, "invalid_request");
        assert!(
            description.starts_with("the actor_token was not issued to this client"),
            "{description}"
        );
    }
}

#[tokio::test]
async fn the_scope_never_grows() {
    let chain = Chain::new();
    let token = chain.issue(&chain.hop_1());
    for (more, scope) in [
        (&[][..], Some("read write")),
        (&[("scope", "write")], Some("write")),
        (&[("scope", "write read")], Some("write read")),
    ] {
        let answer = chain.granted(&token, more).await;
        assert_eq!(answer["scope"].as_str(), scope);
        assert_eq!(claims(&chain.authority, &answer)["scope"].as_str(), scope);
    }
    let without = TokenRequest::session_bound("a", chain.a.thumbprint()).audience(B);
    let without = chain.issue(&without);
    for (token, scope) in [(&token, "read admin"), (&token, "rea"), (&without, "read")] {
        let (error, _) = chain.refused(token, &[("scope", scope)]).await;
        assert_eq!(error, "invalid_scope", "{scope}");
    }
}

#[tokio::test]
async fn the_new_token_does_not_outlive_the_old_one() {
    let chain = Chain::new();
    let short = chain.issue(&chain.hop_1().lifetime(Duration::from_secs(60)));
    let answer = chain.granted(&short, &[]).await;
    assert!(answer["expires_in"].as_u64().unwrap() <= 60);
    let long = chain.issue(&chain.hop_1().lifetime(Duration::from_secs(6000)));
    assert_eq!(chain.granted(&long, &[]).await["expires_in"], 600);
}

#[tokio::test]
async fn a_refused_exchange_gets_the_error_codes_of_rfc_8693() {
    let chain = Chain::new();
    let token = chain.issue(&chain.hop_1());
    let revoked = chain.issue(&chain.hop_1());
    chain.authority.revoke(&revoked);
    let expired = chain.issue(&chain.hop_1().expired());
    let forged = chain.issue(&chain.hop_1().forged());
    let conflict = json!({ "jkt": DpopKey::generate().unwrap().thumbprint().to_string(), "tls_exp": EXPORTER_LABEL });
    let conflict = chain.issue(&chain.hop_1().cnf(conflict));
    let odd = chain.issue(&chain.hop_1().cnf(json!({ "tls_exp": 7 })));
    let opaque = chain.issue(&chain.hop_1().format(TokenFormat::Opaque));
    for (token, more, error, complaint) in [
        ("", &[][..], "invalid_request", "subject_token is missing"),
        (
            &*token,
            &[("subject_token_type", "")],
            "invalid_request",
            "subject_token_type is missing",
        ),
        (
            &token,
            &[("subject_token_type", "id_token")],
            "invalid_request",
            "subject_token_type must be",
        ),
        (
            &opaque,
            &[("subject_token_type", JWT)],
            "invalid_request",
            "not a JWT",
        ),
        (
            &token,
            &[("actor_token_type", JWT)],
            "invalid_request",
            "actor_token is missing",
        ),
        (
            &token,
            &[("actor_token", "x")],
            "invalid_request",
            "actor_token_type is missing",
        ),
        (
            &token,
            &[("requested_token_type", "refresh")],
            "invalid_request",
            "requested_token_type",
        ),
        (
            "unknown",
            &[],
            "invalid_request",
            "not issued by this authority",
        ),
        (
            &forged,
            &[],
            "invalid_request",
            "not issued by this authority",
        ),
        (&expired, &[], "invalid_request", "expired"),
        (&revoked, &[], "invalid_request", "revoked"),
        (&conflict, &[], "invalid_request", "TK-0"),
        (&odd, &[], "invalid_request", "malformed cnf"),
        (
            &token,
            &[("resource", "/c")],
            "invalid_target",
            "absolute URI",
        ),
        (
            &token,
            &[("resource", C), ("audience", B)],
            "invalid_target",
            "different targets",
        ),
        (
            &token,
            &[("audience", B), ("audience", C)],
            "invalid_target",
            "only one audience",
        ),
        (&token, &[("scope", "a  b")], "invalid_scope", "malformed"),
    ] {
        let refused = chain.refused(token, more).await;
        assert_eq!(refused.0, error, "{complaint}");
        assert!(refused.1.contains(complaint), "{complaint}: {}", refused.1);
    }
    // An opaque token is exchanged as well.
    chain.granted(&opaque, &[]).await;
}

#[tokio::test]
async fn a_bound_token_is_not_exchanged_for_a_weaker_binding() {
    let chain = Chain::with(Client {
        resources: vec![B.to_owned()],
        binding: TokenBinding::Bearer,
        ..Client::new("b")
    });
    let bound = TokenRequest::certificate_bound("a", chain.a.thumbprint()).audience(B);
    let answer = chain.granted(&chain.issue(&bound), &[]).await;
    let cnf = json!({ "x5t#S256": chain.b.thumbprint().to_string() });
    assert_eq!(claims(&chain.authority, &answer)["cnf"], cnf);

    // Bound to a DPoP key, and B would get a bearer token.
    let key = DpopKey::generate().unwrap();
    let cnf = json!({ "jkt": key.thumbprint().to_string() });
    let dpop = chain.issue(&TokenRequest::bearer("a").cnf(cnf).audience(B));
    let (error, description) = chain.refused(&dpop, &[]).await;
    assert_eq!(error, "invalid_request");
    assert!(
        description.contains("not exchanged for a bearer token"),
        "{description}"
    );
    // With a key of its own it gets a bound one.
    let own = DpopKey::generate().unwrap();
    let ask = chain.by_b().header("dpop", proof(&own, &chain.authority));
    let answer = ask.granted(&form("b", &dpop, &[])).await;
    assert_eq!(answer["token_type"], "DPoP");
    assert_eq!(
        claims(&chain.authority, &answer)["cnf"]["jkt"],
        own.thumbprint().to_string()
    );

    // TK-4: not the other way round.
    let ask = chain.by_b().header("dpop", proof(&own, &chain.authority));
    let session = chain.issue(&chain.hop_1());
    let (_, description) = ask.refused(&form("b", &session, &[])).await;
    assert!(description.starts_with("TK-4"), "{description}");
}

#[tokio::test]
async fn a_dpop_bound_token_is_exchanged_by_the_holder_of_its_key() {
    let chain = Chain::new();
    let key = DpopKey::generate().unwrap();
    let cnf = json!({ "jkt": key.thumbprint().to_string() });
    let token = chain.issue(
        &TokenRequest::bearer("b")
            .cnf(cnf)
            .audience("https://elsewhere.example"),
    );
    let ask = chain.by_b().header("dpop", proof(&key, &chain.authority));
    ask.granted(&form("b", &token, &[])).await;
    let other = DpopKey::generate().unwrap();
    let ask = chain.by_b().header("dpop", proof(&other, &chain.authority));
    let (_, description) = ask.refused(&form("b", &token, &[])).await;
    assert!(description.starts_with("AS-2"), "{description}");
    assert!(chain.refused(&token, &[]).await.1.starts_with("AS-2"));
}

#[tokio::test]
async fn a_client_with_an_assertion_exchanges_a_bound_token_with_a_certificate_and_not_without() {
    let signer = Leaf::self_signed(&LeafSpec::client("signer"));
    let chain = Chain::with(Client {
        authentication: ClientAuthentication::private_key_jwt(&signer),
        resources: vec![B.to_owned()],
        ..Client::new("b")
    });
    let token = chain.issue(&chain.hop_1());
    let assertion = || sign(&signer, &assertion_claims(&chain.authority, "b"));
    let asserted = assertion();
    let with = |assertion| {
        [
            ("client_assertion_type", ASSERTION_TYPE),
            ("client_assertion", assertion),
        ]
    };
    let ask = Ask::new(&chain.pki, &chain.authority).plain();
    let (_, description) = ask.refused(&form("b", &token, &with(&asserted))).await;
    assert!(
        description.starts_with("AS-2: the subject_token is bound to a certificate"),
        "{description}"
    );
    let asserted = assertion();
    let answer = chain
        .by_b()
        .granted(&form("b", &token, &with(&asserted)))
        .await;
    let cnf = &claims(&chain.authority, &answer)["cnf"];
    assert_eq!(cnf["x5t#S256"], chain.b.thumbprint().to_string());
}

fn proof(key: &DpopKey, authority: &Authority) -> HeaderValue {
    let target = authority.mtls_token_url().parse().unwrap();
    let claims = Claims {
        request: &RequestClaims::new(&Method::POST, &target).unwrap(),
        issued_at: UnixTime::now(),
        token: None,
        nonce: None,
    };
    key.mint(&claims).unwrap().header_value()
}
