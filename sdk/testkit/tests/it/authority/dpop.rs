//! DPoP at the token endpoint (RFC 9449 §5, §8).

use bowline_proof::RequestClaims;
use bowline_proof::dpop::{Claims, DpopKey, Nonce};
use bowline_testkit::authority::{Authority, AuthorityOptions, Client, ClientAuthentication};
use bowline_testkit::pki::{Leaf, LeafSpec, Pki};
use http::{HeaderValue, Method, StatusCode, Uri};
use rustls_pki_types::UnixTime;
use serde_json::{Value, json};

use super::{ASSERTION_TYPE, Ask, agent, assertion_claims, claims, sign, start, with_clients};

const AGENT: [(&str, &str); 2] = [("grant_type", "client_credentials"), ("client_id", "agent")];

fn proof(key: &DpopKey, method: &Method, target: &str, nonce: Option<&Nonce>) -> HeaderValue {
    let target: Uri = target.parse().unwrap();
    let claims = Claims {
        request: &RequestClaims::new(method, &target).unwrap(),
        issued_at: UnixTime::now(),
        token: None,
        nonce,
    };
    key.mint(&claims).unwrap().header_value()
}

fn good_proof(key: &DpopKey, authority: &Authority) -> HeaderValue {
    proof(key, &Method::POST, &authority.mtls_token_url(), None)
}

#[tokio::test]
async fn a_proof_binds_the_token_to_its_key_and_to_nothing_else() {
    let pki = Pki::new();
    let authority = start(&pki);
    let agent = agent(&pki);
    let key = DpopKey::generate().unwrap();
    let ask = Ask::new(&pki, &authority)
        .by(&agent)
        .header("dpop", good_proof(&key, &authority));
    let answer = ask.granted(&AGENT).await;
    assert_eq!(answer["token_type"], "DPoP");
    // TK-0: not tls_exp as well.
    let cnf = json!({ "jkt": key.thumbprint().to_string() });
    assert_eq!(claims(&authority, &answer)["cnf"], cnf);

    let ask = Ask::new(&pki, &authority).by(&agent).path("/introspect");
    let introspected = ask
        .granted(&[("token", answer["access_token"].as_str().unwrap())])
        .await;
    assert_eq!(
        (&introspected["token_type"], &introspected["cnf"]),
        (&json!("DPoP"), &cnf)
    );
}

#[tokio::test]
async fn a_client_with_an_assertion_and_no_certificate_can_have_its_tokens_bound() {
    let pki = Pki::new();
    let signer = Leaf::self_signed(&LeafSpec::client("signer"));
    let client = Client {
        authentication: ClientAuthentication::private_key_jwt(&signer),
        ..Client::new("agent")
    };
    let authority = with_clients(&pki, [client]);
    let key = DpopKey::generate().unwrap();
    let assertion = sign(&signer, &assertion_claims(&authority, "agent"));
    let proof = proof(&key, &Method::POST, &authority.token_url(), None);
    let form = [
        AGENT[0],
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", &assertion),
    ];
    let ask = Ask::new(&pki, &authority).plain().header("dpop", proof);
    let answer = ask.granted(&form).await;
    assert_eq!(
        claims(&authority, &answer)["cnf"]["jkt"],
        key.thumbprint().to_string()
    );
}

#[tokio::test]
async fn a_proof_is_for_this_request_and_once() {
    let pki = Pki::new();
    let authority = start(&pki);
    let agent = agent(&pki);
    let key = DpopKey::generate().unwrap();
    let used = good_proof(&key, &authority);
    let ask = || Ask::new(&pki, &authority).by(&agent);
    ask().header("dpop", used.clone()).granted(&AGENT).await;
    for (proof, check) in [
        (used, "DP-14"),
        (
            proof(&key, &Method::GET, &authority.mtls_token_url(), None),
            "DP-8",
        ),
        // The endpoint of the other port.
        (
            proof(&key, &Method::POST, &authority.token_url(), None),
            "DP-9",
        ),
        (HeaderValue::from_static("a.b.c"), "DP-2"),
    ] {
        let (error, description) = ask().header("dpop", proof).refused(&AGENT).await;
        assert_eq!(error, "invalid_dpop_proof");
        assert!(description.starts_with(check), "{check}: {description}");
    }
    let two = ask()
        .header("dpop", good_proof(&key, &authority))
        .header("dpop", good_proof(&key, &authority));
    assert!(two.refused(&AGENT).await.1.starts_with("DP-1:"));
}

#[tokio::test]
async fn a_nonce_is_required_supplied_and_renewed() {
    let pki = Pki::new();
    let options = AuthorityOptions {
        dpop_nonces: true,
        ..AuthorityOptions::default()
    };
    let authority = Authority::start(&pki, options);
    let agent = agent(&pki);
    let key = DpopKey::generate().unwrap();
    let send = async |nonce: Option<&Nonce>| {
        let proof = proof(&key, &Method::POST, &authority.mtls_token_url(), nonce);
        let response = Ask::new(&pki, &authority)
            .by(&agent)
            .header("dpop", proof)
            .send(&AGENT)
            .await;
        (Nonce::from_response(response.headers()), response)
    };
    let use_nonce = |response: &http::Response<Value>| {
        response.status() == StatusCode::BAD_REQUEST && response.body()["error"] == "use_dpop_nonce"
    };

    let (first, response) = send(None).await;
    assert!(use_nonce(&response));
    let first = first.expect("the nonce to use");
    let (none, response) = send(Some(&first)).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(none, None, "it is the newest");

    authority.rotate_dpop_nonce();
    let (second, response) = send(Some(&first)).await;
    assert_eq!(
        response.status(),
        StatusCode::OK,
        "the previous one is still accepted"
    );
    let second = second.expect("the newer nonce (RFC 9449 section 8.2)");
    assert_ne!(first, second);
    authority.rotate_dpop_nonce();
    assert!(use_nonce(&send(Some(&first)).await.1));
    assert_eq!(send(Some(&second)).await.1.status(), StatusCode::OK);

    // Without a proof no nonce is required.
    Ask::new(&pki, &authority).by(&agent).granted(&AGENT).await;
}
