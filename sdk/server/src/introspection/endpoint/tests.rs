use super::*;

/// Also where it is longer than an exchange may take elsewhere.
#[test]
fn a_question_may_take_as_long_as_the_validator_allows() {
    let endpoint = IntrospectionEndpoint::new("https://authority.example.com/introspect").unwrap();
    let limit = Duration::from_secs(30);
    let question = endpoint.request(&AccessToken::new("token").unwrap(), limit);
    assert!(question.build().unwrap().timeout() > Some(&limit));
}
