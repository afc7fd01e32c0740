//! No token and no DPoP proof in any log line at trace level (EX-7): of this crate, of the server,
//! or of their dependencies.
//!
//! A binary of its own, because the test needs the logger of the process.

mod fixture;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bowline_http_client::{HttpVersions, Observer};
use bowline_server::DpopNonces;
use bowline_testkit::log::Log;
use bowline_testkit::tls::Alpn;
use fixture::{EventLog, fetch, jwt};
use futures_util::future::join_all;

use crate::fixture::dpop::{DpopFixture, class, with_replay_store, without_certificates};

#[tokio::test]
async fn no_secret_is_logged() {
    let log = Log::for_process();

    let fixture = DpopFixture::new();
    let (token, opaque) = (
        fixture.token("a-token-with-a-name"),
        "an-opaque-secret-token",
    );
    for http in [HttpVersions::Http1, HttpVersions::Http2] {
        let nonces = DpopNonces::random(Duration::from_secs(3600));
        let server = fixture.server(
            without_certificates(Alpn::Both),
            with_replay_store().nonces(nonces),
        );
        let observer: Arc<dyn Observer> = Arc::new(EventLog);
        let client = fixture
            .builder()
            .http_versions(http)
            .observer(observer)
            .build()
            .unwrap();
        let url = format!("{}/some/path", server.origin());
        for _ in 0..3 {
            class(&client, &url, &token).await;
        }
        join_all((0..8).map(|_| class(&client, &url, &token))).await;
        let request = http::Request::get(&url).header("authorization", format!("DPoP {opaque}"));
        let request = request.body(http_body_util::Empty::new()).unwrap();
        assert_eq!(client.send(request).await.unwrap().status(), 200);
        let other_key = bowline_http_client::DpopKey::generate()
            .unwrap()
            .thumbprint();
        let foreign = jwt(
            "foreign",
            Some(serde_json::json!({ "jkt": other_key.to_string() })),
        );
        let error = fetch(&client, &url, &foreign).await.unwrap_err();
        tracing::error!(%error, ?error, "as a caller would log it");
        server.cut_all();
        let _ = fetch(&client, &url, &token).await;
    }

    let log = log.text();
    for part in [
        "rustls",
        "h2::",
        "hyper",
        "bowline_server",
        "event",
        "DP-10",
    ] {
        assert!(log.contains(part), "nothing of {part} was logged");
    }
    let proofs = fixture.arrivals.proofs();
    assert!(proofs.len() >= 24, "{}", proofs.len());
    let mut secrets = vec![
        token.secret().split('.').nth(1).unwrap().to_owned(),
        opaque.to_owned(),
    ];
    secrets.push(URL_SAFE_NO_PAD.encode(token.hash().as_bytes()));
    for proof in &proofs {
        secrets.extend(proof.split('.').skip(1).map(str::to_owned));
    }
    for claims in fixture.arrivals.claims() {
        secrets.push(claims["jti"].as_str().unwrap().to_owned());
    }
    for secret in secrets {
        assert!(!log.contains(&secret), "the log has {secret}");
    }
}
