use super::*;
use crate::passing::fields::tests::{fields, names};

#[test]
fn gw_2_hop_by_hop_and_reserved_fields_go_and_all_others_stay() {
    let mut headers = fields(&[
        ("connection", "x-one, keep-alive"),
        ("connection", "X-Two"),
        ("x-one", "1"),
        ("x-two", "2"),
        ("x-three", "3"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "close"),
        ("te", "trailers"),
        ("transfer-encoding", "chunked"),
        ("transfer_encoding", "chunked"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABk"),
        ("expect", "100-continue"),
        ("proxy-authorization", "Basic dTpw"),
        ("client-cert", ":AA==:"),
        ("client_cert", ":AA==:"),
        ("client-cert-chain", ":AA==:"),
        ("tls_exporter", "x"),
        ("x-forwarded-client-cert", "x"),
        ("session-binding-verified", "class=session"),
        ("session_binding-observed", "class=none"),
        ("session-binding-receipt", "x"),
        ("session-binding-proof", "x"),
        ("session_binding_proof", "x"),
        ("content_length", "5"),
        ("content_type", "text/plain"),
        ("x-user", "root"),
        ("x_user", "root"),
        ("authorization", "Bearer t"),
        ("content-length", "0"),
        ("content-type", "text/plain"),
        ("cookie", "a=b"),
        ("api_key", "k"),
        ("trailer", "x-sum"),
        ("host", "a"),
        ("origin", "https://a"),
    ]);
    strip_request(&mut headers, &[HeaderName::from_static("x-user")]);
    let expected = [
        "api_key",
        "authorization",
        "content-length",
        "content-type",
        "cookie",
        "host",
        "origin",
        "trailer",
        "x-three",
    ];
    assert_eq!(names(&headers), expected);
}

#[test]
fn gw_2_trailers_lose_what_would_come_after_the_checks() {
    let mut trailers = fields(&[
        ("authorization", "Bearer t"),
        ("client_cert", ":AA==:"),
        ("session-binding-verified", "class=session"),
        ("session-binding-proof", "x"),
        ("host", "a"),
        ("content-length", "0"),
        ("content-type", "text/plain"),
        ("x-user", "root"),
        ("grpc-status", "0"),
        ("x-sum", "1"),
    ]);
    strip_request_trailers(&mut trailers, &[HeaderName::from_static("x-user")]);
    assert_eq!(names(&trailers), ["grpc-status", "x-sum"]);
}

#[test]
fn a_connection_option_must_not_name_a_configured_field() {
    let configured = [HeaderName::from_static("x-user")];
    for (value, named) in [("x-user", true), ("close, X_User", true), ("x-use", false)] {
        let headers = fields(&[("connection", value)]);
        assert_eq!(connection_names(&headers, &configured), named, "{value}");
    }
}
