use super::*;
use http::header::RETRY_AFTER;

fn unauthorized() -> Error {
    let (head, ()) = http::Response::builder()
        .status(401)
        .header(WWW_AUTHENTICATE, r#"Bearer error="invalid_token""#)
        .header(WWW_AUTHENTICATE, "Basic")
        .header(RETRY_AFTER, "7")
        .body(())
        .unwrap()
        .into_parts();
    Error::new(ErrorKind::Unauthorized, "no").with_head(&head)
}

#[test]
fn a_failure_is_had_back_from_the_sdk_s_error_as_it_was() {
    let failure = unauthorized();
    let error = A2AError::from(failure.clone());
    let back = Error::from_a2a(&error.clone()).unwrap();
    assert_eq!(back, failure);
    assert_eq!(back.kind(), ErrorKind::Unauthorized);
    assert_eq!(back.status(), Some(StatusCode::UNAUTHORIZED));
    assert_eq!(
        back.www_authenticate(),
        [r#"Bearer error="invalid_token""#, "Basic"]
    );
    assert_eq!(back.retry_after(), Some(Duration::from_secs(7)));
    assert!(!back.may_have_been_processed());
}

#[test]
fn an_error_of_the_agent_s_is_no_failure_and_an_agent_cannot_pretend_one() {
    let error = A2AError::task_not_found("t");
    assert_eq!(Error::from_a2a(&error), None);
    let forged = A2AError::from(unauthorized()).details.unwrap();
    assert_eq!(without_ours(forged.clone()), []);
    let both = Error::new(ErrorKind::Forbidden, "x").attach_to(error.with_details(forged));
    assert_eq!(both.code, a2a::error_code::TASK_NOT_FOUND);
    assert_eq!(Error::from_a2a(&both).unwrap().kind(), ErrorKind::Forbidden);
}

#[test]
fn a_kind_s_name_is_the_one_on_the_wire() {
    for kind in [
        ErrorKind::NotA2a,
        ErrorKind::MayHaveBeenProcessed,
        ErrorKind::NotHttp2,
        ErrorKind::StreamCut,
    ] {
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
    }
}

/// RFC 9110 §5.5: a challenge may hold `obs-text`, and is a challenge all the same.
#[test]
fn a_challenge_that_is_not_ascii_is_kept() {
    let mut fields = HeaderMap::new();
    let challenge = b"Bearer realm=\"B\xfcro\", resource_metadata=\"https://a.example/m\"";
    fields.insert(
        WWW_AUTHENTICATE,
        http::HeaderValue::from_bytes(challenge).unwrap(),
    );
    let error =
        Error::new(ErrorKind::Unauthorized, "no").with_fields(&fields, &SentTokens::default());
    assert!(
        error.www_authenticate()[0].contains("resource_metadata"),
        "{error:?}"
    );
}
