use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::is_unprocessed;

fn with(challenges: &[&'static str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for challenge in challenges {
        headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    headers
}

/// CL-7: every status but these may come from a server that acted.
#[test]
fn only_these_statuses_say_that_nobody_acted_on_the_request() {
    let unprocessed: Vec<u16> = (100..=999)
        .filter(|status| {
            let status = StatusCode::from_u16(*status).unwrap();
            is_unprocessed(status, &HeaderMap::new())
        })
        .collect();
    assert_eq!(unprocessed, [307, 308, 403, 404, 405, 413, 421, 425, 429]);
    // A challenge changes nothing about other statuses.
    let refused = with(&[r#"Bearer error="invalid_token""#]);
    for status in [400, 407, 500] {
        let status = StatusCode::from_u16(status).unwrap();
        assert!(!is_unprocessed(status, &refused), "{status}");
    }
}

#[test]
fn a_401_says_so_only_in_a_challenge_for_tokens_with_one_of_four_errors() {
    for (challenges, unprocessed) in [
        (&[][..], false),
        (&["Bearer"][..], false),
        (&[r#"Bearer error="invalid_token""#][..], true),
        (&[r#"DPoP error=use_dpop_nonce"#][..], true),
        (&[r#"Bearer error="invalid_proof""#][..], true),
        (&[r#"bearer error="use_session_binding""#][..], true),
        (&[r#"DPoP error="invalid_dpop_proof""#][..], false),
        (&[r#"Bearer error="Invalid_Token""#][..], false),
        (&[r#"Bearer error="invalid_request""#][..], false),
        (&[r#"Negotiate error="invalid_token""#][..], false),
        (
            &[
                r#"Negotiate abc=="#,
                r#"Bearer realm="a", error="invalid_token""#,
            ][..],
            true,
        ),
        (
            &[r#"Bearer realm="a", Upstream error="invalid_token""#][..],
            false,
        ),
    ] {
        let headers = with(challenges);
        assert_eq!(
            is_unprocessed(StatusCode::UNAUTHORIZED, &headers),
            unprocessed,
            "{challenges:?}"
        );
    }
}
