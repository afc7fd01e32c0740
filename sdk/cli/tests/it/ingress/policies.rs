//! Policies as today's tokens meet them (RS-13, GW-4).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bowline_proof::dpop::{Claims, DpopKey, Nonce};
use bowline_proof::{ExporterValue, PROOF_HEADER, RequestClaims, Scheme};
use bowline_testkit::authority::{TokenFormat, TokenRequest};
use bowline_testkit::tls::{Alpn, TlsOptions};
use http::Method;

use super::fixture::*;

#[tokio::test]
async fn require_proof_is_the_default_and_asks_for_a_proof() {
    let (scene, upstream) = (Scene::new(), Upstream::echo());
    let ingress = scene.start(&upstream, &[]).await;
    let mut client = scene.connect(&ingress, Alpn::Http2).await;
    let token = scene.certificate_bound();
    let missing = client.get(with_token(&token)).await;
    missing.assert_refused("RS-4");
    let challenge = missing.headers["www-authenticate"].to_str().unwrap();
    assert!(challenge.contains("use_session_binding"), "{challenge}");
    let passed = client.get(client.proved(&scene.agent, &token)).await;
    let verified = passed.arrived();
    let verified = verified.one("session-binding-verified");
    assert!(verified.starts_with("class=session, "), "{verified}");
    assert!(verified.ends_with("marked=?0"), "{verified}");
    client
        .get(with_token(&scene.bearer()))
        .await
        .assert_refused("RS-13");
    assert_eq!(upstream.requests(), 1);
}

/// RS-1: where every request must be proved and none is public, the handshake demands one.
#[tokio::test]
async fn rs_1_a_certificate_is_demanded_where_nothing_passes_without() {
    let (scene, upstream) = (Scene::new(), Upstream::echo());
    let metadata = r#"{"resource":"https://localhost/mcp"}"#;
    let metadata = scene.write("resource.json", metadata);
    for (options, demanded) in [
        (&["--policy", "require-proof"][..], true),
        (&["--policy", "require-session"], true),
        (&["--policy", "require-proof", "--observe"], false),
        (&["--policy", "require-proof", "--public", "/x"], false),
        (&["--resource-metadata", metadata.as_str()], false),
        (&["--policy", "require-bound"], false),
        (&["--policy", "follow"], false),
    ] {
        let ingress = scene.start(&upstream, options).await;
        // In TLS 1.3 the client learns of it with what it reads first.
        let stream = scene.tls(&ingress, None, Alpn::Http1).await;
        let mut raw = Raw::over(stream);
        raw.write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        let status = raw.response().await.map(|(status, _)| status);
        let expected = if demanded { None } else { Some(401) };
        assert_eq!(status, expected, "{options:?}");
    }
}

/// A thief with a certificate of their own, and so with a valid proof of their own.
#[tokio::test]
async fn a_stolen_bearer_token_with_the_thiefs_own_proof() {
    let (scene, upstream) = (Scene::new(), Upstream::echo());
    let token = scene.bearer();
    for (policy, check) in [
        ("follow", None),
        ("require-bound", Some("RS-13")),
        ("require-proof", Some("RS-13")),
        ("require-session", Some("RS-13")),
    ] {
        let ingress = scene.start(&upstream, &["--policy", policy]).await;
        let mut thief = scene
            .connect_as(&ingress, Some(&scene.thief), Alpn::Http2)
            .await;
        let answer = thief.get(thief.proved(&scene.thief, &token)).await;
        match check {
            Some(check) => answer.assert_refused(check),
            None => {
                let arrived = answer.arrived();
                let verified = arrived.one("session-binding-verified");
                assert!(verified.starts_with("class=bearer, "), "{verified}");
            }
        }
    }
    assert_eq!(upstream.requests(), 1);
}

#[tokio::test]
async fn gw_4_behind_binding_only_a_form_with_a_token_is_refused() {
    let (scene, upstream) = (Scene::new(), Upstream::echo());
    let ingress = scene.start_with(&upstream.url(), &["--binding-only"]).await;
    let mut client = scene.connect(&ingress, Alpn::Http2).await;
    let token = scene.certificate_bound();
    for form in [
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
    ] {
        let request = client
            .proved(&scene.agent, &token)
            .header("content-type", form);
        let answer = client.post(request, "access_token=other").await;
        answer.assert_refused("TK-0");
    }
    assert_eq!(upstream.requests(), 0);
    let request = client
        .proved(&scene.agent, &token)
        .header("content-type", "application/json");
    let arrived = client.post(request, "{}").await.arrived();
    assert_eq!(
        arrived.one("authorization"),
        token.authorization().to_str().unwrap()
    );
    // What the service must refuse; here only the binding counts.
    let forged = TokenRequest::certificate_bound("agent", scene.agent.thumbprint()).forged();
    let forged = scene.token(&forged);
    client
        .get(client.proved(&scene.agent, &forged))
        .await
        .arrived();
    let opaque = TokenRequest::certificate_bound("agent", scene.agent.thumbprint());
    let opaque = scene.token(&opaque.format(TokenFormat::Opaque));
    client
        .get(client.proved(&scene.agent, &opaque))
        .await
        .assert_refused("RS-2");
    client.get(with_token(&token)).await.assert_refused("RS-4");
}

#[tokio::test]
async fn rs_12_a_proof_for_one_request_where_a_pattern_demands_it() {
    let (scene, upstream) = (Scene::new(), Upstream::echo());
    let options = ["--request-bound", "*", "--request-bound", "!GET /status"];
    let ingress = scene.start(&upstream, &options).await;
    let mut client = scene.connect(&ingress, Alpn::Http2).await;
    let token = scene.session_bound();
    let request = client.proved(&scene.agent, &token).uri("/status");
    client.get(request).await.arrived();
    for path in ["/status/", "/a", "/%73tatus", "/status;a", "/a/../status"] {
        let request = client.proved(&scene.agent, &token).uri(path);
        client.get(request).await.assert_refused("RS-12");
    }
    let request = client.proved(&scene.agent, &token).uri("/status");
    client.post(request, "").await.assert_refused("RS-12");
    // The origin is the certificate's name with the listening port.
    let uri = format!("{}/a?b=c", ingress.origin());
    let request = Some((Method::GET, uri.as_str()));
    let bound = proof_for(&scene.agent, &token, &client.exporter, request);
    let request = || {
        with_token(&token)
            .uri("/a?b=c")
            .header(PROOF_HEADER, bound.header_value())
    };
    client.get(request()).await.arrived();
    client.get(request()).await.assert_refused("RS-9");
}

#[tokio::test]
async fn opaque_tokens_are_introspected() {
    let (scene, upstream) = (Scene::new(), Upstream::echo());
    let url = scene.authority.mtls_introspection_url();
    let files = scene.agent.write_to(&scene.path("")).unwrap();
    let ca = scene.write("authority.pem", scene.authority.ca_pem());
    let (cert, key) = (
        files.certificate.display().to_string(),
        files.key.display().to_string(),
    );
    let options = [
        "--introspect",
        &url,
        "--introspect-id",
        "agent",
        "--introspect-cert",
        &cert,
        "--introspect-key",
        &key,
        "--authority-ca",
        &ca,
        "--audience",
        AUDIENCE,
    ];
    let ingress = scene.start_with(&upstream.url(), &options).await;
    let token = TokenRequest::certificate_bound("agent", scene.agent.thumbprint());
    let token = scene.token(&token.format(TokenFormat::Opaque));
    let mut client = scene.connect(&ingress, Alpn::Http2).await;
    let arrived = client
        .get(client.proved(&scene.agent, &token))
        .await
        .arrived();
    assert!(
        arrived
            .one("session-binding-verified")
            .starts_with("class=session")
    );
    assert_eq!(scene.authority.introspections(), 1);
}

#[tokio::test]
async fn resource_metadata_is_served_and_named_in_challenges() {
    let (scene, upstream) = (Scene::new(), Upstream::echo());
    let metadata = r#"{"resource":"https://localhost/mcp","scopes_supported":["a"],"x":1}"#;
    let metadata = scene.write("resource.json", metadata);
    let ingress = scene
        .start(&upstream, &["--resource-metadata", &metadata])
        .await;
    let mut client = scene.connect_as(&ingress, None, Alpn::Http2).await;
    let path = "/.well-known/oauth-protected-resource/mcp";
    let answer = client.get(http::Request::builder().uri(path)).await;
    assert_eq!(answer.status, 200);
    let document: serde_json::Value = serde_json::from_str(&answer.text).unwrap();
    assert_eq!(document["resource"], "https://localhost/mcp");
    assert_eq!(document["scopes_supported"][0], "a");
    assert_eq!(document["x"], 1);
    let refused = client.get(http::Request::builder().uri("/mcp")).await;
    let challenge = refused.headers["www-authenticate"].to_str().unwrap();
    assert!(challenge.contains(path), "{challenge}");
    assert_eq!(upstream.requests(), 0);
}

/// Under `follow` a DPoP-bound token passes with its proof, here with a nonce.
#[tokio::test]
async fn dpop_bound_tokens_pass_where_the_policy_has_a_place_for_them() {
    let (scene, upstream) = (Scene::new(), Upstream::echo());
    let key = DpopKey::generate().unwrap();
    let cnf = serde_json::json!({ "jkt": key.thumbprint().to_string() });
    let token = scene.token(&TokenRequest::bearer("agent").cnf(cnf));
    let follow = ["--policy", "follow", "--dpop-nonces"];
    let ingress = scene.start(&upstream, &follow).await;
    let mut client = scene.connect(&ingress, Alpn::Http2).await;
    let uri = format!("{}/", ingress.origin());
    let request = |nonce: Option<Nonce>| {
        let target = RequestClaims::new(&Method::GET, &uri.parse().unwrap()).unwrap();
        let claims = Claims {
            request: &target,
            token: Some(token.hash()),
            nonce: nonce.as_ref(),
            issued_at: rustls_pki_types::UnixTime::now(),
        };
        let proof = key.mint(&claims).unwrap();
        http::Request::builder()
            .uri("/")
            .header("authorization", token.authorization_as(Scheme::Dpop))
            .header("dpop", proof.header_value())
    };
    let asked = client.get(request(None)).await;
    assert_eq!(asked.status, 401);
    let nonce = Nonce::from_response(&asked.headers);
    let arrived = client.get(request(nonce)).await.arrived();
    let verified = arrived.one("session-binding-verified");
    assert!(verified.starts_with("class=dpop, "), "{verified}");

    let ingress = scene.start(&upstream, &[]).await;
    let mut client = scene.connect(&ingress, Alpn::Http2).await;
    client.get(request(None)).await.assert_refused("RS-13");
}

/// GW-3: only a named proxy is believed, and the class says that it was only attested.
#[tokio::test]
async fn gw_3_a_named_proxy_speaks_for_its_clients() {
    let (scene, upstream) = (Scene::new(), Upstream::echo());
    let ingress = scene.start(&upstream, &["--trust-proxy", "CN=thief"]).await;
    let proxy = &scene.thief;
    let mut through = scene.connect_as(&ingress, Some(proxy), Alpn::Http2).await;
    let token = scene.certificate_bound();
    let exporter = ExporterValue::from_bytes([7; 32]);
    let proved = proof(&scene.agent, &token, &exporter);
    let encode = |bytes: &[u8]| format!(":{}:", STANDARD.encode(bytes));
    let request = || {
        with_token(&token)
            .header(PROOF_HEADER, proved.header_value())
            .header("client-cert", encode(scene.agent.certificate()))
            .header("tls-exporter", encode(&[7; 32]))
    };
    let arrived = through.get(request()).await.arrived();
    let verified = arrived.one("session-binding-verified");
    assert!(verified.starts_with("class=proxy-attested, "), "{verified}");
    assert_eq!(
        arrived.one("client-cert"),
        encode(scene.agent.certificate())
    );
    assert_eq!(arrived.all("tls-exporter"), [""; 0]);
    // Any other client says so in vain.
    let mut direct = scene.connect(&ingress, Alpn::Http2).await;
    direct.get(request()).await.assert_refused("RS-6");
}

#[tokio::test]
async fn it_listens_on_a_unix_socket() {
    let (scene, upstream) = (Scene::new(), Upstream::echo());
    let socket = scene.path("in.sock");
    // One that a process has left.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let file = format!(
        "listen = \"unix:{}\"\nexternal-origin = [\"https://localhost\"]\n",
        socket.display()
    );
    let file = scene.write("ingress.toml", file);
    let mut command = scene.command_without_listen(&upstream.url());
    command.args(["--config", &file]).args(scene.jwt_options());
    let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    let connected = async {
        loop {
            if let Ok(stream) = tokio::net::UnixStream::connect(&socket).await {
                return stream;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let stream = within(connected).await;
    let config = TlsOptions::alpn(Alpn::Http1).client(&scene.pki, Some(&scene.agent));
    let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
    let connector = tokio_rustls::TlsConnector::from(config);
    let stream = within(connector.connect(name, stream)).await.unwrap();
    let mut http = Http::over(stream).await;
    let token = scene.session_bound();
    let arrived = http.get(http.proved(&scene.agent, &token)).await.arrived();
    assert!(
        arrived
            .one("session-binding-verified")
            .starts_with("class=session")
    );
    child.kill().unwrap();
    child.wait().unwrap();
}
