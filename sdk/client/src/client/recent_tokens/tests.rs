use bowline_proof::Scheme;

use super::*;

fn field(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap()
}

#[test]
fn a_field_gives_its_own_token_whatever_came_before() {
    let tokens = RecentTokens::default();
    for round in 0..3 {
        for number in 0..MAX_TOKENS + 2 {
            for (scheme, expected) in [
                ("Bearer", Scheme::Bearer),
                ("DPoP", Scheme::Dpop),
                ("bearer", Scheme::Bearer),
            ] {
                let token = tokens
                    .find_or_read(&field(&format!("{scheme} t{number}")))
                    .unwrap();
                assert_eq!(token.secret(), format!("t{number}"), "round {round}");
                assert_eq!(token.scheme(), expected);
            }
        }
    }
    assert_eq!(tokens.lock().len(), MAX_TOKENS);
}

#[test]
fn a_token_that_comes_again_is_not_read_again() {
    let tokens = RecentTokens::default();
    let field = field("Bearer abc");
    let (first, second) = (
        tokens.find_or_read(&field).unwrap(),
        tokens.find_or_read(&field).unwrap(),
    );
    assert!(std::ptr::eq(first.secret(), second.secret()));
}

#[test]
fn what_is_no_token_is_not_kept() {
    let tokens = RecentTokens::default();
    assert!(tokens.find_or_read(&field("Basic abc")).is_err());
    assert!(tokens.find_or_read(&field("Bearer ")).is_err());
    assert!(tokens.lock().is_empty());
}
