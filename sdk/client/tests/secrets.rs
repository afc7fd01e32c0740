//! No token, proof or exporter value in any log line at trace level (EX-7): of this crate, of the
//! server, or of their dependencies.
//!
//! A binary of its own, because the test needs the logger of the process.

mod fixture;

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bowline_http_client::{AccessToken, HttpVersions, Observer, ProofScope};
use bowline_testkit::log::Log;
use bowline_testkit::peers::{Cycle, CyclingOptions, MisbehavingPeer, Misbehaviour};
use bowline_testkit::pki::KeyKind;
use fixture::{EventLog, Fixture, fetch, jwt, ok, post, session_cnf};
use futures_util::future::join_all;

#[tokio::test]
async fn no_secret_is_logged() {
    let log = Log::for_process();

    let fixture = Fixture::new();
    let tokens = exercise(&fixture).await;

    let log = log.text();
    assert!(
        log.len() > 100_000,
        "only {} bytes were logged: the test shows nothing",
        log.len()
    );
    for part in ["rustls", "h2::", "hyper", "bowline_server", "event"] {
        assert!(log.contains(part), "nothing of {part} was logged");
    }
    let proofs = fixture.requests.proofs();
    assert!(proofs.len() >= 20, "{}", proofs.len());
    for (what, secret) in secrets(&tokens, &proofs) {
        assert!(!log.contains(&secret), "the log has {what}");
    }
}

/// Requests with every outcome: accepted, refused, cut, failed.
async fn exercise(fixture: &Fixture) -> Vec<AccessToken> {
    let mut tokens = Vec::new();
    let mut token = |name: &str| {
        tokens.push(fixture.token(name));
        tokens[tokens.len() - 1].clone()
    };
    for http in [HttpVersions::Http1, HttpVersions::Http2] {
        for proof_scope in [ProofScope::Connection, ProofScope::Request] {
            let server = fixture.server(CyclingOptions {
                cycle: Cycle::max_responses(4),
                ..CyclingOptions::default()
            });
            let observer: Arc<dyn Observer> = Arc::new(EventLog);
            let builder = fixture
                .builder()
                .http_versions(http)
                .proof_scope(proof_scope)
                .observer(observer);
            let client = builder.build().unwrap();
            let url = format!("{}/some/path", server.origin());
            let a = token("a-token-with-a-name");
            for _ in 0..6 {
                ok(&client, &url, &a).await;
            }
            join_all((0..8).map(|_| post(&client, &url, &a, "concurrent"))).await;
            // Refused: bound to another certificate, and (by a client without this check) by the
            // server.
            let other = fixture.pki.client("other", KeyKind::P384);
            let foreign = jwt("foreign", Some(session_cnf(other.thumbprint())));
            let _ = fetch(&client, &url, &foreign).await;
            let _ = fetch(
                &client,
                &url,
                &AccessToken::new("an-opaque-secret-token").unwrap(),
            )
            .await;
            server.cut_all();
            let _ = fetch(&client, &url, &a).await;
        }
    }
    for misbehaviour in [
        Misbehaviour::Garbage,
        Misbehaviour::CutMidBody,
        Misbehaviour::TruncatedHandshake,
    ] {
        let peer = MisbehavingPeer::start(&fixture.pki, misbehaviour);
        let error = match fetch(&fixture.client(), &peer.origin(), &token("for-a-bad-peer")).await {
            Ok(response) => http_body_util::BodyExt::collect(response.into_body())
                .await
                .unwrap_err(),
            Err(error) => error,
        };
        tracing::error!(%error, ?error, "as a caller would log it");
    }
    tokens.push(AccessToken::new("an-opaque-secret-token").unwrap());
    tokens
}

/// Every encoding in which a log could contain a secret.
fn secrets(tokens: &[AccessToken], proofs: &[String]) -> Vec<(&'static str, String)> {
    let mut secrets = Vec::new();
    for token in tokens {
        // The first part of these JWTs is the same public header in all of them.
        let payload = token.secret().split('.').nth(1).unwrap_or(token.secret());
        secrets.push(("a token", payload.to_owned()));
        secrets.push((
            "a token's hash",
            URL_SAFE_NO_PAD.encode(token.hash().as_bytes()),
        ));
        secrets.push(("a token's hash", hex(token.hash().as_bytes())));
    }
    for proof in proofs {
        let parts: Vec<_> = proof.split('.').collect();
        secrets.push(("a proof's payload", parts[1].to_owned()));
        secrets.push(("a proof's signature", parts[2].to_owned()));
        let payload = URL_SAFE_NO_PAD.decode(parts[1]).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        let ekm = claims["ekm"].as_str().unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(ekm).unwrap();
        assert_eq!(bytes.len(), 32);
        secrets.push(("an exporter value", ekm.to_owned()));
        secrets.push(("an exporter value", STANDARD.encode(&bytes)));
        secrets.push(("an exporter value", hex(&bytes)));
        secrets.push(("an exporter value", format!("{bytes:?}")));
    }
    secrets
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
