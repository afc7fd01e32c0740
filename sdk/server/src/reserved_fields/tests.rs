use http::HeaderValue;

use super::*;

fn headers(names: &[&'static str]) -> HeaderMap {
    let value = HeaderValue::from_static("x");
    names
        .iter()
        .map(|name| (HeaderName::from_static(name), value.clone()))
        .collect()
}

#[test]
fn reserved_fields_are_removed_in_every_spelling_and_others_stay() {
    let mut fields = headers(&[
        "client-cert",
        "client_cert",
        "client_cert-chain",
        "tls_exporter",
        "x-forwarded-client_cert",
        "x_forwarded_client_cert",
        "session-binding_verified",
        "session_binding_observed",
        "session-binding-receipt",
        "session-binding-proof",
        "client-certificate",
        "clientcert",
        "x-client-cert",
    ]);
    strip(&mut fields);
    let mut left: Vec<_> = fields.keys().map(HeaderName::as_str).collect();
    left.sort_unstable();
    assert_eq!(
        left,
        [
            "client-certificate",
            "clientcert",
            "session-binding-proof",
            "x-client-cert"
        ]
    );
}

#[test]
fn names_are_the_same_with_underscores_for_dashes_on_either_side() {
    for (one, other, same) in [
        ("tls-exporter", "tls-exporter", true),
        ("tls-exporter", "tls_exporter", true),
        ("tls_exporter", "tls-exporter", true),
        ("a-b_c", "a_b-c", true),
        ("tls-exporter", "tlsxexporter", false),
        ("tls-exporter", "tls-exporter-", false),
        ("tls-exporter", "tls", false),
        ("", "-", false),
    ] {
        assert_eq!(is_same(one, other), same, "{one} {other}");
    }
}

#[test]
fn a_connection_option_must_not_name_a_field_that_has_to_arrive() {
    let named = |values: &[&'static str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(
                CONNECTION,
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        connection_names_one(&headers)
    };
    for values in [
        &["host"][..],
        &["close, Authorization"],
        &["close", "keep-alive,COOKIE"],
        &["Content-Length"],
        &["content_type"],
        &["DPoP"],
        &["client_cert"],
        &[" Session-Binding-Verified "],
        &["session-binding-proof"],
        &["é, tls-exporter"],
    ] {
        assert!(named(values), "{values:?}");
    }
    for values in [
        &["close"][..],
        &["keep-alive, upgrade", "te"],
        &["", ",,"],
        &["hosts"],
        &[],
    ] {
        assert!(!named(values), "{values:?}");
    }
}

#[test]
fn fields_that_override_the_method_are_found() {
    for name in [
        "x-http-method-override",
        "x_http_method_override",
        "x-http-method",
        "x-method-override",
    ] {
        assert!(override_method(&headers(&[name])), "{name}");
    }
    assert!(!override_method(&headers(&["x-http-methods", "method"])));
}
