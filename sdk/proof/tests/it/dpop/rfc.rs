//! The examples of RFC 9449 itself.

use bowline_proof::{
    AccessToken, Challenge, Confirmation, Demand, Scheme, Targets, challenges,
    dpop::{DpopCheck, Nonce, USE_DPOP_NONCE},
};
use http::{HeaderMap, HeaderValue, Method};
use serde_json::json;

use super::{Fixture, assert_refused};
use crate::fixture::{base64url, sha256};

/// §4.1: in a token request.
const AT_THE_TOKEN_ENDPOINT: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6Ik\
    VDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCR\
    nMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JE\
    QSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIj\
    oiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwia\
    WF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg\
    4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg";

/// §7.1: with a token, at a protected resource.
const AT_A_RESOURCE: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6Ik\
    VDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCR\
    nMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JE\
    QSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIj\
    oiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0Z\
    WRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNF\
    c05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71E\
    OptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA";

const AUTHORIZATION: &str = "DPoP Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";
const JKT: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";

fn token_endpoint() -> Fixture {
    Fixture {
        path: "/token",
        targets: Targets::new(["https://server.example.com".parse().unwrap()]),
        now: 1_562_262_616,
        key: None,
        ..Fixture::default()
    }
}

fn resource() -> Fixture {
    let token = AccessToken::from_credentials(&HeaderValue::from_static(AUTHORIZATION)).unwrap();
    Fixture {
        method: Method::GET,
        path: "/protectedresource",
        targets: Targets::new(["https://resource.example.org".parse().unwrap()]),
        now: 1_562_262_618,
        token: *token.hash(),
        key: Some(JKT.parse().unwrap()),
        ..Fixture::default()
    }
}

#[test]
fn the_example_proofs_are_accepted_at_their_time() {
    let verified = token_endpoint().verify(AT_THE_TOKEN_ENDPOINT).unwrap();
    assert_eq!(
        (verified.jti.as_str(), verified.key.to_string().as_str()),
        ("-BwC3ESc6acc2lTc", JKT)
    );
    let verified = resource().verify(AT_A_RESOURCE).unwrap();
    assert_eq!(
        (verified.jti.as_str(), verified.key.to_string().as_str()),
        ("e1j3V_bKic8-LAEB", JKT)
    );
    assert_eq!(
        (verified.issued_at.as_secs(), verified.nonce),
        (1_562_262_618, None)
    );
}

#[test]
fn the_example_proofs_are_refused_for_anything_else() {
    type Change = fn(&mut Fixture);
    let changes: [(Change, DpopCheck); 7] = [
        (|fixture| fixture.method = Method::POST, DpopCheck::Method),
        (
            |fixture| fixture.path = "/protectedresources",
            DpopCheck::TargetUri,
        ),
        (
            |fixture| {
                fixture.targets = Targets::new(["https://resource.example.com".parse().unwrap()])
            },
            DpopCheck::TargetUri,
        ),
        (|fixture| fixture.now += 301, DpopCheck::IssuedAt),
        (
            |fixture| fixture.token = *AccessToken::new("another").unwrap().hash(),
            DpopCheck::TokenHash,
        ),
        (
            |fixture| fixture.key = Some(base64url([1; 32]).parse().unwrap()),
            DpopCheck::KeyBinding,
        ),
        (
            |fixture| fixture.nonces = Some(vec![Nonce::new("eyJ7S_zG.eyJH0-Z.HX4w-7v").unwrap()]),
            DpopCheck::Nonce,
        ),
    ];
    for (change, check) in changes {
        let mut fixture = resource();
        change(&mut fixture);
        assert_refused(fixture.verify(AT_A_RESOURCE), check);
    }
    // The proof for the token endpoint is refused at a resource: it has no ath.
    let mut fixture = token_endpoint();
    fixture.key = Some(JKT.parse().unwrap());
    assert_refused(fixture.verify(AT_THE_TOKEN_ENDPOINT), DpopCheck::Claims);
}

/// §6.1, §7.1.
#[test]
fn the_example_token_is_read_with_its_scheme_and_its_confirmation() {
    let token = AccessToken::from_credentials(&HeaderValue::from_static(AUTHORIZATION)).unwrap();
    assert_eq!(
        (token.scheme(), token.demand()),
        (Scheme::Dpop, Ok(Demand::Dpop))
    );
    assert_eq!(token.authorization(), AUTHORIZATION);
    assert_eq!(
        base64url(token.hash().as_bytes()),
        "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"
    );
    assert_eq!(
        token.hash().as_bytes()[..],
        sha256(token.secret().as_bytes())
    );

    let jwt = "eyJhbGciOiJFUzI1NiIsImtpZCI6IkJlQUxrYiJ9.eyJzdWIiOiJzb21lb25lQGV4YW1\
        wbGUuY29tIiwiaXNzIjoiaHR0cHM6Ly9zZXJ2ZXIuZXhhbXBsZS5jb20iLCJuYmYiOjE\
        1NjIyNjI2MTEsImV4cCI6MTU2MjI2NjIxNiwiY25mIjp7ImprdCI6IjBaY09DT1JaTll\
        5LURXcHFxMzBqWnlKR0hUTjBkMkhnbEJWM3VpZ3VBNEkifX0.3Tyo8VTcn6u_PboUmAO\
        YUY1kfAavomW_YwYMkmRNizLJoQzWy2fCo79Zi5yObpIzjWb5xW4OGld7ESZrh0fsrA";
    let jwt = AccessToken::new(jwt).unwrap();
    assert_eq!(jwt.confirmation().unwrap().jkt, Some(JKT.parse().unwrap()));
    assert_eq!(
        (jwt.scheme(), jwt.demand()),
        (Scheme::Bearer, Ok(Demand::Dpop))
    );

    // §6.2
    let introspected = json!({"active": true, "cnf": {"jkt": JKT}});
    assert_eq!(
        Confirmation::from_claims(&introspected).unwrap().jkt,
        Some(JKT.parse().unwrap())
    );
}

/// §7.1, §9.
#[test]
fn the_example_challenges_are_read_and_ours_look_like_them() {
    let field = "DPoP error=\"use_dpop_nonce\", \
        error_description=\"Resource server requires nonce in DPoP proof\"";
    let headers: HeaderMap = [
        (
            http::header::WWW_AUTHENTICATE,
            HeaderValue::from_static(field),
        ),
        (
            bowline_proof::dpop::NONCE_HEADER,
            HeaderValue::from_static("eyJ7S_zG.eyJH0-Z.HX4w-7v"),
        ),
    ]
    .into_iter()
    .collect();
    let read = challenges(&headers);
    assert_eq!(
        (read[0].scheme.as_str(), read[0].error()),
        ("DPoP", Some(USE_DPOP_NONCE))
    );
    assert_eq!(
        Nonce::from_response(&headers).unwrap().as_str(),
        "eyJ7S_zG.eyJH0-Z.HX4w-7v"
    );

    let ours = Challenge::dpop().with("error", "invalid_token");
    assert_eq!(
        ours.header_value(),
        r#"DPoP algs="ES256 ES384 EdDSA PS256 RS256", error="invalid_token""#
    );
    let both = HeaderMap::from_iter([(
        http::header::WWW_AUTHENTICATE,
        HeaderValue::from_static(r#"Bearer, DPoP algs="ES256 PS256""#),
    )]);
    let schemes: Vec<_> = challenges(&both)
        .into_iter()
        .map(|challenge| challenge.scheme)
        .collect();
    assert_eq!(schemes, ["Bearer", "DPoP"]);
}
