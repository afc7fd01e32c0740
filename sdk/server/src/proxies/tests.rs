use super::*;

#[test]
fn an_exporter_value_is_32_bytes_in_either_encoding() {
    let value = ExporterValue::from_bytes([0xfb; 32]);
    for text in [
        ":+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/s=:",
        ":+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/s:",
        " -_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_s ",
    ] {
        assert!(
            ExporterValue::from_bytes(*exporter_bytes(&HeaderValue::from_static(text)).unwrap())
                .matches(&value),
            "{text}"
        );
    }
    for text in [
        "",
        "::",
        ":",
        "AAAA",
        ":AAAA:",
        "+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/s=",
    ] {
        assert!(
            exporter_bytes(&HeaderValue::from_static(text)).is_none(),
            "{text}"
        );
    }
}

#[test]
fn fields_about_other_connections_are_removed_in_every_form() {
    let headers = |pairs: &[(&'static str, &'static str)]| {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    };
    let (cert, exporter) = (("client-cert", ":AA:"), ("tls-exporter", ":AA:"));
    for (pairs, once) in [
        (vec![cert, exporter], true),
        (vec![cert], false),
        (vec![exporter], false),
        (vec![cert, cert, exporter], false),
        (vec![cert, exporter, exporter], false),
    ] {
        let mut headers = headers(&pairs);
        headers.append(
            "session-binding-verified",
            HeaderValue::from_static("class=session"),
        );
        headers.append("client-cert-chain", HeaderValue::from_static(":AA:, :AA:"));
        let forwarded = ForwardedFields::strip(&mut headers);
        assert_eq!(
            matches!(forwarded, ForwardedFields::Complete { .. }),
            once,
            "{pairs:?}"
        );
        assert!(!matches!(forwarded, ForwardedFields::Absent));
        assert!(headers.is_empty(), "{headers:?}");
    }
    assert!(matches!(
        ForwardedFields::strip(&mut HeaderMap::new()),
        ForwardedFields::Absent
    ));
}
