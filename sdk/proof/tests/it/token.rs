//! Access tokens and what their `cnf` demands (TK-0..TK-2).

use std::time::SystemTime;

use bowline_proof::{
    AccessToken, Confirmation, ConfirmationError, Demand, EXPORTER_LABEL, InvalidAccessToken,
    Scheme, dpop::JwkThumbprint,
};
use http::HeaderValue;
use serde_json::{Value, json};

use crate::fixture::{P256, base64url, sha256};

#[test]
fn a_token_is_hashed_unchanged_and_sent_as_a_sensitive_bearer_field() {
    let token = AccessToken::new("abc.DEF-123_~+/==").unwrap();
    assert_eq!(token.secret(), "abc.DEF-123_~+/==");
    assert_eq!(token.hash().as_bytes()[..], sha256(b"abc.DEF-123_~+/=="));
    assert_eq!(token.authorization(), "Bearer abc.DEF-123_~+/==");
    assert!(token.authorization().is_sensitive());
}

#[test]
fn only_rfc_6750_token_syntax_is_accepted() {
    for text in ["", "=", "a b", "a=b", "a\n", "\"a\"", "ä", "a,b", "a\0"] {
        assert_eq!(
            AccessToken::new(text).unwrap_err(),
            InvalidAccessToken::Malformed,
            "{text:?}"
        );
    }
    assert!(AccessToken::new("a".repeat(64 * 1024)).is_ok());
    assert_eq!(
        AccessToken::new("a".repeat(64 * 1024 + 1)).unwrap_err(),
        InvalidAccessToken::TooLong
    );
}

#[test]
fn the_authorization_field_is_read_with_its_scheme_in_any_case() {
    for field in ["Bearer t0k", "bearer t0k", "BEARER   t0k"] {
        let token = AccessToken::from_authorization(&HeaderValue::from_static(field)).unwrap();
        assert_eq!(token.secret(), "t0k");
    }
}

#[test]
fn another_scheme_and_a_malformed_token_are_told_apart() {
    let error = |field: &[u8]| {
        AccessToken::from_authorization(&HeaderValue::from_bytes(field).unwrap()).unwrap_err()
    };
    let other_schemes = ["DPoP t0k", "Basic dTpw", "", "Bearert0k", "Bearer\tt0k"];
    for field in other_schemes.map(str::as_bytes) {
        assert_eq!(error(field), InvalidAccessToken::OtherScheme);
    }
    let no_tokens = ["Bearer", "Bearer ", "Bearer a b", "Bearer a, Bearer b"];
    for field in no_tokens
        .map(str::as_bytes)
        .into_iter()
        .chain([&b"Bearer \xff"[..]])
    {
        assert_eq!(error(field), InvalidAccessToken::Malformed);
    }
}

#[test]
fn credentials_are_read_with_either_scheme_which_is_kept() {
    let read =
        |field: &'static str| AccessToken::from_credentials(&HeaderValue::from_static(field));
    for (field, scheme) in [
        ("Bearer t0k", Scheme::Bearer),
        ("bearer   t0k", Scheme::Bearer),
        ("DPoP t0k", Scheme::Dpop),
        ("dpop t0k", Scheme::Dpop),
    ] {
        let token = read(field).unwrap();
        assert_eq!((token.secret(), token.scheme()), ("t0k", scheme), "{field}");
    }
    assert_eq!(
        read("Basic dTpw").unwrap_err(),
        InvalidAccessToken::OtherScheme
    );
    assert_eq!(read("DPoP").unwrap_err(), InvalidAccessToken::Malformed);
    assert_eq!(read("DPoP a b").unwrap_err(), InvalidAccessToken::Malformed);
}

#[test]
fn a_token_is_sent_with_its_own_scheme_or_the_one_asked_for() {
    let token = AccessToken::new("t0k").unwrap();
    assert_eq!(token.authorization(), "Bearer t0k");
    assert_eq!(token.authorization_as(Scheme::Dpop), "DPoP t0k");
    assert!(token.authorization_as(Scheme::Dpop).is_sensitive());
    let dpop = token.clone().with_scheme(Scheme::Dpop);
    assert_eq!(dpop.authorization(), "DPoP t0k");
    assert_eq!(dpop.authorization_as(Scheme::Bearer), "Bearer t0k");
    assert_eq!(dpop, token, "the scheme makes no other token of it");
}

#[test]
fn a_token_demands_what_its_confirmation_says_or_else_its_scheme() {
    let demand = |token: &AccessToken, scheme| token.clone().with_scheme(scheme).demand();
    let opaque = AccessToken::new("opaque").unwrap();
    assert_eq!(demand(&opaque, Scheme::Bearer), Ok(Demand::None));
    assert_eq!(demand(&opaque, Scheme::Dpop), Ok(Demand::Dpop));
    let bound = jwt(&json!({"cnf": {"jkt": base64url([1; 32])}}).to_string());
    assert_eq!(demand(&bound, Scheme::Bearer), Ok(Demand::Dpop));
    assert_eq!(demand(&bound, Scheme::Dpop), Ok(Demand::Dpop));
    // TK-0
    let session = jwt(&json!({"cnf": cnf()}).to_string());
    assert_eq!(demand(&session, Scheme::Bearer), Ok(Demand::Session));
    assert_eq!(
        demand(&session, Scheme::Dpop),
        Err(ConfirmationError::OtherScheme)
    );
    let malformed = jwt(&json!({"cnf": 1}).to_string());
    assert_eq!(
        demand(&malformed, Scheme::Dpop),
        Err(ConfirmationError::Malformed)
    );
}

#[test]
fn tokens_are_equal_when_their_text_is() {
    let token = |text| AccessToken::new(text).unwrap();
    assert_eq!(token("same"), token("same"));
    assert_ne!(token("same"), token("other"));
    assert!(token("same").hash().matches(token("same").hash()));
    assert!(!token("same").hash().matches(token("other").hash()));
}

#[test]
fn a_jwt_shows_its_confirmation_and_an_opaque_token_has_none() {
    let confirmation = session_bound();
    assert_eq!(
        jwt(&json!({"cnf": cnf()}).to_string()).confirmation(),
        Ok(&confirmation)
    );
    let none = Confirmation::default();
    assert_eq!(jwt("{\"sub\":\"agent\"}").confirmation(), Ok(&none));
    let payload = base64url(json!({"cnf": cnf()}).to_string());
    for opaque in [
        "opaque".to_owned(),
        "a.b".into(),
        "a.b.c".into(),
        "a.MTIz.c".into(),
        "a.W10.c".into(),
        format!("a.{payload}"),
        format!("a.{payload}.c.d"),
    ] {
        assert_eq!(
            AccessToken::new(&*opaque).unwrap().confirmation(),
            Ok(&none),
            "{opaque}"
        );
    }
}

/// One reader of a duplicated member uses the first, another the last: nobody can tell what was
/// meant.
#[test]
fn a_jwt_with_a_doubled_member_is_malformed() {
    let cnf = cnf().to_string();
    let label = format!("\"tls_exp\":\"{EXPORTER_LABEL}\"");
    for payload in [
        format!("{{\"cnf\":{cnf},\"cnf\":{{}}}}"),
        format!("{{\"cnf\":{{}},\"cnf\":{cnf}}}"),
        format!("{{\"cnf\":{{{label},{label}}}}}"),
    ] {
        assert_eq!(
            jwt(&payload).confirmation(),
            Err(&ConfirmationError::Malformed)
        );
    }
}

#[test]
fn members_of_the_wrong_type_or_form_are_malformed() {
    for claims in [
        json!({"cnf": null}),
        json!({"cnf": "x"}),
        json!({"cnf": []}),
        json!({"cnf": ["x", "y", "z"]}),
        json!({"cnf": {"x5t#S256": null}}),
        json!({"cnf": {"x5t#S256": 1}}),
        json!({"cnf": {"x5t#S256": "short"}}),
        json!({"cnf": {"x5t#S256": format!("{}=", P256.thumbprint())}}),
        json!({"cnf": {"tls_exp": true}}),
        json!({"cnf": {"tls_exp": null}}),
        json!({"cnf": {"tls_exp": [EXPORTER_LABEL]}}),
        json!({"cnf": {"jkt": {}}}),
        json!({"cnf": {"jkt": "short"}}),
        json!([]),
        json!("claims"),
        json!(null),
    ] {
        assert_eq!(
            Confirmation::from_claims(&claims),
            Err(ConfirmationError::Malformed),
            "{claims}"
        );
    }
}

#[test]
fn unknown_members_are_ignored() {
    let mut claims = json!({"sub": "agent", "cnf": cnf()});
    claims["cnf"]["kid"] = json!(["anything"]);
    assert_eq!(Confirmation::from_claims(&claims), Ok(session_bound()));
}

/// RFC 7800 §3.1 lets a client ignore it; a server must not (TK-5).
#[test]
fn a_cnf_without_a_known_member_is_told_from_no_cnf_and_demands_nothing_of_the_client() {
    for (claims, unknown_method) in [
        (json!({}), false),
        (json!({"cnf": cnf()}), false),
        (
            json!({"cnf": {"jkt": base64url([1; 32]), "kid": "1"}}),
            false,
        ),
        (json!({"cnf": {}}), true),
        (json!({"cnf": {"jwk": {}}}), true),
        (json!({"cnf": {"tls_exp2": EXPORTER_LABEL}}), true),
    ] {
        let token = jwt(&claims.to_string());
        for read in [
            Confirmation::from_claims(&claims).unwrap(),
            Confirmation::from_json(claims.to_string().as_bytes()).unwrap(),
            token.confirmation().unwrap().clone(),
        ] {
            assert_eq!(read.unknown_method, unknown_method, "{claims}");
        }
        if unknown_method {
            assert_eq!(token.demand(), Ok(Demand::None), "{claims}");
        }
    }
}

#[test]
fn a_jwt_is_told_from_an_opaque_token() {
    assert!(jwt("{}").jwt_confirmation().is_some());
    assert!(jwt("{\"cnf\":1}").jwt_confirmation().unwrap().is_err());
    for opaque in ["opaque", "a.b.c", "a.W10.c", "a.b.c.d.e"] {
        let token = AccessToken::new(opaque).unwrap();
        assert!(token.jwt_confirmation().is_none(), "{opaque}");
    }
}

#[test]
fn claims_that_are_not_a_json_object_are_malformed() {
    for text in ["", "[]", "1", "{", "{} x", "{\"cnf\":{},\"cnf\":{}}"] {
        assert_eq!(
            Confirmation::from_json(text.as_bytes()),
            Err(ConfirmationError::Malformed),
            "{text}"
        );
    }
}

#[test]
fn the_confirmation_decides_what_is_demanded() {
    let x5t_s256 = Some(P256.thumbprint());
    let label = Some(EXPORTER_LABEL.to_owned());
    let jkt = Some(base64url([1; 32]).parse().unwrap());
    let demand = |x5t_s256, tls_exp: &Option<String>, jkt: &Option<JwkThumbprint>| {
        Confirmation {
            x5t_s256,
            tls_exp: tls_exp.clone(),
            jkt: *jkt,
            ..Confirmation::default()
        }
        .demand()
    };
    assert_eq!(demand(None, &None, &None), Ok(Demand::None));
    assert_eq!(demand(x5t_s256, &None, &None), Ok(Demand::None));
    assert_eq!(demand(x5t_s256, &label, &None), Ok(Demand::Session));
    assert_eq!(demand(None, &None, &jkt), Ok(Demand::Dpop));
    assert_eq!(demand(x5t_s256, &None, &jkt), Ok(Demand::Dpop));

    // TK-0, TK-2, TK-1
    assert_eq!(
        demand(x5t_s256, &label, &jkt),
        Err(ConfirmationError::Conflict)
    );
    for other in [
        "",
        "EXPORTER-Channel-Binding",
        "exporter-oauth-tls-session-bound",
    ] {
        assert_eq!(
            demand(x5t_s256, &Some(other.to_owned()), &None),
            Err(ConfirmationError::UnknownLabel)
        );
    }
    assert_eq!(
        demand(None, &label, &None),
        Err(ConfirmationError::NoCertificate)
    );
}

fn cnf() -> Value {
    json!({"x5t#S256": P256.thumbprint().to_string(), "tls_exp": EXPORTER_LABEL})
}

fn session_bound() -> Confirmation {
    Confirmation {
        x5t_s256: Some(P256.thumbprint()),
        tls_exp: Some(EXPORTER_LABEL.to_owned()),
        ..Confirmation::default()
    }
}

fn jwt(payload: &str) -> AccessToken {
    AccessToken::new(format!("e30.{}.c2ln", base64url(payload))).unwrap()
}

#[test]
fn a_jwt_says_when_it_expires_and_what_cannot_be_read_has_passed() {
    let expiry = |claims: &str| {
        let claims = base64url(claims.as_bytes());
        let token = AccessToken::new(format!("e30.{claims}.c2ln")).unwrap();
        let since = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        token.expires_at().map(|at| since(at).as_secs())
    };
    assert_eq!(expiry(r#"{"exp":1700000000}"#), Some(1_700_000_000));
    assert_eq!(expiry(r#"{"exp":1.7e9,"sub":"a"}"#), Some(1_700_000_000));
    assert_eq!(expiry(r#"{"exp":"soon"}"#), Some(0));
    assert_eq!(expiry(r#"{"exp":-1}"#), Some(0));
    assert_eq!(expiry(r#"{"sub":"a"}"#), None);
    assert_eq!(expiry("[]"), None);
    assert_eq!(AccessToken::new("opaque").unwrap().expires_at(), None);
}
