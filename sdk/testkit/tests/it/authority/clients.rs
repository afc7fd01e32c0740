//! Client authentication (RFC 8705 §2, RFC 7523) and registration (RFC 7591).

use bowline_testkit::authority::{Authority, Client, ClientAuthentication, TokenBinding};
use bowline_testkit::pki::{KeyKind, Leaf, LeafSpec, Pki};
use bowline_testkit::tls::{TlsOptions, Versions};
use http::StatusCode;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::{ASSERTION_TYPE, Ask, agent, assertion_claims, claims, now, sign, start, with_clients};
use crate::client::connect;

const CREDENTIALS: (&str, &str) = ("grant_type", "client_credentials");

fn self_signed(name: &str) -> Leaf {
    Leaf::self_signed(&LeafSpec::client(name))
}

#[tokio::test]
async fn a_registered_self_signed_certificate_gets_tokens_bound_to_it() {
    let pki = Pki::new();
    for kind in KeyKind::ALL {
        let own = Leaf::self_signed(&LeafSpec::client("anything").key(kind));
        let client = Client {
            authentication: ClientAuthentication::self_signed_tls(&own),
            ..Client::new("agent")
        };
        let authority = with_clients(&pki, [client]);
        let ask = Ask::new(&pki, &authority).by(&own);
        let answer = ask.granted(&[CREDENTIALS, ("client_id", "agent")]).await;
        let cnf = &claims(&authority, &answer)["cnf"];
        assert_eq!(cnf["x5t#S256"], own.thumbprint().to_string(), "AS-1");
    }
}

#[tokio::test]
async fn an_unregistered_self_signed_certificate_does_not_complete_the_handshake() {
    let pki = Pki::new();
    let authority = start(&pki);
    let own = self_signed("agent");
    // TLS 1.2, where the client learns of the failure within the handshake.
    let options = TlsOptions {
        versions: Versions::Tls12,
        ..TlsOptions::default()
    };
    let tls = options.client(&pki, Some(&own));
    assert!(connect(&tls, authority.mtls_addr()).await.is_err());
    authority.register(Client {
        authentication: ClientAuthentication::self_signed_tls(&own),
        ..Client::new("late")
    });
    assert!(connect(&tls, authority.mtls_addr()).await.is_ok());
}

/// The attack that a handshake with registered certificates opens: register one that names the
/// victim.
#[tokio::test]
async fn a_self_signed_certificate_is_not_accepted_as_one_of_the_pki() {
    let pki = Pki::new();
    let forged = self_signed("victim");
    let attacker = Client {
        authentication: ClientAuthentication::self_signed_tls(&forged),
        ..Client::new("attacker")
    };
    let authority = with_clients(&pki, [attacker]);
    let ask = Ask::new(&pki, &authority).by(&forged);
    let (error, description) = ask.refused(&[CREDENTIALS, ("client_id", "victim")]).await;
    assert_eq!(error, "invalid_client");
    assert!(
        description.contains("not one of this authority's PKI"),
        "{description}"
    );
    let ask = Ask::new(&pki, &authority).by(&forged).path("/introspect");
    assert_eq!(ask.refused(&[("token", "x")]).await.0, "invalid_client");
}

#[tokio::test]
async fn a_client_with_a_registered_certificate_authenticates_with_no_other() {
    let pki = Pki::new();
    let (own, other) = (self_signed("agent"), self_signed("agent"));
    let registered = |id: &str, leaf| Client {
        authentication: ClientAuthentication::self_signed_tls(leaf),
        ..Client::new(id)
    };
    let authority = with_clients(
        &pki,
        [registered("agent", &own), registered("other", &other)],
    );
    let of_pki = agent(&pki);
    for identity in [&other, &of_pki] {
        let ask = Ask::new(&pki, &authority).by(identity);
        let (error, description) = ask.refused(&[CREDENTIALS, ("client_id", "agent")]).await;
        assert_eq!(error, "invalid_client");
        assert!(
            description.contains("RFC 8705 section 2.2"),
            "{description}"
        );
    }
}

/// An authority where `agent` has registered the key of a leaf.
fn with_key(pki: &Pki, binding: TokenBinding) -> (Authority, Leaf) {
    let key = self_signed("key");
    let client = Client {
        authentication: ClientAuthentication::private_key_jwt(&key),
        binding,
        ..Client::new("agent")
    };
    (with_clients(pki, [client]), key)
}

fn asserted(assertion: &str) -> [(&str, &str); 3] {
    [
        CREDENTIALS,
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", assertion),
    ]
}

#[tokio::test]
async fn an_assertion_gets_bearer_tokens_without_a_certificate_and_bound_ones_with_it() {
    let pki = Pki::new();
    let (authority, key) = with_key(&pki, TokenBinding::Session);
    let assertion = sign(&key, &assertion_claims(&authority, "agent"));
    let answer = Ask::new(&pki, &authority)
        .plain()
        .granted(&asserted(&assertion))
        .await;
    assert_eq!(
        claims(&authority, &answer).get("cnf"),
        None,
        "nothing to bind to"
    );

    // The subject of the certificate does not matter: the assertion authenticates the client.
    let certificate = pki.client("laptop", KeyKind::P256);
    let assertion = sign(&key, &assertion_claims(&authority, "agent"));
    let ask = Ask::new(&pki, &authority).by(&certificate);
    let claims = claims(&authority, &ask.granted(&asserted(&assertion)).await);
    assert_eq!(
        claims["cnf"]["x5t#S256"],
        certificate.thumbprint().to_string(),
        "AS-1"
    );
    assert!(claims["cnf"].get("tls_exp").is_some());
    assert_eq!(claims["client_id"], "agent");
}

#[tokio::test]
async fn an_assertion_names_this_server_and_client_has_not_expired_and_is_used_once() {
    let pki = Pki::new();
    let (authority, key) = with_key(&pki, TokenBinding::Bearer);
    let good = assertion_claims(&authority, "agent");
    let with = |member: &str, value: Value| {
        let mut claims = good.clone();
        claims[member] = value;
        claims
    };
    let without = |member: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(member);
        claims
    };
    for (claims, complaint) in [
        (with("aud", json!("https://else.example")), "aud"),
        (with("exp", json!(now() - 1)), "expired"),
        (with("nbf", json!(now() + 60)), "not valid yet"),
        (with("iss", json!("other")), "iss and sub"),
        (with("sub", json!("other")), "iss and sub"),
        (without("exp"), "has no exp"),
        (without("aud"), "has no aud"),
        (without("iss"), "has no iss"),
        (without("jti"), "no jti"),
    ] {
        let assertion = sign(&key, &claims);
        let form = [&asserted(&assertion)[..], &[("client_id", "agent")]].concat();
        let (error, description) = Ask::new(&pki, &authority).plain().refused(&form).await;
        assert_eq!(error, "invalid_client", "{claims}");
        assert!(
            description.contains(complaint),
            "{complaint}: {description}"
        );
    }
    // None of those used up the jti.
    for (aud, jti) in [
        (json!(authority.token_url()), "a"),
        (json!([authority.mtls_token_url(), "x"]), "b"),
        (json!(authority.issuer()), "c"),
    ] {
        let mut claims = with("aud", aud);
        claims["jti"] = json!(jti);
        let assertion = sign(&key, &claims);
        Ask::new(&pki, &authority)
            .plain()
            .granted(&asserted(&assertion))
            .await;
        let (_, description) = Ask::new(&pki, &authority)
            .plain()
            .refused(&asserted(&assertion))
            .await;
        assert!(description.contains("seen before"), "{description}");
    }
}

#[tokio::test]
async fn an_assertion_is_signed_by_the_registered_key_and_no_other() {
    let pki = Pki::new();
    let (authority, key) = with_key(&pki, TokenBinding::Bearer);
    let claims = assertion_claims(&authority, "agent");
    let kid = key.jwk()["kid"].as_str().unwrap().to_owned();
    let signed =
        |header: &Header, key: &EncodingKey| jsonwebtoken::encode(header, &claims, key).unwrap();

    let other = self_signed("key");
    let named = |algorithm| Header {
        kid: Some(kid.clone()),
        ..Header::new(algorithm)
    };
    let forged = signed(
        &named(Algorithm::ES256),
        &EncodingKey::from_ec_der(other.key().secret_der()),
    );
    let hmac = signed(
        &named(Algorithm::HS256),
        &EncodingKey::from_secret(key.certificate()),
    );
    for (assertion, complaint) in [
        (sign(&other, &claims), "no key with the kid"),
        (forged, "signature"),
        (hmac, "alg"),
        ("a.b.c".to_owned(), "not a well-formed JWT"),
    ] {
        let form = [&asserted(&assertion)[..], &[("client_id", "agent")]].concat();
        let (error, description) = Ask::new(&pki, &authority).plain().refused(&form).await;
        assert_eq!(error, "invalid_client", "{complaint}");
        assert!(
            description.contains(complaint),
            "{complaint}: {description}"
        );
    }
    // The client of the parameter is the client of the assertion.
    let assertion = sign(&key, &claims);
    let form = [&asserted(&assertion)[..], &[("client_id", "other")]].concat();
    assert_eq!(
        Ask::new(&pki, &authority).plain().refused(&form).await.0,
        "invalid_client"
    );
    let form = [
        CREDENTIALS,
        ("client_id", "agent"),
        ("client_assertion", &assertion),
    ];
    let (_, description) = Ask::new(&pki, &authority).plain().refused(&form).await;
    assert!(
        description.contains("client_assertion_type"),
        "{description}"
    );
    // The certificate of the PKI does not replace the assertion.
    let of_pki = agent(&pki);
    let ask = Ask::new(&pki, &authority).by(&of_pki);
    assert_eq!(
        ask.refused(&[CREDENTIALS, ("client_id", "agent")]).await.0,
        "invalid_client"
    );
}

#[tokio::test]
async fn tk_3_a_client_registers_for_session_bound_tokens_and_gets_bearer_tokens_without_asking() {
    let pki = Pki::new();
    let authority = start(&pki);
    let laptop = pki.client("laptop", KeyKind::P256);
    for (member, cnf) in [
        (
            Some("tls_session_bound_access_tokens"),
            vec!["tls_exp", "x5t#S256"],
        ),
        (
            Some("tls_client_certificate_bound_access_tokens"),
            vec!["x5t#S256"],
        ),
        (None, vec![]),
    ] {
        let mut metadata = json!({
            "client_name": "The laptop",
            "token_endpoint_auth_method": "tls_client_auth",
            "tls_client_auth_subject_dn": "CN=laptop",
        });
        if let Some(member) = member {
            metadata[member] = json!(true);
        }
        let id = registered(&pki, &authority, &metadata).await;
        let ask = Ask::new(&pki, &authority).by(&laptop);
        let answer = ask.granted(&[CREDENTIALS, ("client_id", &id)]).await;
        let claims = claims(&authority, &answer);
        let members = claims["cnf"]
            .as_object()
            .map(|cnf| cnf.keys().map(String::as_str).collect());
        assert_eq!(members.unwrap_or(vec![]), cnf, "{member:?}");
    }
}

#[tokio::test]
async fn a_client_registers_its_self_signed_certificate_or_its_key() {
    let pki = Pki::new();
    let authority = start(&pki);
    let own = self_signed("own");
    let jwks = json!({ "keys": [own.jwk()] });
    let metadata = |method: &str| json!({ "token_endpoint_auth_method": method, "jwks": jwks });

    let id = registered(&pki, &authority, &metadata("self_signed_tls_client_auth")).await;
    let ask = Ask::new(&pki, &authority).by(&own);
    ask.granted(&[CREDENTIALS, ("client_id", &id)]).await;

    let id = registered(&pki, &authority, &metadata("private_key_jwt")).await;
    let assertion = sign(&own, &assertion_claims(&authority, &id));
    Ask::new(&pki, &authority)
        .plain()
        .granted(&asserted(&assertion))
        .await;
}

#[tokio::test]
async fn metadata_that_cannot_authenticate_a_client_are_refused() {
    let pki = Pki::new();
    let authority = start(&pki);
    let mut without_certificate = self_signed("own").jwk();
    without_certificate.as_object_mut().unwrap().remove("x5c");
    for metadata in [
        json!({}),
        json!({ "token_endpoint_auth_method": "client_secret_basic" }),
        json!({ "token_endpoint_auth_method": "tls_client_auth" }),
        json!({ "token_endpoint_auth_method": "tls_client_auth", "tls_client_auth_subject_dn": "O=x,CN=agent" }),
        json!({ "token_endpoint_auth_method": "private_key_jwt", "jwks": { "keys": [] } }),
        json!({ "token_endpoint_auth_method": "self_signed_tls_client_auth", "jwks": { "keys": [without_certificate] } }),
    ] {
        let ask = Ask::new(&pki, &authority).plain().path("/register");
        let refused = ask.send_body(&metadata.to_string()).await;
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{metadata}");
        assert_eq!(
            refused.body()["error"],
            "invalid_client_metadata",
            "{metadata}"
        );
    }
}

async fn registered(pki: &Pki, authority: &Authority, metadata: &Value) -> String {
    let ask = Ask::new(pki, authority).plain().path("/register");
    let response = ask.send_body(&metadata.to_string()).await;
    assert_eq!(
        response.status(),
        StatusCode::CREATED,
        "{}",
        response.body()
    );
    for (member, value) in metadata.as_object().unwrap() {
        if member != "jwks" {
            assert_eq!(
                &response.body()[member],
                value,
                "what was registered is said again"
            );
        }
    }
    response.body()["client_id"].as_str().unwrap().to_owned()
}
