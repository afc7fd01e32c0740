//! `WWW-Authenticate`, read and written.

use bowline_proof::{BindingError, Challenge, challenges};
use http::{HeaderMap, HeaderValue, header::WWW_AUTHENTICATE};

#[test]
fn what_is_written_is_read_back() {
    let challenge = Challenge::bearer()
        .with("error", "use_session_binding")
        .with("error_description", "a \"quoted\" back\\slash, and = sign")
        .with(
            "resource_metadata",
            "https://h/.well-known/oauth-protected-resource",
        );
    assert_eq!(read(&[challenge.header_value()]), [challenge]);
    assert_eq!(
        read(&[Challenge::bearer().header_value()]),
        [Challenge::bearer()]
    );
    assert_eq!(Challenge::bearer().header_value(), "Bearer");
}

#[test]
fn parameters_are_found_whatever_their_case() {
    let value =
        HeaderValue::from_static("bearer ERROR=invalid_proof, scope=\"a b\", Error=\"second\"");
    let found = &read(&[value])[0];
    assert_eq!(found.scheme, "bearer");
    assert_eq!(found.error(), Some("invalid_proof"));
    assert_eq!(found.param("Scope"), Some("a b"));
    assert_eq!(found.param("realm"), None);
}

#[test]
fn all_challenges_of_all_fields_are_read_in_order() {
    let found = read(&[
        HeaderValue::from_static("DPoP algs=\"ES256\", Bearer error=\"use_session_binding\""),
        HeaderValue::from_static("Basic realm=\"x\""),
    ]);
    let schemes: Vec<_> = found.iter().map(|challenge| &*challenge.scheme).collect();
    assert_eq!(schemes, ["DPoP", "Bearer", "Basic"]);
    assert_eq!(found[1].error(), Some("use_session_binding"));
}

#[test]
fn malformed_challenges_are_skipped_and_their_neighbours_kept() {
    let found = read(&[
        HeaderValue::from_static("Bearer error=\"unterminated"),
        HeaderValue::from_static("error=\"no_scheme\""),
        HeaderValue::from_static("Negotiate oYIBNz=="),
        HeaderValue::from_bytes(b"Bearer error=\"\xff\"").unwrap(),
        HeaderValue::from_static(""),
        HeaderValue::from_static("Bearer error=\"invalid_token\", Basic a b"),
    ]);
    assert_eq!(found, [Challenge::bearer().with("error", "invalid_token")]);
}

#[test]
fn what_is_read_is_bounded() {
    let flood = HeaderValue::try_from("Bearer, ".repeat(1000)).unwrap();
    assert_eq!(read(&[flood.clone(), flood]).len(), 32);
    let huge = HeaderValue::try_from(format!("Bearer realm=\"{}\"", "a".repeat(8 * 1024))).unwrap();
    assert_eq!(read(&[huge]), []);
}

#[test]
fn a_value_cannot_break_out_of_its_quotes_or_its_line() {
    let challenge = Challenge::bearer().with("realm", "a\", error=\"x\r\nSet-Cookie: é");
    let value = challenge.header_value();
    assert_eq!(value, r#"Bearer realm="a\", error=\"x??Set-Cookie: ?""#);
    assert_eq!(read(&[value])[0].error(), None);
}

#[test]
fn a_challenge_that_asks_for_a_proof_has_a_binding_error() {
    for (error, expected) in [
        ("use_session_binding", Some(BindingError::UseSessionBinding)),
        ("invalid_proof", Some(BindingError::InvalidProof)),
        ("use_dpop_nonce", Some(BindingError::UseDpopNonce)),
        ("invalid_dpop_proof", Some(BindingError::InvalidDpopProof)),
        ("invalid_token", None),
        ("Invalid_Proof", None),
    ] {
        let found = Challenge::bearer().with("error", error).binding_error();
        assert_eq!(found, expected, "{error}");
        assert!(found.is_none_or(|found| found.as_str() == error));
    }
    assert_eq!(Challenge::bearer().binding_error(), None);
}

fn read(values: &[HeaderValue]) -> Vec<Challenge> {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(WWW_AUTHENTICATE, value.clone());
    }
    challenges(&headers)
}
