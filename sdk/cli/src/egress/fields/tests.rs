use super::*;
use crate::passing::fields::tests::{fields, names};

#[test]
fn callers_cannot_speak_for_the_egress() {
    for name in [
        "session-binding-proof",
        "session_binding_proof",
        "session-binding-receipt",
        "session-binding-verified",
        "client-cert",
        "client_cert",
        "client-cert-chain",
        "tls-exporter",
        "x-forwarded-client-cert",
    ] {
        let refused = check_reserved(&fields(&[(name, "x")])).expect_err(name);
        assert_eq!(refused.status.as_u16(), 400, "{name}");
    }
    assert!(check_reserved(&fields(&[("authorization", "x"), ("client-certs", "x")])).is_ok());
}

#[test]
fn what_is_for_one_connection_is_not_passed_on() {
    let mut request = fields(&[
        ("connection", "keep-alive, X-Mine"),
        ("connection", "x-too"),
        ("x-mine", "1"),
        ("x-too", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("proxy-authorization", "Basic eA=="),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAAA"),
        ("te", "gzip, Trailers"),
        ("expect", "100-continue"),
        ("host", "tools.example"),
        ("authorization", "Bearer x"),
        ("mcp-session-id", "1"),
    ]);
    strip_request(&mut request);
    assert_eq!(names(&request), ["authorization", "mcp-session-id", "te"]);
    assert_eq!(request[TE], "trailers");
    let mut request = fields(&[("te", "gzip"), ("transfer_encoding", "chunked")]);
    strip_request(&mut request);
    assert!(request.is_empty());
    let mut request = fields(&[("cookie", "a=b"), ("cookie", "c=d")]);
    strip_request(&mut request);
    assert_eq!(request["cookie"], "a=b; c=d");

    let mut response = fields(&[
        ("connection", "close"),
        ("alt-svc", "h3=\":443\""),
        ("proxy-authenticate", "Basic"),
        ("www-authenticate", "Bearer"),
        ("content-type", "text/event-stream"),
    ]);
    strip_response(&mut response);
    assert_eq!(names(&response), ["content-type", "www-authenticate"]);
}

#[test]
fn trailers_hold_nothing_that_was_checked_among_the_fields() {
    let mut trailers = fields(&[
        ("authorization", "Bearer x"),
        ("session-binding-proof", "x"),
        ("session_binding_proof", "x"),
        ("content-length", "3"),
        ("te", "trailers"),
        ("connection", "x"),
        ("grpc-status", "0"),
        ("digest", "x"),
    ]);
    strip_request_trailers(&mut trailers);
    assert_eq!(names(&trailers), ["digest", "grpc-status"]);
}
