//! Opaque tokens and introspection (RFC 7662).

use std::time::Duration;

use bowline_proof::EXPORTER_LABEL;
use bowline_testkit::authority::{Authority, AuthorityOptions, Client, TokenFormat, TokenRequest};
use bowline_testkit::pki::{KeyKind, Leaf, Pki};
use serde_json::{Value, json};

use super::{Ask, agent, start, with_clients};

async fn introspected(pki: &Pki, authority: &Authority, server: &Leaf, token: &str) -> Value {
    let ask = Ask::new(pki, authority).by(server).path("/introspect");
    ask.granted(&[("token", token), ("client_id", server.name())])
        .await
}

#[tokio::test]
async fn an_opaque_token_has_no_claims_and_introspection_returns_its_cnf() {
    let pki = Pki::new();
    let options = AuthorityOptions {
        format: TokenFormat::Opaque,
        ..AuthorityOptions::default()
    };
    let authority = Authority::start(&pki, options);
    let agent = agent(&pki);
    let ask = Ask::new(&pki, &authority).by(&agent);
    let answer = ask
        .granted(&[
            ("grant_type", "client_credentials"),
            ("client_id", "agent"),
            ("scope", "read"),
        ])
        .await;
    let token = answer["access_token"].as_str().unwrap();
    assert!(!token.contains('.'), "no JWT");

    let server = pki.client("server", KeyKind::P256);
    let claims = introspected(&pki, &authority, &server, token).await;
    assert_eq!(claims["active"], true);
    let cnf = json!({ "x5t#S256": agent.thumbprint().to_string(), "tls_exp": EXPORTER_LABEL });
    assert_eq!(claims["cnf"], cnf, "TK-1");
    for (member, value) in [
        ("token_type", "Bearer"),
        ("scope", "read"),
        ("client_id", "agent"),
        ("sub", "agent"),
        ("aud", "https://resource.example"),
        ("iss", authority.issuer()),
    ] {
        assert_eq!(claims[member], value, "{member}");
    }
    let (issued, expires) = (
        claims["iat"].as_u64().unwrap(),
        claims["exp"].as_u64().unwrap(),
    );
    assert_eq!(expires - issued, 600);
    assert_eq!(authority.introspections(), 1);
}

#[tokio::test]
async fn a_client_may_have_opaque_tokens_where_others_have_jwts() {
    let pki = Pki::new();
    let opaque = Client {
        format: Some(TokenFormat::Opaque),
        ..Client::new("opaque")
    };
    let authority = with_clients(&pki, [opaque]);
    for (name, dots) in [("opaque", 0), ("other", 2)] {
        let identity = pki.client(name, KeyKind::P256);
        let ask = Ask::new(&pki, &authority).by(&identity);
        let answer = ask
            .granted(&[("grant_type", "client_credentials"), ("client_id", name)])
            .await;
        let token = answer["access_token"].as_str().unwrap();
        assert_eq!(token.matches('.').count(), dots, "{name}");
        assert_eq!(
            introspected(&pki, &authority, &identity, token).await["active"],
            true
        );
    }
}

#[tokio::test]
async fn the_answer_for_an_inactive_token_has_no_other_member() {
    let pki = Pki::new();
    let authority = start(&pki);
    let server = pki.client("server", KeyKind::P256);
    let honest = |format| TokenRequest::bearer("agent").format(format);
    let inactive = json!({ "active": false });
    for format in [TokenFormat::Jwt, TokenFormat::Opaque] {
        let expired = authority.issue(&honest(format).expired());
        let forged = authority.issue(&honest(format).forged());
        let revoked = authority.issue(&honest(format));
        let last_second = authority.issue(&honest(format).lifetime(Duration::ZERO));
        assert_eq!(
            introspected(&pki, &authority, &server, &revoked).await["active"],
            true
        );
        assert!(authority.revoke(&revoked));
        assert!(!authority.revoke(&revoked), "it is no longer valid");
        for token in [&expired, &forged, &revoked, &last_second, "unknown"] {
            assert_eq!(
                introspected(&pki, &authority, &server, token).await,
                inactive,
                "{format:?}"
            );
        }
    }
    let foreign = Authority::start(&pki, AuthorityOptions::default());
    let elsewhere = foreign.issue(&honest(TokenFormat::Jwt));
    assert_eq!(
        introspected(&pki, &authority, &server, &elsewhere).await,
        inactive
    );
}

#[tokio::test]
async fn only_an_authenticated_client_gets_an_answer() {
    let pki = Pki::new();
    let authority = start(&pki);
    let token = authority.issue(&TokenRequest::bearer("agent"));
    let form = [("token", &*token)];
    let ask = || Ask::new(&pki, &authority).path("/introspect");
    assert_eq!(ask().refused(&form).await.0, "invalid_client");
    let server = pki.client("server", KeyKind::P256);
    assert_eq!(
        ask().by(&server).plain().refused(&form).await.0,
        "invalid_client"
    );
    let named = [form[0], ("client_id", "other")];
    assert_eq!(ask().by(&server).refused(&named).await.0, "invalid_client");
    assert_eq!(ask().by(&server).refused(&[]).await.0, "invalid_request");
    // A resource server needs no client_id: its certificate identifies it.
    assert_eq!(ask().by(&server).granted(&form).await["active"], true);
}
