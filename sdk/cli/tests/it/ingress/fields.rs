//! GW-2: what arrives at the service.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bowline_testkit::tls::Alpn;
use http::Request;

use super::fixture::*;

#[tokio::test]
async fn gw_2_the_service_is_told_what_was_verified_and_by_the_ingress_only() {
    let scene = Scene::new();
    for (upstream, is_h2c) in [
        (Upstream::echo(), false),
        (Upstream::echo_unix(&scene), false),
        (Upstream::echo_h2c(), true),
    ] {
        let options: &[&str] = if is_h2c { &["--upstream-h2c"] } else { &[] };
        let ingress = scene.start(&upstream, options).await;
        for alpn in [Alpn::Http1, Alpn::Http2] {
            let mut client = scene.connect(&ingress, alpn).await;
            let token = scene.session_bound();
            let mut request = client.proved(&scene.agent, &token).uri("/a/b?c=d");
            for name in [
                "client-cert",
                "client_cert",
                "client-cert-chain",
                "tls-exporter",
                "tls_exporter",
                "x-forwarded-client-cert",
                "session-binding-verified",
                "session_binding_verified",
                "session-binding-observed",
                "session-binding-receipt",
                "session_binding_receipt",
                "session_binding_proof",
            ] {
                request = request.header(name, "forged");
            }
            let request = request
                .header("origin", "https://other.example")
                .header("cookie", "a=b")
                .header("cookie", "c=d")
                .header("x-kept", "1");
            let arrived = client.get(request).await.arrived();
            let thumbprint = scene.agent.thumbprint().to_string();
            assert_eq!(
                arrived.one("session-binding-verified"),
                format!("class=session, thumbprint=\"{thumbprint}\", resumed=?0, marked")
            );
            let der = STANDARD.encode(scene.agent.certificate());
            assert_eq!(arrived.one("client-cert"), format!(":{der}:"));
            for gone in [
                "client_cert",
                "client-cert-chain",
                "tls-exporter",
                "tls_exporter",
                "x-forwarded-client-cert",
                "session_binding_verified",
                "session-binding-observed",
                "session-binding-receipt",
                "session_binding_receipt",
                "session-binding-proof",
                "session_binding_proof",
                "connection",
                "te",
            ] {
                assert_eq!(arrived.all(gone), [""; 0], "{gone}");
            }
            assert!(!arrived.0.to_string().contains("forged"), "{arrived:?}");
            assert_eq!(arrived.one("origin"), "https://other.example");
            assert_eq!(arrived.one("x-kept"), "1");
            let authorization = token.authorization().to_str().unwrap();
            assert_eq!(arrived.one("authorization"), authorization);
            match is_h2c {
                true => assert_eq!(arrived.0["target"], "http://localhost/a/b?c=d"),
                false => {
                    assert_eq!(arrived.0["target"], "/a/b?c=d");
                    assert_eq!(arrived.one("host"), "localhost");
                    assert_eq!(arrived.one("cookie"), "a=b; c=d");
                }
            }
        }
    }
}

#[tokio::test]
async fn gw_2_trailers_are_kept_and_lose_what_only_the_ingress_may_say() {
    let (scene, upstream) = (Scene::new(), Upstream::echo());
    let ingress = scene.start(&upstream, &["--strip-field", "x-user"]).await;
    let mut raw = scene.raw(&ingress).await;
    let credentials = scene.credentials(&raw);
    raw.write(format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\n{credentials}Transfer-Encoding: chunked\r\n\
         Trailer: x-sum, client-cert, x_user, session-binding-verified, authorization\r\n\
         X-User: root\r\n\r\n\
         5\r\nhello\r\n0\r\nX-Sum: 1\r\nClient-Cert: forged\r\nX_User: root\r\n\
         Session-Binding-Verified: class=session\r\nAuthorization: Bearer other\r\n\r\n"
    ))
    .await;
    let head = raw.until("\r\n\r\n").await.unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let body = raw.until("}").await.unwrap() + "}";
    let arrived = Arrived(serde_json::from_str(&body).unwrap());
    assert_eq!(arrived.0["body"], "hello");
    assert_eq!(arrived.0["trailers"], serde_json::json!([["x-sum", "1"]]));
    assert_eq!(arrived.all("x-user"), [""; 0]);
}

#[tokio::test]
async fn gw_2_connection_options_are_obeyed_or_refused() {
    let (scene, upstream) = (Scene::new(), Upstream::echo());
    let ingress = scene.start(&upstream, &["--strip-field", "x-user"]).await;
    for (option, status) in [
        ("authorization", 400),
        ("client-cert", 400),
        ("Client_Cert", 400),
        ("session-binding-verified", 400),
        ("session-binding-proof", 400),
        ("host", 400),
        ("content-length", 400),
        ("content_type", 400),
        ("cookie", 400),
        ("dpop", 400),
        ("x-user", 400),
        ("x-other", 200),
        ("keep-alive, x-other", 200),
    ] {
        let mut raw = scene.raw(&ingress).await;
        let credentials = scene.credentials(&raw);
        raw.write(format!(
            "GET / HTTP/1.1\r\nHost: localhost\r\n{credentials}Connection: {option}\r\n\
             X-Other: 1\r\nKeep-Alive: 5\r\n\r\n"
        ))
        .await;
        let head = raw.until("\r\n\r\n").await.unwrap();
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status}")),
            "{option}: {head}"
        );
        if status == 200 {
            let body = raw.until("}").await.unwrap();
            assert!(
                !body.contains("x-other") && !body.contains("keep-alive"),
                "{body}"
            );
        }
    }
}

#[tokio::test]
async fn gw_2_under_observe_a_request_that_would_be_refused_is_not_called_verified() {
    let (scene, upstream) = (Scene::new(), Upstream::echo());
    let ingress = scene.start(&upstream, &["--observe"]).await;
    let mut client = scene.connect(&ingress, Alpn::Http2).await;
    let token = scene.certificate_bound();
    let without = client.get(with_token(&token)).await.arrived();
    assert_eq!(
        without.one("session-binding-observed"),
        "class=none, check=\"RS-4\""
    );
    assert_eq!(without.all("session-binding-verified"), [""; 0]);
    assert_eq!(without.all("client-cert").len(), 1);
    let held = client
        .get(client.proved(&scene.agent, &token))
        .await
        .arrived();
    assert_eq!(held.all("session-binding-observed"), [""; 0]);
    assert!(
        held.one("session-binding-verified")
            .starts_with("class=session, ")
    );
    assert!(
        held.one("session-binding-verified")
            .ends_with(", marked=?0")
    );
}

#[tokio::test]
async fn gw_2_a_receipt_for_the_class_session_only() {
    let (scene, upstream) = (Scene::new(), Upstream::echo());
    let key = scene.write_private("receipt.key", "0123456789abcdef0123456789abcdef");
    let options = ["--receipt-key", &format!("@{key}"), "--policy", "follow"];
    let ingress = scene.start(&upstream, &options).await;
    let mut client = scene.connect(&ingress, Alpn::Http2).await;
    let token = scene.certificate_bound();
    let proved = client
        .get(client.proved(&scene.agent, &token))
        .await
        .arrived();
    let receipt = proved.one("session-binding-receipt");
    assert!(
        receipt.starts_with("v=1, class=session, ath=\""),
        "{receipt}"
    );
    let certificate = client.get(with_token(&token)).await.arrived();
    assert!(
        certificate
            .one("session-binding-verified")
            .starts_with("class=certificate")
    );
    assert_eq!(certificate.all("session-binding-receipt"), [""; 0]);
    let bearer = client
        .get(client.proved(&scene.agent, &scene.bearer()))
        .await
        .arrived();
    assert!(
        bearer
            .one("session-binding-verified")
            .starts_with("class=bearer")
    );
    assert_eq!(bearer.all("session-binding-receipt"), [""; 0]);
}

#[tokio::test]
async fn a_public_request_arrives_without_a_token_and_with_the_certificate() {
    let (scene, upstream) = (Scene::new(), Upstream::echo());
    let options = [
        "--public",
        "GET /.well-known/*",
        "--public",
        "!/.well-known/x",
    ];
    let ingress = scene.start(&upstream, &options).await;
    let request = |path| {
        Request::builder()
            .uri(path)
            .header("authorization", "Bearer t")
            .header("client-cert", "forged")
    };
    let mut agent = scene.connect(&ingress, Alpn::Http2).await;
    let arrived = agent.get(request("/.well-known/a")).await.arrived();
    assert_eq!(arrived.all("authorization"), [""; 0]);
    assert_eq!(arrived.all("session-binding-verified"), [""; 0]);
    assert!(arrived.one("client-cert").starts_with(':'));
    assert_eq!(agent.get(request("/.well-known/x")).await.status, 401);
    // RS-1: with a public route no certificate is demanded.
    let mut stranger = scene.connect_as(&ingress, None, Alpn::Http2).await;
    let arrived = stranger.get(request("/.well-known/a")).await.arrived();
    assert_eq!(arrived.all("client-cert"), [""; 0]);
    let token = scene.certificate_bound();
    stranger
        .get(with_token(&token))
        .await
        .assert_refused("RS-3");
}
