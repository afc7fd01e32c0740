//! DPoP over real connections: proofs are not bound to a connection, so other checks must refuse
//! stolen ones.

use std::time::Duration;

use bowline_proof::dpop::{Claims, DPOP_HEADER, DpopKey, Nonce, Proof};
use bowline_proof::{AccessToken, RequestClaims, Scheme, TokenHash};
use bowline_server::{
    AcceptPolicy, BindingLayer, ClientAuth, Dpop, DpopNonces, JwtValidator, MemoryReplayStore,
};
use http::{Method, Request};
use http_body_util::Empty;
use rustls_pki_types::UnixTime;
use serde_json::json;

use crate::authority::Authority;
use crate::fixture::*;

/// The audience of the tokens, and the URL by which clients address the server.
const TARGET: &str = "https://api.example.com/";

fn layer(fixture: &Fixture, dpop: Dpop) -> BindingLayer<JwtValidator> {
    let origin = TARGET.parse().unwrap();
    fixture
        .layer()
        .policy(AcceptPolicy::Follow)
        .origins([origin])
        .dpop(dpop)
}

fn with_replay_store() -> Dpop {
    Dpop::new(MemoryReplayStore::default())
}

/// A server with DPoP and this client authentication.
async fn start(fixture: &Fixture, client_auth: ClientAuth, dpop: Dpop) -> TestServer {
    let listener = fixture.listener(fixture.tls_with(client_auth)).await;
    TestServer::start(
        listener,
        binding_report().layer(layer(fixture, dpop)),
        fixture.options(),
    )
}

/// A token that is bound to `key`.
fn token(fixture: &Fixture, key: &DpopKey) -> AccessToken {
    let mut claims = Authority::claims();
    claims["cnf"] = json!({ "jkt": key.thumbprint().to_string() });
    let token = fixture.authority.sign(&fixture.authority.header(), &claims);
    token.with_scheme(Scheme::Dpop)
}

fn proof(key: &DpopKey, token: &AccessToken) -> Proof {
    proof_for(
        key,
        token.hash(),
        &Method::GET,
        TARGET,
        UnixTime::now(),
        None,
    )
}

fn proof_for(
    key: &DpopKey,
    token: &TokenHash,
    method: &Method,
    uri: &str,
    issued_at: UnixTime,
    nonce: Option<&Nonce>,
) -> Proof {
    let claims = Claims {
        request: &RequestClaims::new(method, &uri.parse().unwrap()).unwrap(),
        issued_at,
        token: Some(token),
        nonce,
    };
    key.mint(&claims).unwrap()
}

async fn get(connection: &mut HttpConnection, token: &AccessToken, proof: &Proof) -> Answer {
    let request = Request::get("/")
        .header("authorization", token.authorization())
        .header(DPOP_HEADER, proof.header_value());
    connection
        .send(request.body(Empty::new()).unwrap())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_dpop_bound_token_passes_on_h1_and_h2_whether_or_not_there_is_a_client_certificate() {
    let fixture = Fixture::new();
    let key = DpopKey::generate().unwrap();
    let token = token(&fixture, &key);
    for client_auth in [
        ClientAuth::None,
        ClientAuth::Required(fixture.ca.roots().into()),
    ] {
        let server = start(&fixture, client_auth, with_replay_store()).await;
        for alpn in ["h2", "http/1.1"] {
            let mut connection = HttpConnection::connect(server.addr, &fixture.client(alpn)).await;
            for _ in 0..3 {
                get(&mut connection, &token, &proof(&key, &token))
                    .await
                    .assert_passed("dpop");
            }
        }
    }
}

#[tokio::test]
async fn every_kind_of_key_passes() {
    let fixture = Fixture::new();
    let server = start(&fixture, ClientAuth::None, with_replay_store()).await;
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ED25519,
    ] {
        let pkcs8 = rcgen::KeyPair::generate_for(algorithm)
            .unwrap()
            .serialize_der();
        let key = DpopKey::from_pkcs8(&pkcs8.into()).unwrap();
        let token = token(&fixture, &key);
        let mut connection = HttpConnection::connect(server.addr, &fixture.client("h2")).await;
        get(&mut connection, &token, &proof(&key, &token))
            .await
            .assert_passed("dpop");
    }
}

/// With a session-bound token RS-6 refuses this (T1); here only the replay store does.
#[tokio::test]
async fn a_stolen_proof_is_refused_on_another_connection_once_it_was_used_and_not_before() {
    let fixture = Fixture::new();
    let key = DpopKey::generate().unwrap();
    let token = token(&fixture, &key);
    let server = start(&fixture, ClientAuth::None, with_replay_store()).await;
    for alpn in ["h2", "http/1.1"] {
        let config = fixture.client(alpn);
        let mut victim = HttpConnection::connect(server.addr, &config).await;
        let mut thief = HttpConnection::connect(server.addr, &config).await;
        let used = proof(&key, &token);
        get(&mut victim, &token, &used).await.assert_passed("dpop");
        get(&mut thief, &token, &used).await.assert_refused("DP-14");
        get(&mut victim, &token, &used)
            .await
            .assert_refused("DP-14");

        // The first use wins, because DPoP does not bind to the connection.
        let caught = proof(&key, &token);
        get(&mut thief, &token, &caught).await.assert_passed("dpop");
        get(&mut victim, &token, &caught)
            .await
            .assert_refused("DP-14");
    }
}

#[tokio::test]
async fn a_replay_store_that_is_not_shared_does_not_stop_a_replay_at_another_server() {
    let fixture = Fixture::new();
    let key = DpopKey::generate().unwrap();
    let token = token(&fixture, &key);
    let one = start(&fixture, ClientAuth::None, with_replay_store()).await;
    let two = start(&fixture, ClientAuth::None, with_replay_store()).await;
    let proof = proof(&key, &token);
    for server in [&one, &two] {
        let mut connection = HttpConnection::connect(server.addr, &fixture.client("h2")).await;
        get(&mut connection, &token, &proof)
            .await
            .assert_passed("dpop");
        get(&mut connection, &token, &proof)
            .await
            .assert_refused("DP-14");
    }
}

#[tokio::test]
async fn a_stolen_token_is_refused_without_its_key() {
    let fixture = Fixture::new();
    let (key, own) = (DpopKey::generate().unwrap(), DpopKey::generate().unwrap());
    let token = token(&fixture, &key);
    let server = start(&fixture, ClientAuth::None, with_replay_store()).await;
    let mut connection = HttpConnection::connect(server.addr, &fixture.client("h2")).await;
    get(&mut connection, &token, &proof(&own, &token))
        .await
        .assert_refused("DP-12");
    let bearer = token.clone().with_scheme(Scheme::Bearer);
    connection.assert_refused(&bearer, None, "DP-16").await;
    get(&mut connection, &bearer, &proof(&key, &token))
        .await
        .assert_refused("DP-16");
    connection.assert_refused(&token, None, "DP-13").await;
    get(&mut connection, &token, &proof(&key, &token))
        .await
        .assert_passed("dpop");
}

#[tokio::test]
async fn a_proof_for_another_request_is_refused() {
    let fixture = Fixture::new();
    let key = DpopKey::generate().unwrap();
    let token = token(&fixture, &key);
    let server = start(&fixture, ClientAuth::None, with_replay_store()).await;
    let mut connection = HttpConnection::connect(server.addr, &fixture.client("h2")).await;
    let now = UnixTime::now();
    let before = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs() - seconds));
    let other = fixture.authority.bearer();
    let made = |method, uri, issued_at| proof_for(&key, token.hash(), method, uri, issued_at, None);
    for (proof, id) in [
        (made(&Method::POST, TARGET, now), "DP-8"),
        (
            made(&Method::GET, "https://api.example.com/other", now),
            "DP-9",
        ),
        (made(&Method::GET, "https://localhost/", now), "DP-9"),
        (made(&Method::GET, TARGET, before(310)), "DP-11"),
        (
            proof_for(&key, other.hash(), &Method::GET, TARGET, now, None),
            "DP-12",
        ),
    ] {
        get(&mut connection, &token, &proof)
            .await
            .assert_refused(id);
    }
    let proof = made(&Method::GET, "https://api.example.com/?query=ignored", now);
    get(&mut connection, &token, &proof)
        .await
        .assert_passed("dpop");
}

#[tokio::test]
async fn a_proof_made_in_advance_is_refused_if_a_nonce_is_required() {
    let fixture = Fixture::new();
    let key = DpopKey::generate().unwrap();
    let token = token(&fixture, &key);
    let period = 3600;
    let dpop = with_replay_store().nonces(DpopNonces::random(Duration::from_secs(period)));
    let server = start(&fixture, ClientAuth::None, dpop).await;
    let mut connection = HttpConnection::connect(server.addr, &fixture.client("h2")).await;
    let with_nonce = |nonce, ahead| {
        let at = UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs() + ahead));
        proof_for(&key, token.hash(), &Method::GET, TARGET, at, Some(nonce))
    };

    let asked = get(&mut connection, &token, &proof(&key, &token)).await;
    asked.assert_refused("DP-10");
    let nonce = asked.nonce.expect("a nonce comes with the challenge");
    get(&mut connection, &token, &with_nonce(&nonce, 0))
        .await
        .assert_passed("dpop");

    // For a later time, when the attacker no longer has the key.
    let in_advance = with_nonce(&nonce, 3 * period);
    fixture.clock.advance(3 * period);
    let refused = get(&mut connection, &token, &in_advance).await;
    refused.assert_refused("DP-10");
    let newer = refused.nonce.expect("a nonce comes with the challenge");
    let proof = with_nonce(&newer, 3 * period);
    get(&mut connection, &token, &proof)
        .await
        .assert_passed("dpop");
}
