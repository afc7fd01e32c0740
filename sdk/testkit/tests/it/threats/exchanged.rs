//! T6: a stolen token exchanged at the authorization server.

use bowline_testkit::authority::TokenRequest;
use http::StatusCode;

use super::{B, C, Scene, exchange};
use crate::authority::{ACCESS_TOKEN, ASSERTION_TYPE, Ask, EXCHANGE, assertion_claims, sign};

fn form<'a>(client_id: &'a str, token: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("grant_type", EXCHANGE),
        ("client_id", client_id),
        ("subject_token", token),
        ("subject_token_type", ACCESS_TOKEN),
        ("resource", C),
    ]
}

#[tokio::test]
async fn t6_who_has_another_certificate_is_refused_by_as_2() {
    let scene = Scene::new();
    let token = scene.token_for(&[B]);
    let c = scene.pki.client("c", scene.b.kind());
    // A client of the same authority, and a service that the token is not addressed to.
    for (id, certificate) in [("thief", &scene.thief), ("c", &c)] {
        let ask = Ask::new(&scene.pki, &scene.authority).by(certificate);
        let (error, description) = ask.refused(&form(id, token.secret())).await;
        assert_eq!(error, "invalid_request", "RFC 8693 section 2.2.2");
        assert_eq!(
            description,
            "AS-2: the subject_token is neither bound nor addressed to this client"
        );
    }
    // Nobody but B is B.
    let ask = Ask::new(&scene.pki, &scene.authority).by(&scene.thief);
    assert_eq!(
        ask.refused(&form("b", token.secret())).await.0,
        "invalid_client"
    );
    assert_eq!(scene.authority.exchanges(), 3);
}

#[tokio::test]
async fn t6_who_has_no_certificate_is_refused_by_as_2_on_either_port() {
    let scene = Scene::new();
    let token = scene.token_for(&[B]);
    for is_plain in [false, true] {
        // Without any authentication there is not even a client.
        let ask = || {
            let ask = Ask::new(&scene.pki, &scene.authority);
            if is_plain { ask.plain() } else { ask }
        };
        assert_eq!(
            ask().refused(&form("a", token.secret())).await.0,
            "invalid_client"
        );
        // Authenticated as what it is.
        let assertion = sign(
            &scene.thiefs_key,
            &assertion_claims(&scene.authority, "thief-with-a-key"),
        );
        let mut form = form("thief-with-a-key", token.secret());
        form.extend([
            ("client_assertion_type", ASSERTION_TYPE),
            ("client_assertion", &assertion),
        ]);
        let (_, description) = ask().refused(&form).await;
        assert_eq!(
            description,
            "AS-2: the subject_token is bound to a certificate, and is exchanged only over mutual TLS"
        );
    }
    // With a certificate of its own it is over mutual TLS, and still not this client's token.
    let assertion = sign(
        &scene.thiefs_key,
        &assertion_claims(&scene.authority, "thief-with-a-key"),
    );
    let mut form = form("thief-with-a-key", token.secret());
    form.extend([
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", &assertion),
    ]);
    let ask = Ask::new(&scene.pki, &scene.authority).by(&scene.thief);
    assert!(
        ask.refused(&form)
            .await
            .1
            .starts_with("AS-2: the subject_token is neither")
    );
}

#[tokio::test]
async fn t6_the_client_that_it_is_bound_to_and_the_one_that_it_is_addressed_to_may_exchange_it() {
    let scene = Scene::new();
    let token = scene.token_for(&[B]);
    for (id, certificate) in [("a", &scene.a), ("b", &scene.b)] {
        let client = scene.client(certificate);
        let token_url = scene.authority.mtls_token_url();
        let (status, answer) = exchange(&client, &token_url, id, &token, C).await;
        assert_eq!(status, StatusCode::OK, "{id}: {answer}");
    }
}

/// Why AS-2 is needed: nothing else tells the thief of a token from its owner.
#[tokio::test]
async fn t6_a_stolen_bearer_token_is_exchanged_for_anybody() {
    let scene = Scene::new();
    let token = scene
        .authority
        .issue(&TokenRequest::bearer("a").audience(B));
    let ask = Ask::new(&scene.pki, &scene.authority).by(&scene.thief);
    ask.granted(&form("thief", &token)).await;
}
