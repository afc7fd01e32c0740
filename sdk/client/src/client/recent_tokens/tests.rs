use bowline_proof::Scheme;

use super::*;

const BOUND: usize = 8;

fn field(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap()
}

/// Whether it is the same copy in memory: then it was read once.
fn is_same(one: &AccessToken, other: &AccessToken) -> bool {
    std::ptr::eq(one.secret(), other.secret())
}

#[test]
fn a_field_gives_its_own_token_whatever_came_before() {
    let tokens = RecentTokens::new(BOUND);
    for round in 0..3 {
        for number in 0..BOUND + 2 {
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
    assert_eq!(tokens.lock().len(), BOUND);
}

#[test]
fn a_token_that_comes_again_is_not_read_again() {
    let tokens = RecentTokens::new(1000);
    for written in ["Bearer", "bearer", "DPoP", "Bearer  "] {
        let fields: Vec<_> = (0..20).map(|n| field(&format!("{written} t{n}"))).collect();
        let read = |field| tokens.find_or_read(field).unwrap();
        let first: Vec<_> = fields.iter().map(read).collect();
        for (field, first) in fields.iter().zip(&first) {
            assert!(is_same(&read(field), first), "{written}");
        }
    }
}

#[test]
fn one_token_more_than_the_bound_in_turn_is_rarely_read_again() {
    const BOUND: usize = 1000;
    let tokens = RecentTokens::new(BOUND);
    let fields: Vec<_> = (0..=BOUND)
        .map(|n| field(&format!("Bearer t{n}")))
        .collect();
    let read = |field| tokens.find_or_read(field).unwrap();
    let mut known: Vec<_> = fields.iter().map(read).collect();
    let mut again = 0;
    for _ in 0..5 {
        for (field, known) in fields.iter().zip(&mut known) {
            let token = read(field);
            again += usize::from(!is_same(&token, known));
            *known = token;
        }
    }
    assert!(again < 100, "{again} of 5,005");
}

/// The caller's field may be a part of a large buffer, which would stay in memory.
#[test]
fn a_field_that_is_kept_is_a_copy() {
    let tokens = RecentTokens::new(BOUND);
    for text in ["Bearer abc", "bearer abc"] {
        let field = field(text);
        tokens.find_or_read(&field).unwrap();
        for (_, known) in tokens.lock().iter() {
            assert!(!std::ptr::eq(known.field.as_bytes(), field.as_bytes()));
            assert!(known.field.is_sensitive());
        }
    }
}

#[test]
fn what_is_no_token_is_not_kept() {
    let tokens = RecentTokens::new(BOUND);
    assert!(tokens.find_or_read(&field("Basic abc")).is_err());
    assert!(tokens.find_or_read(&field("Bearer ")).is_err());
    assert_eq!(tokens.lock().len(), 0);
}
