use tokio::io::duplex;

use super::*;

/// What `connect` makes of a proxy that answers so, and what it has sent.
async fn answered(answer: &[u8]) -> (Result<(), TunnelError>, String) {
    let (mut ours, mut proxy) = duplex(64 * 1024);
    proxy.write_all(answer).await.unwrap();
    let result = connect(&mut ours, "h.example:443", None).await;
    drop(ours);
    let mut sent = String::new();
    proxy.read_to_string(&mut sent).await.unwrap();
    (result, sent)
}

#[tokio::test]
async fn any_2xx_opens_the_tunnel_and_interim_responses_may_come_before_it() {
    for answer in [
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 201 Created\r\n\r\n",
        "HTTP/1.0 200 Connection established\r\nVia: x\r\n\r\n",
        "HTTP/1.1 299\r\n\r\n",
        "HTTP/1.1 200 OK\nVia: x\n\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 x\r\n\r\n",
    ] {
        let (result, sent) = answered(answer.as_bytes()).await;
        assert!(result.is_ok(), "{answer:?} {result:?}");
        assert_eq!(
            sent,
            "CONNECT h.example:443 HTTP/1.1\r\nHost: h.example:443\r\n\r\n"
        );
    }
}

#[tokio::test]
async fn anything_else_is_an_error_that_says_what_came() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(100);
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    for (answer, expected) in [
        ("HTTP/1.1 403 Forbidden\r\n\r\n", "403 Forbidden"),
        (
            "HTTP/1.1 407 Who are you\r\n\r\n",
            "407 Proxy Authentication Required: it wants",
        ),
        ("HTTP/1.1 301 x\r\nLocation: http://x\r\n\r\n", "301"),
        ("HTTP/1.1 101 x\r\n\r\n", "101"),
        ("HTTP/1.1 200 OK\r\n\r\nhello", "before the TLS handshake"),
        ("HTTP/1.1 2000 OK\r\n\r\n", "in HTTP"),
        ("HTTP/2 200\r\n\r\n", "in HTTP"),
        ("SSH-2.0-x\r\n\r\n", "in HTTP"),
        (&interim, "interim"),
        (&long, "more than 16384 bytes"),
    ] {
        let (result, sent) = answered(answer.as_bytes()).await;
        let message = result.unwrap_err().to_string();
        assert!(
            message.contains(expected),
            "{message} instead of {expected}"
        );
        assert!(!message.contains("Who are you"));
        assert!(sent.starts_with("CONNECT ") && sent.ends_with("443\r\n\r\n"));
    }
}

#[tokio::test]
async fn a_proxy_that_closes_first_is_told_from_one_that_speaks_no_http() {
    for (answer, expected) in [("", "closed"), ("HTTP/1.1 200 OK\r\n", "in HTTP")] {
        let (mut ours, mut proxy) = duplex(1024);
        proxy.write_all(answer.as_bytes()).await.unwrap();
        proxy.shutdown().await.unwrap();
        let error = connect(&mut ours, "h:1", None).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}
