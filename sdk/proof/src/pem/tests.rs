use super::*;

struct Pair {
    certificate: String,
    key: String,
}

fn pair() -> Pair {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["a.example".to_owned()]).unwrap();
    Pair {
        certificate: params.self_signed(&key).unwrap().pem(),
        key: key.serialize_pem(),
    }
}

/// Everything an error shows.
fn shown(error: &PemError) -> String {
    assert!(std::error::Error::source(error).is_none());
    format!("{error} {error:?}")
}

fn key_error(text: &str) -> String {
    shown(&private_key(text.as_bytes()).unwrap_err())
}

#[test]
fn all_certificates_are_read_in_order_whatever_stands_around_them() {
    let (a, b) = (pair(), pair());
    let plain = certificates(format!("{}{}", a.certificate, b.certificate).as_bytes()).unwrap();
    assert_eq!(plain.len(), 2);
    let indented: String = b
        .certificate
        .lines()
        .map(|line| format!("  {line} \n"))
        .collect();
    for text in [
        format!("\u{feff}{}{}", a.certificate, b.certificate),
        format!(
            "# first\n{}\n\nSubject: b\n{}# end",
            a.certificate, b.certificate
        ),
        format!("{}{indented}", a.certificate),
        format!("{}{}{}", a.certificate, a.key, b.certificate),
        format!("{}{}", a.certificate, b.certificate).replace('\n', "\r\n"),
        format!("{}{}", a.certificate, b.certificate).replace('\n', "\r"),
    ] {
        assert_eq!(certificates(text.as_bytes()).unwrap(), plain, "{text}");
    }
}

#[test]
fn a_certificate_that_cannot_be_read_is_named_and_not_left_out() {
    let (a, b) = (pair(), pair());
    let whole = |second: &str| format!("{}{second}", a.certificate);
    for (text, expected) in [
        (
            whole(&b.certificate.replace("MI", "!I")),
            "item 2 (CERTIFICATE): its content is not base64",
        ),
        (
            whole("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"),
            "item 2 (CERTIFICATE): it is not an X.509 certificate",
        ),
        (
            whole("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----"),
            "item 2 (CERTIFICATE): it is empty",
        ),
        (
            whole(
                b.certificate
                    .trim_end()
                    .strip_suffix("-----END CERTIFICATE-----")
                    .unwrap(),
            ),
            "item 2 (CERTIFICATE): its END line is missing",
        ),
        (
            whole(&b.certificate.replace("CERTIFICATE", "TRUSTED CERTIFICATE")),
            "item 2 (TRUSTED CERTIFICATE): only CERTIFICATE is read",
        ),
        (
            whole(&b.certificate.replace('\n', " ")),
            "more on it than itself",
        ),
        (
            whole(&format!("x{}", b.certificate)),
            "more on it than itself",
        ),
        (
            format!("-----END CERTIFICATE-----\n{}", a.certificate),
            "no BEGIN line of its own",
        ),
        (a.key.clone(), "no certificate in PEM: it has PRIVATE KEY"),
        (String::new(), "no certificate in PEM: it has no BEGIN line"),
    ] {
        let error = certificates(text.as_bytes()).unwrap_err();
        assert!(
            shown(&error).contains(expected),
            "{error} instead of {expected}"
        );
    }
    assert!(shown(&certificates(b"\x30\x82\xff\xfe").unwrap_err()).contains("it is not text"));
}

#[test]
fn a_private_key_is_read_from_each_form() {
    let a = pair();
    assert!(matches!(
        private_key(a.key.as_bytes()),
        Ok(PrivateKeyDer::Pkcs8(_))
    ));
    let both = format!("{}{}", a.certificate, a.key);
    assert!(matches!(
        private_key(both.as_bytes()),
        Ok(PrivateKeyDer::Pkcs8(_))
    ));
    for (label, is_it) in [
        (
            "RSA",
            (|key| matches!(key, PrivateKeyDer::Pkcs1(_))) as fn(&PrivateKeyDer<'_>) -> bool,
        ),
        ("EC", |key| matches!(key, PrivateKeyDer::Sec1(_))),
    ] {
        let text = a
            .key
            .replace("PRIVATE KEY", &format!("{label} PRIVATE KEY"));
        assert!(is_it(&private_key(text.as_bytes()).unwrap()));
    }
}

/// K1: no error over a key quotes it, in whatever way it was mangled.
#[test]
fn an_error_over_a_private_key_shows_nothing_of_it() {
    let a = pair();
    let content: String = a
        .key
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .collect();
    let decimal = format!("{:?}", &content.as_bytes()[..8]);
    let other = pair();
    for (text, expected) in [
        (a.key.replace('\n', "\\n"), "line ends escaped"),
        (a.key.replace('\n', " "), "line ends lost"),
        (a.key.replace('\n', ""), "line ends lost"),
        (format!("\"{}\"", a.key.trim()), "more on it than itself"),
        (a.key.replace(&content[..1], "%"), "not base64"),
        (
            a.key.replace("-----END PRIVATE KEY-----", ""),
            "END line is missing",
        ),
        (
            a.key.replace("END PRIVATE", "END EC PRIVATE"),
            "no BEGIN line of its own",
        ),
        (
            a.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"),
            "encrypted",
        ),
        (
            a.key.replacen('\n', "\nProc-Type: 4,ENCRYPTED\n\n", 1),
            "encrypted",
        ),
        (
            a.key.replace("PRIVATE KEY", "OPENSSH PRIVATE KEY"),
            "convert it to PKCS #8",
        ),
        (
            format!("{}{}", a.key, other.key),
            "more than one private key",
        ),
        (content.clone(), "no BEGIN line"),
        (
            a.key.replacen("KEY-----\n", "KEY ", 1),
            "more on it than itself",
        ),
    ] {
        let shown = key_error(&text);
        assert!(shown.contains(expected), "{shown} instead of {expected}");
        for piece in content
            .as_bytes()
            .chunks(12)
            .map(|piece| std::str::from_utf8(piece).unwrap())
        {
            assert!(piece.len() < 12 || !shown.contains(piece), "{shown}");
        }
        assert!(!shown.contains(&decimal[1..decimal.len() - 1]), "{shown}");
    }
}
