use super::*;

/// Also if that is longer than `EXCHANGE_TIMEOUT`.
#[test]
fn a_request_may_take_as_long_as_the_validator_allows() {
    let endpoint = IntrospectionEndpoint::new("https://authority.example.com/introspect").unwrap();
    let limit = Duration::from_secs(30);
    let question = endpoint.request(&AccessToken::new("token").unwrap(), limit);
    assert!(question.build().unwrap().timeout() > Some(&limit));
}
