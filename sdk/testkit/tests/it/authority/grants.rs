//! `client_credentials`, metadata and keys.

use std::time::Duration;

use bowline_proof::{Confirmation, Demand, EXPORTER_LABEL};
use bowline_testkit::authority::{
    Client, ClientAuthentication, RefreshTokens, TokenBinding, TokenRequest,
};
use bowline_testkit::pki::{KeyKind, Pki};
use bowline_testkit::tls::{Alpn, TlsOptions, Versions};
use http::StatusCode;
use serde_json::{Value, json};

use super::{AGENT, Ask, FORM, agent, client, granted, post, start, verified, with_clients};
use crate::client::{Http, connect};

#[tokio::test]
async fn a_granted_token_is_session_bound_to_the_certificate_of_the_request() {
    let pki = Pki::new();
    let authority = start(&pki);
    for kind in KeyKind::ALL {
        let agent = pki.client("agent", kind);
        let claims = granted(&authority, &pki, &agent, AGENT).await;
        // AS-1, TK-1
        let expected =
            json!({ "x5t#S256": agent.thumbprint().to_string(), "tls_exp": EXPORTER_LABEL });
        assert_eq!(claims["cnf"], expected);
        let confirmation = Confirmation::from_claims(&claims).unwrap();
        assert!(matches!(confirmation.demand(), Ok(Demand::Session)));
    }
}

#[tokio::test]
async fn a_granted_token_has_the_claims_of_rfc_9068() {
    let pki = Pki::new();
    let authority = start(&pki);
    let agent = agent(&pki);
    let form = format!("{AGENT}&scope=read+write&resource=https%3A%2F%2Fapi.example%2Fmcp");
    let claims = granted(&authority, &pki, &agent, &form).await;
    assert_eq!(claims["iss"], authority.issuer());
    assert_eq!(claims["sub"], "agent");
    assert_eq!(claims["client_id"], "agent");
    assert_eq!(claims["aud"], "https://api.example/mcp");
    assert_eq!(claims["scope"], "read write");
    let (issued, expires) = (
        claims["iat"].as_u64().unwrap(),
        claims["exp"].as_u64().unwrap(),
    );
    assert_eq!(expires - issued, 600);

    let second = granted(&authority, &pki, &agent, AGENT).await;
    assert_ne!(claims["jti"], second["jti"]);
    assert_eq!(second["aud"], "https://resource.example");
    assert_eq!(second.get("scope"), None);
}

#[tokio::test]
async fn the_answer_must_not_be_stored_and_has_the_tokens_lifetime() {
    let pki = Pki::new();
    let authority = start(&pki);
    let agent = agent(&pki);
    let mut client = client(&authority, &pki, Some(&agent)).await;
    let response = post(&mut client, FORM, &format!("{AGENT}&scope=read")).await;
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert_eq!(response.body()["token_type"], "Bearer");
    assert_eq!(response.body()["expires_in"], 600);
    assert_eq!(response.body()["scope"], "read");
}

#[tokio::test]
async fn a_registered_client_has_its_own_subject_and_binding() {
    let pki = Pki::new();
    let registered = |id: &str, binding| Client {
        authentication: ClientAuthentication::Tls {
            subject: "laptop".to_owned(),
        },
        binding,
        ..Client::new(id)
    };
    let clients = [
        registered("plain", TokenBinding::Bearer),
        registered("bound", TokenBinding::Certificate),
    ];
    let authority = with_clients(&pki, clients);
    let laptop = pki.client("laptop", KeyKind::P256);
    let form = |id: &str| format!("grant_type=client_credentials&client_id={id}");

    let plain = granted(&authority, &pki, &laptop, &form("plain")).await;
    assert_eq!(plain.get("cnf"), None);
    let bound = granted(&authority, &pki, &laptop, &form("bound")).await;
    assert_eq!(
        bound["cnf"],
        json!({ "x5t#S256": laptop.thumbprint().to_string() })
    );

    let other = pki.client("plain", KeyKind::P256);
    let mut client = client(&authority, &pki, Some(&other)).await;
    let refused = post(&mut client, FORM, &form("plain")).await;
    assert_eq!(refused.body()["error"], "invalid_client");
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let pki = Pki::new();
    let authority = start(&pki);
    let form = [("grant_type", "client_credentials"), ("client_id", "agent")];
    for ask in [
        Ask::new(&pki, &authority),
        Ask::new(&pki, &authority).by(&agent(&pki)).plain(),
    ] {
        let (error, description) = ask.refused(&form).await;
        assert_eq!(error, "invalid_client");
        assert!(
            description.contains("mtls_endpoint_aliases"),
            "{description}"
        );
    }
    assert_eq!(authority.token_requests(), 2);
}

#[tokio::test]
async fn a_client_with_a_foreign_certificate_does_not_complete_the_handshake() {
    let pki = Pki::new();
    let authority = start(&pki);
    let attacker = Pki::foreign().client("agent", KeyKind::P256);
    // TLS 1.2, where the client learns of the failure within the handshake.
    let options = TlsOptions {
        versions: Versions::Tls12,
        ..TlsOptions::default()
    };
    let error = connect(
        &options.client(&pki, Some(&attacker)),
        authority.mtls_addr(),
    )
    .await;
    assert!(error.is_err());
}

#[tokio::test]
async fn a_refused_request_gets_the_error_codes_of_rfc_6749() {
    let pki = Pki::new();
    let authority = start(&pki);
    let agent = agent(&pki);
    let mut client = client(&authority, &pki, Some(&agent)).await;
    for (content_type, form, status, error) in [
        ("application/json", AGENT, 400, "invalid_request"),
        (FORM, "client_id=agent", 400, "invalid_request"),
        (FORM, "grant_type=&client_id=agent", 400, "invalid_request"),
        (
            FORM,
            "grant_type=client_credentials",
            400,
            "invalid_request",
        ),
        (
            FORM,
            &format!("{AGENT}&client_id=agent"),
            400,
            "invalid_request",
        ),
        (
            FORM,
            "grant_type=password&client_id=agent",
            400,
            "unsupported_grant_type",
        ),
        (
            FORM,
            "grant_type=client_credentials&client_id=other",
            401,
            "invalid_client",
        ),
        (FORM, &format!("{AGENT}&scope=a++b"), 400, "invalid_scope"),
        (FORM, &format!("{AGENT}&scope=%22"), 400, "invalid_scope"),
        (
            FORM,
            &format!("{AGENT}&resource=/mcp"),
            400,
            "invalid_target",
        ),
        (
            FORM,
            &format!("{AGENT}&resource=https://a.example/%23b"),
            400,
            "invalid_target",
        ),
        (
            FORM,
            &format!("{AGENT}&resource=https://a.example&resource=https://b.example"),
            400,
            "invalid_target",
        ),
    ] {
        let refused = post(&mut client, content_type, form).await;
        assert_eq!(refused.status(), status, "{form}");
        assert_eq!(refused.body()["error"], error, "{form}");
        assert_eq!(refused.headers()["cache-control"], "no-store");
    }
    // The connection is still usable.
    assert_eq!(
        post(&mut client, FORM, AGENT).await.status(),
        StatusCode::OK
    );
}

/// What a server does with a refresh token that it sees for the second time.
#[tokio::test]
async fn a_refresh_token_is_rotated_and_its_second_use_revokes_what_came_of_it() {
    let pki = Pki::new();
    let authority = start(&pki);
    let agent = agent(&pki);
    let mut client = client(&authority, &pki, Some(&agent)).await;
    let form =
        |token: &str| format!("grant_type=refresh_token&client_id=agent&refresh_token={token}");
    let first = authority.issue_refresh_token("agent", "alice");
    let second = post(&mut client, FORM, &form(&first)).await.body()["refresh_token"].clone();
    let second = second.as_str().expect("another one").to_owned();
    assert!(authority.is_live_refresh_token(&second) && !authority.is_live_refresh_token(&first));
    assert_eq!(
        post(&mut client, FORM, &form(&first)).await.body()["error"],
        "invalid_grant"
    );
    assert_eq!(
        post(&mut client, FORM, &form(&second)).await.body()["error"],
        "invalid_grant"
    );

    authority.set_refresh_tokens(RefreshTokens::RotatedWithGrace);
    let first = authority.issue_refresh_token("agent", "alice");
    let mut next = String::new();
    for _ in 0..2 {
        let answer = post(&mut client, FORM, &form(&first)).await;
        next = answer.body()["refresh_token"]
            .as_str()
            .expect("another one")
            .to_owned();
    }
    post(&mut client, FORM, &form(&next)).await;
    assert_eq!(
        post(&mut client, FORM, &form(&first)).await.body()["error"],
        "invalid_grant"
    );

    authority.set_refresh_tokens(RefreshTokens::Kept);
    let kept = authority.issue_refresh_token("agent", "alice");
    for _ in 0..2 {
        let answer = post(&mut client, FORM, &form(&kept)).await;
        assert_eq!(
            (answer.status(), answer.body().get("refresh_token")),
            (StatusCode::OK, None)
        );
    }
    let others = authority.issue_refresh_token("other", "alice");
    assert_eq!(
        post(&mut client, FORM, &form(&others)).await.body()["error"],
        "invalid_grant"
    );
    assert_eq!(authority.refreshes(), 1 + 3 + 2);
}

#[tokio::test]
async fn the_metadata_names_the_endpoints_and_what_tokens_are_bound_to() {
    let pki = Pki::new();
    let authority = start(&pki);
    let mut client = client(&authority, &pki, None).await;
    let response = client
        .fetch("/.well-known/oauth-authorization-server")
        .await
        .unwrap();
    let metadata: Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(metadata["issuer"], authority.issuer());
    assert_eq!(metadata["token_endpoint"], authority.token_url());
    assert_eq!(metadata["jwks_uri"], authority.jwks_url());
    assert_eq!(
        metadata["introspection_endpoint"],
        authority.introspection_url()
    );
    assert_eq!(
        metadata["registration_endpoint"],
        authority.registration_url()
    );
    let grants = [
        "client_credentials",
        "urn:ietf:params:oauth:grant-type:token-exchange",
        "refresh_token",
    ];
    assert_eq!(metadata["grant_types_supported"], json!(grants));
    let methods = [
        "tls_client_auth",
        "self_signed_tls_client_auth",
        "private_key_jwt",
    ];
    assert_eq!(
        metadata["token_endpoint_auth_methods_supported"],
        json!(methods)
    );
    let algorithms = ["ES256", "ES384", "EdDSA", "PS256", "RS256"];
    for member in [
        "token_endpoint_auth_signing_alg_values_supported",
        "dpop_signing_alg_values_supported",
    ] {
        assert_eq!(metadata[member], json!(algorithms), "{member}");
    }
    assert_eq!(metadata["tls_client_certificate_bound_access_tokens"], true);
    assert_eq!(metadata["tls_session_bound_access_tokens"], true);
    let aliases = json!({
        "token_endpoint": authority.mtls_token_url(),
        "introspection_endpoint": authority.mtls_introspection_url(),
    });
    assert_eq!(metadata["mtls_endpoint_aliases"], aliases);
    assert_ne!(authority.addr(), authority.mtls_addr());
}

#[tokio::test]
async fn the_key_set_is_public_and_its_fetches_are_counted() {
    let pki = Pki::new();
    let authority = start(&pki);
    assert_eq!(authority.jwks_fetches(), 0);
    let mut client = client(&authority, &pki, None).await;
    let response = client.fetch("/jwks").await.unwrap();
    let fetched: Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(fetched, authority.jwks());
    assert_eq!(authority.jwks_fetches(), 1);
    let key = &fetched["keys"][0];
    assert_eq!(
        (&key["kty"], &key["crv"], &key["alg"], &key["use"]),
        (
            &json!("EC"),
            &json!("P-256"),
            &json!("ES256"),
            &json!("sig")
        )
    );
    assert_eq!(key.get("d"), None, "no private key");
}

#[tokio::test]
async fn a_rotated_key_signs_from_then_on_and_old_tokens_still_verify() {
    let authority = start(&Pki::new());
    let before = authority.issue(&TokenRequest::bearer("agent"));
    authority.rotate_key();
    let after = authority.issue(&TokenRequest::bearer("agent"));
    let kid = |token: &str| jsonwebtoken::decode_header(token).unwrap().kid;
    assert_ne!(kid(&before), kid(&after));
    verified(&authority, &before).unwrap();
    verified(&authority, &after).unwrap();
    assert_eq!(authority.jwks()["keys"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_test_can_request_tokens_that_no_authority_should_issue() {
    use jsonwebtoken::errors::ErrorKind;

    let pki = Pki::new();
    let authority = start(&pki);
    let certificate = pki.client("agent", KeyKind::P256).thumbprint();
    let honest = TokenRequest::session_bound("agent", certificate);
    let claims = |request: &TokenRequest| verified(&authority, &authority.issue(request));

    let error = claims(&honest.clone().expired()).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::ExpiredSignature);
    let error = claims(&honest.clone().forged()).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::InvalidSignature);

    let odd = json!({ "tls_exp": 7 });
    assert_eq!(
        claims(&honest.clone().cnf(odd.clone())).unwrap()["cnf"],
        odd
    );
    let elsewhere = claims(&honest.clone().audience("https://else.example")).unwrap();
    assert_eq!(elsewhere["aud"], "https://else.example");
    let short = claims(&honest.clone().lifetime(Duration::from_secs(9))).unwrap();
    assert_eq!(
        short["exp"].as_u64().unwrap() - short["iat"].as_u64().unwrap(),
        9
    );
    let bound = claims(&TokenRequest::certificate_bound("agent", certificate)).unwrap();
    assert_eq!(bound["cnf"], json!({ "x5t#S256": certificate.to_string() }));
}

#[tokio::test]
async fn dropping_it_ends_its_connections() {
    let pki = Pki::new();
    let authority = start(&pki);
    let tls = TlsOptions::alpn(Alpn::Http1).client(&pki, None);
    let mut client = Http::connect(&tls, authority.addr()).await;
    client.fetch("/jwks").await.unwrap();
    drop(authority);
    let _ = client.ended().await;
}
