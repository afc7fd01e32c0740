//! Bad input: refused or bounded, and the next request served.

use bowline_testkit::tls::Alpn;
use http::Request;

use super::fixture::*;

/// A request that is served after the bad ones.
async fn assert_serves(scene: &Scene, ingress: &Ingress) {
    let mut client = scene.connect(ingress, Alpn::Http2).await;
    let token = scene.session_bound();
    let request = client.proved(&scene.agent, &token);
    client.get(request).await.arrived();
}

/// What the service sees of a request that is not refused: only what this ingress has written.
#[tokio::test]
async fn shapes_that_smuggle_requests_are_refused_or_written_anew() {
    let (scene, upstream) = (Scene::new(), Upstream::echo());
    let ingress = scene.start(&upstream, &[]).await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (what, head, body, expected) in [
        (
            "two lengths",
            "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n",
            "helloX",
            400,
        ),
        (
            "a list of lengths",
            "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5, 5\r\n",
            "hello",
            400,
        ),
        (
            "a signed length",
            "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: +5\r\n",
            "hello",
            400,
        ),
        (
            "an unknown coding",
            "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n",
            "",
            400,
        ),
        (
            "chunked is not the last coding",
            "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked, identity\r\n",
            "0\r\n\r\n",
            400,
        ),
        (
            "chunked on HTTP/1.0",
            "POST / HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n",
            "0\r\n\r\n",
            400,
        ),
        (
            "a space before the colon",
            "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length : 5\r\n",
            "hello",
            400,
        ),
        (
            "a folded line",
            "GET / HTTP/1.1\r\nHost: localhost\r\nX-A: b\r\n c: d\r\n",
            "",
            400,
        ),
        (
            "a control byte",
            "GET / HTTP/1.1\r\nHost: localhost\r\nX-A: b\rc\r\n",
            "",
            400,
        ),
        (
            "two hosts",
            "GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n",
            "",
            400,
        ),
        (
            "no host",
            "GET / HTTP/1.1\r\nX-Host: localhost\r\n",
            "",
            400,
        ),
        (
            "another host in the target",
            "GET https://other.example/ HTTP/1.1\r\nHost: localhost\r\n",
            "",
            400,
        ),
        (
            "another scheme in the target",
            "GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n",
            "",
            400,
        ),
        (
            "WebSocket",
            "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n",
            "",
            501,
        ),
        (
            "CONNECT",
            "CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\n",
            "",
            501,
        ),
    ] {
        let mut raw = scene.raw(&ingress).await;
        let credentials = scene.credentials(&raw);
        raw.write(format!("{head}{credentials}\r\n{body}")).await;
        let (status, _) = raw.response().await.expect(what);
        assert_eq!(status, expected, "{what}");
    }
    assert_eq!(upstream.requests(), 0);

    // Both framings: the length does not count, and the service sees one request, framed anew.
    for order in [
        "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n",
    ] {
        let mut raw = scene.raw(&ingress).await;
        let credentials = scene.credentials(&raw);
        let head = format!("POST /framed HTTP/1.1\r\nHost: localhost\r\n{order}{credentials}");
        raw.write(format!("{head}\r\n0\r\n\r\n{smuggled}")).await;
        let before = upstream.requests();
        let head = raw.until("\r\n\r\n").await.unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{order}: {head}");
        let body = raw.until("}").await.unwrap() + "}";
        let arrived = Arrived(serde_json::from_str(&body).unwrap());
        assert_eq!(arrived.0["target"], "/framed");
        assert_eq!(arrived.0["body"], "");
        assert_eq!(arrived.all("content-length"), [""; 0], "{order}");
        // What follows is a request of its own, which has no token, or is not read at all.
        // RFC 9112 section 6.1 has the connection closed.
        let next = raw.response().await.map(|(status, _)| status);
        assert!(matches!(next, None | Some(401)), "{order}: {next:?}");
        assert_eq!(upstream.requests(), before + 1);
    }

    // Bare LF ends lines, for this end; the service sees CRLF and the fields that were checked.
    let mut raw = scene.raw(&ingress).await;
    let credentials = scene.credentials(&raw).replace("\r\n", "\n");
    raw.write(format!(
        "GET /bare HTTP/1.1\nHost: localhost\n{credentials}Client-Cert: forged\n\n"
    ))
    .await;
    let head = raw.until("\r\n\r\n").await.unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(!raw.until("}").await.unwrap().contains("forged"));
    assert_serves(&scene, &ingress).await;
}

/// HTTP/2 has `:authority`, and may have `Host` beside it (RFC 9113 section 8.3.1).
#[tokio::test]
async fn an_authority_and_a_host_that_differ_are_refused() {
    let (scene, upstream) = (Scene::new(), Upstream::echo());
    let ingress = scene.start(&upstream, &[]).await;
    let mut client = scene.connect(&ingress, Alpn::Http2).await;
    let token = scene.session_bound();
    for (host, status) in [("localhost", 200), ("other.example", 400), ("", 400)] {
        let request = client.proved(&scene.agent, &token).header("host", host);
        assert_eq!(client.get(request).await.status, status, "{host}");
    }
    let twice = client.proved(&scene.agent, &token);
    let twice = twice
        .header("host", "localhost")
        .header("host", "localhost");
    assert_eq!(client.get(twice).await.status, 400);
    assert_eq!(upstream.requests(), 1);
}

#[tokio::test]
async fn chunks_end_with_crlf() {
    let (scene, upstream) = (Scene::new(), Upstream::echo());
    let ingress = scene.start(&upstream, &[]).await;
    for chunks in ["5\nhello\n0\n\n", "5\r\nhelloX\r\n0\r\n\r\n", "-5\r\nhello"] {
        let mut raw = scene.raw(&ingress).await;
        let credentials = scene.credentials(&raw);
        raw.write(format!(
            "POST / HTTP/1.1\r\nHost: localhost\r\n{credentials}Transfer-Encoding: chunked\r\n\r\n\
             {chunks}"
        ))
        .await;
        let status = raw.response().await.map(|(status, _)| status);
        assert!(matches!(status, None | Some(400)), "{chunks:?}: {status:?}");
    }
    assert_serves(&scene, &ingress).await;
}

#[tokio::test]
async fn a_token_in_the_query_is_refused() {
    let (scene, upstream) = (Scene::new(), Upstream::echo());
    let ingress = scene.start(&upstream, &["--public", "/open"]).await;
    let mut client = scene.connect(&ingress, Alpn::Http1).await;
    let token = scene.session_bound();
    for path in ["/?access_token=t", "/?a=b&access%5Ftoken=t"] {
        let request = client.proved(&scene.agent, &token).uri(path);
        client.get(request).await.assert_refused("TK-0");
    }
    let public = Request::builder().uri("/open?access_token=t");
    client.get(public).await.assert_refused("TK-0");
    assert_eq!(upstream.requests(), 0);
    assert_serves(&scene, &ingress).await;
}

#[tokio::test]
async fn other_upgrades_are_removed() {
    let (scene, upstream) = (Scene::new(), Upstream::echo());
    let ingress = scene.start(&upstream, &[]).await;
    let mut raw = scene.raw(&ingress).await;
    let credentials = scene.credentials(&raw);
    raw.write(format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\n{credentials}Connection: Upgrade, HTTP2-Settings\r\n\
         Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n"
    ))
    .await;
    let head = raw.until("\r\n\r\n").await.unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let body = raw.until("}").await.unwrap() + "}";
    let arrived = Arrived(serde_json::from_str(&body).unwrap());
    for gone in ["upgrade", "http2-settings", "connection"] {
        assert_eq!(arrived.all(gone), [""; 0], "{gone}");
    }
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused_and_a_body_too() {
    let (scene, upstream) = (Scene::new(), Upstream::echo());
    let ingress = scene
        .start(&upstream, &["--max-head", "16KiB", "--max-body", "1KiB"])
        .await;
    let mut raw = scene.raw(&ingress).await;
    let long = "x".repeat(32 * 1024);
    raw.write(format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\nX: {long}\r\n\r\n"
    ))
    .await;
    assert_eq!(raw.response().await.unwrap().0, 431);

    // Announced, and found out.
    for framing in ["Content-Length: 2000", "Transfer-Encoding: chunked"] {
        let mut raw = scene.raw(&ingress).await;
        let credentials = scene.credentials(&raw);
        let body = format!("7d0\r\n{}\r\n0\r\n\r\n", "y".repeat(2000));
        raw.write(format!(
            "POST / HTTP/1.1\r\nHost: localhost\r\n{credentials}{framing}\r\n\r\n{body}"
        ))
        .await;
        assert_eq!(raw.response().await.unwrap().0, 413, "{framing}");
    }
    let mut client = scene.connect(&ingress, Alpn::Http2).await;
    let token = scene.session_bound();
    let request = client.proved(&scene.agent, &token);
    let answer = client.post(request, &"y".repeat(2000)).await;
    assert_eq!(answer.status, 413);
    assert_serves(&scene, &ingress).await;
}

#[tokio::test]
async fn slow_heads_and_slow_bodies_end() {
    let (scene, upstream) = (Scene::new(), Upstream::echo());
    let limits = [
        ["--first-request-timeout", "300ms"],
        ["--body-timeout", "300ms"],
        // A head that has begun is given this time.
        ["--drain-timeout", "300ms"],
    ];
    let limits = limits.concat();
    let ingress = scene.start(&upstream, &limits).await;
    let mut slow = scene.raw(&ingress).await;
    slow.write("GET / HTTP/1.1\r\nHost: loc").await;
    assert!(slow.is_closed().await);

    let mut slow = scene.raw(&ingress).await;
    let credentials = scene.credentials(&slow);
    slow.write(format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\n{credentials}Content-Length: 10\r\n\r\nhell"
    ))
    .await;
    assert_eq!(slow.response().await.unwrap().0, 408);
    assert_serves(&scene, &ingress).await;
}
