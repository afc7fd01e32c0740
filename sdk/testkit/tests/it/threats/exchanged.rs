//! T6: a stolen token exchanged at the authorization server.

use bowline_http_client::AccessToken;
use bowline_testkit::authority::TokenRequest;
use http::StatusCode;

use super::{B, C, Fixture, exchange};
use crate::authority::{ACCESS_TOKEN, ASSERTION_TYPE, Ask, EXCHANGE};

fn form<'a>(client_id: &'a str, token: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("grant_type", EXCHANGE),
        ("client_id", client_id),
        ("subject_token", token),
        ("subject_token_type", ACCESS_TOKEN),
        ("resource", C),
    ]
}

/// The form of the attacker that authenticates with an assertion.
fn with_assertion<'a>(token: &'a AccessToken, assertion: &'a str) -> Vec<(&'a str, &'a str)> {
    let mut form = form("attacker-with-a-key", token.secret());
    form.extend([
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", assertion),
    ]);
    form
}

#[tokio::test]
async fn t6_a_client_with_another_certificate_is_refused_by_as_2() {
    let fixture = Fixture::new();
    let token = fixture.token_for(&[B]);
    let c = fixture.pki.client("c", fixture.b.kind());
    // A client of the same authority, and a service that the token is not addressed to.
    for (id, certificate) in [("attacker", &fixture.attacker), ("c", &c)] {
        let ask = Ask::new(&fixture.pki, &fixture.authority).by(certificate);
        let (error, description) = ask.refused(&form(id, token.secret())).await;
        assert_eq!(error, "invalid_request", "RFC 8693 section 2.2.2");
        assert_eq!(
            description,
            "AS-2: the subject_token is neither bound nor addressed to this client"
        );
    }
    // The attacker cannot authenticate as B.
    let ask = Ask::new(&fixture.pki, &fixture.authority).by(&fixture.attacker);
    assert_eq!(
        ask.refused(&form("b", token.secret())).await.0,
        "invalid_client"
    );
    assert_eq!(fixture.authority.exchanges(), 3);
}

#[tokio::test]
async fn t6_a_client_without_certificate_is_refused_by_as_2_on_either_port() {
    let fixture = Fixture::new();
    let token = fixture.token_for(&[B]);
    for is_plain in [false, true] {
        // Without any authentication there is not even a client.
        let ask = || {
            let ask = Ask::new(&fixture.pki, &fixture.authority);
            if is_plain { ask.plain() } else { ask }
        };
        assert_eq!(
            ask().refused(&form("a", token.secret())).await.0,
            "invalid_client"
        );
        // Authenticated as the client that it is.
        let assertion = fixture.attackers_assertion();
        let form = with_assertion(&token, &assertion);
        let (_, description) = ask().refused(&form).await;
        assert_eq!(
            description,
            "AS-2: the subject_token is bound to a certificate, and is exchanged only over mutual TLS"
        );
    }
    // With its own certificate the request comes over mutual TLS, but the token is still not this
    // client's.
    let assertion = fixture.attackers_assertion();
    let form = with_assertion(&token, &assertion);
    let ask = Ask::new(&fixture.pki, &fixture.authority).by(&fixture.attacker);
    assert!(
        ask.refused(&form)
            .await
            .1
            .starts_with("AS-2: the subject_token is neither")
    );
}

#[tokio::test]
async fn t6_the_client_that_it_is_bound_to_and_the_one_that_it_is_addressed_to_may_exchange_it() {
    let fixture = Fixture::new();
    let token = fixture.token_for(&[B]);
    for (id, certificate) in [("a", &fixture.a), ("b", &fixture.b)] {
        let client = fixture.client(certificate);
        let token_url = fixture.authority.mtls_token_url();
        let (status, answer) = exchange(&client, &token_url, id, &token, C).await;
        assert_eq!(status, StatusCode::OK, "{id}: {answer}");
    }
}

/// Why AS-2 is needed: nothing else distinguishes the attacker from the owner of a token.
#[tokio::test]
async fn t6_a_stolen_bearer_token_is_exchanged_for_anyone() {
    let fixture = Fixture::new();
    let token = fixture
        .authority
        .issue(&TokenRequest::bearer("a").audience(B));
    let ask = Ask::new(&fixture.pki, &fixture.authority).by(&fixture.attacker);
    ask.granted(&form("attacker", &token)).await;
}
