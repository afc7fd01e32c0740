//! Wrong input of every kind gives a line that says what is wrong with it, and never a panic.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bowline_testkit::pki::Pki;
use proptest::prelude::*;

use super::*;

fn known() -> Known {
    let (_, agent) = Pki::with_agent();
    Known {
        certificate: Some(agent.certificate().to_vec()),
        token: Some(AccessToken::new("opaque").expect("a token")),
        exporter: Some(ExporterValue::from_bytes([7; 32])),
        jwks: Some(br#"{"keys":[]}"#.to_vec()),
        method: Some(Method::GET),
        url: Some(Uri::from_static("https://localhost/")),
        now: 1_780_000_000,
    }
}

/// The line of a failure, or the whole report.
fn outcome(bytes: &[u8], known: &Known) -> Result<Report, String> {
    let given = input::recognise(bytes).and_then(|given| inspect(given, known));
    given.map_err(|failure| match failure {
        Failure::Failed(line) | Failure::Usage(line) => line,
        Failure::Clap(error) => error.to_string(),
    })
}

fn jws(header: &str, payload: &str) -> String {
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.c2ln", encode(header), encode(payload))
}

#[test]
fn what_cannot_be_read_is_told_in_one_precise_line() {
    let known = known();
    let deep = format!(r#"{{"a":{}1{}}}"#, "[".repeat(5000), "]".repeat(5000));
    let good = jws("{\"alg\":\"ES256\"}", "{}");
    let (_, agent) = Pki::with_agent();
    let der = agent.certificate().to_vec();
    let pem = agent.chain_pem();
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"".to_vec(), "is empty"),
        (b" \r\n\t".to_vec(), "is empty"),
        (b"\xff\xfe\x00a".to_vec(), "byte 1 is not UTF-8"),
        (b"eyJhbGciOiJFUzI1NiJ9\xff".to_vec(), "byte 21 is not UTF-8"),
        (
            good.rsplit_once('.').unwrap().0.into(),
            "it has 2 of a JWS's three parts",
        ),
        (
            good.split('.').next().unwrap().into(),
            "it has 1 of a JWS's three parts",
        ),
        (format!("{good}.a.b").into(), "five parts"),
        (format!("{good}.a").into(), "it has 4 parts"),
        (
            format!("{good}=").into(),
            "its signature is not base64url: it is padded",
        ),
        (format!("{good}a+").into(), "base64 with + and /"),
        (format!("{good}a").into(), "cut off"),
        (
            format!("{good}é").into(),
            "its signature is not base64url: character",
        ),
        (
            "eyJ.e30.c2ln".into(),
            "its header is not base64url: it is cut off",
        ),
        (
            format!("{}..c2ln", good.split('.').next().unwrap()).into(),
            "its payload is empty",
        ),
        (jws("{\"alg\":1", "{}").into(), "its header is no JSON"),
        (
            jws("{\"alg\":1}", "[1]").into(),
            "its payload is JSON, but no object",
        ),
        (jws("{\"alg\":1}", "{}{}").into(), "its payload is no JSON"),
        (jws("{\"alg\":1}", &deep).into(), "recursion limit"),
        (
            jws("{\"alg\":1}", "{\"a\":1e999}").into(),
            "its payload is no JSON",
        ),
        (
            [b"eyJhbGciOjF9.".as_slice(), b"_w".as_slice(), b".c2ln"].concat(),
            "its payload is not UTF-8",
        ),
        (format!("eyJ{}", "a".repeat(70_000)).into(), "it has 1 of"),
        ("a".repeat(70_000).into(), "longer than 65536 bytes"),
        (
            b"Bearer ?".to_vec(),
            "the access token is empty or has characters",
        ),
        (b"Authorization: Basic dTpw".to_vec(), "scheme"),
        (b"hello world".to_vec(), "the input is not"),
        (b"www-authenticate: ,,,".to_vec(), "the input is not"),
        (
            b"Bearer error=\"\x01\"".to_vec(),
            "characters that no field may have",
        ),
        ("{\"keys\": []}".into(), "the input is not"),
        ("\u{202e}token".into(), "b64token"),
        (
            der[..der.len() - 1].to_vec(),
            "no X.509 certificate, or is cut off",
        ),
        ([&der[..], b"more"].concat(), "has 4 bytes behind its end"),
        (b"\x30\x82\xff\xff".to_vec(), "no X.509 certificate"),
        (
            pem.replace("-----END CERTIFICATE-----", "").into(),
            "END line is missing",
        ),
        (pem.replace('\n', " ").into(), "line ends lost"),
        (agent.key_pem().as_bytes().to_vec(), "private key"),
        (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec(),
            "not an X.509",
        ),
    ];
    for (input, expected) in cases {
        let shown = String::from_utf8_lossy(&input[..input.len().min(60)]).into_owned();
        let line = match outcome(&input, &known) {
            Ok(report) => panic!("{shown} was read: {}", report.text()),
            Err(line) => line,
        };
        assert!(
            line.contains(expected),
            "`{expected}` is not in `{line}` ({shown})"
        );
        assert!(!line.contains('\n') && line.len() < 300, "{line}");
    }
}

#[test]
fn what_can_be_read_and_is_wrong_fails_a_check() {
    let known = known();
    for (input, expected) in [
        (
            jws(r#"{"typ":"tls-binding-proof+jwt"}"#, "{}"),
            "RS-5, PR-2",
        ),
        (
            jws(r#"{"typ":"JWT","alg":"ES256"}"#, r#"{"ekm":1,"iat":"x"}"#),
            "RS-5, PR-1",
        ),
        (jws(r#"{"typ":"dpop+jwt","alg":"none"}"#, "{}"), "DP-5"),
        (
            jws(r#"{"typ":"dpop+jwt","alg":"ES256","jwk":{"d":"x"}}"#, "{}"),
            "DP-7",
        ),
        (jws(r#"{"alg":"none"}"#, r#"{"exp":1}"#), "RS-2"),
        (jws(r#"{"alg":"HS256"}"#, r#"{"exp":-1}"#), "RS-2"),
        (jws("{}", r#"{"cnf":{}}"#), "TK-5"),
        (jws("{}", r#"{"cnf":{"jkt":1}}"#), "TK-0, TK-2"),
        (jws("{}", r#"{"cnf":{"tls_exp":"x"}}"#), "TK-2"),
        (jws("{}", r#"{"exp":1,"exp":9999999999}"#), "RFC 7519 §4"),
        ("Bearer error=\"use_dpop_nonce\"".to_owned(), "RS-10"),
        (
            "Bearer error=\"a\", error=\"b\"".to_owned(),
            "RFC 9110 §11.2",
        ),
        ("Bearer resource_metadata=\"http://x/\"".to_owned(), "CL-10"),
    ] {
        let report = outcome(input.as_bytes(), &known).expect(&input);
        let failed = report
            .checks
            .iter()
            .filter(|c| matches!(c.outcome, Outcome::Failed(_)));
        let failed: Vec<&str> = failed.map(|check| check.id).collect();
        assert!(
            failed.contains(&expected),
            "{input}: {failed:?}\n{}",
            report.text()
        );
    }
}

#[test]
fn nothing_that_a_terminal_obeys_is_written() {
    let known = known();
    let claims = "{\"sub\":\"a\\u001b[31m\\u202eb\",\"\\u001bname\":{\"x\":\"\\u009b\"}}";
    let report = outcome(jws("{\"alg\":\"ES256\"}", claims).as_bytes(), &known).expect("a token");
    let text = report.text();
    let is_plain = |c: char| c == '\n' || !(c.is_control() || c == '\u{202e}');
    assert!(text.chars().all(is_plain), "{text:?}");
}

use super::report::Outcome;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = outcome(&bytes, &known_once());
    }

    #[test]
    fn no_json_makes_it_panic(
        typ in prop_oneof![
            Just("tls-binding-proof+jwt"), Just("dpop+jwt"), Just("at+jwt"), Just("JWT")
        ],
        alg in prop_oneof![Just("\"ES256\""), Just("\"none\""), Just("null"), Just("[]")],
        claims in proptest::collection::vec(
            (
                prop_oneof![
                    Just("ath"), Just("ekm"), Just("iat"), Just("jti"), Just("htm"), Just("htu"),
                    Just("exp"), Just("nbf"), Just("cnf"), Just("aud"), Just("iss"), Just("nonce"),
                ],
                prop_oneof![
                    Just("1".to_owned()), Just("-1".to_owned()), Just("1e300".to_owned()),
                    Just("18446744073709551615".to_owned()), Just("null".to_owned()),
                    Just("{\"x5t#S256\":\"a\"}".to_owned()), Just("[1]".to_owned()),
                    "\"[a-zA-Z0-9:/?%é-]{0,50}\"",
                ],
            ),
            0..8,
        ),
    ) {
        let claims: Vec<String> = claims.iter().map(|(n, v)| format!("\"{n}\":{v}")).collect();
        let header = format!("{{\"typ\":\"{typ}\",\"alg\":{alg},\"jwk\":{{}}}}");
        let text = jws(&header, &format!("{{{}}}", claims.join(",")));
        if let Ok(report) = outcome(text.as_bytes(), &known_once()) {
            report.text();
            report.json();
        }
    }

    #[test]
    fn no_field_makes_it_panic(field in "(Bearer|DPoP|Basic) [a-z=\", ;é\\\\]{0,80}") {
        if let Ok(report) = outcome(field.as_bytes(), &known_once()) {
            report.text();
        }
    }

    #[test]
    fn no_damaged_certificate_makes_it_panic(at in any::<proptest::sample::Index>(), byte: u8) {
        let known = known_once();
        let mut der = known.certificate.clone().expect("a certificate");
        let at = at.index(der.len());
        der[at] = byte;
        if let Ok(report) = outcome(&der, &known) {
            report.text();
        }
    }
}

/// Made once: keys take their time.
fn known_once() -> Known {
    static CERTIFICATE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    let certificate = CERTIFICATE.get_or_init(|| known().certificate.expect("a certificate"));
    Known {
        certificate: Some(certificate.clone()),
        token: Some(AccessToken::new("opaque").expect("a token")),
        exporter: Some(ExporterValue::from_bytes([7; 32])),
        jwks: Some(br#"{"keys":[]}"#.to_vec()),
        method: Some(Method::GET),
        url: Some(Uri::from_static("https://localhost/")),
        now: 1_780_000_000,
    }
}
