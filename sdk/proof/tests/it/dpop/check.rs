//! What a refusal by each check tells the client.

use std::collections::HashSet;

use bowline_proof::{
    Check, CheckTable,
    dpop::{DpopCheck, DpopRefusal},
};

use crate::fixture::fits_error_description;

const ALL: &[DpopCheck] = DpopCheck::ALL;

/// RFC 9449 §7.1, §9.
#[test]
fn each_check_answers_as_the_rfc_says() {
    use DpopCheck::*;
    for &check in ALL {
        let error = match check {
            Nonce => "use_dpop_nonce",
            KeyBinding | TokenNotBound | BearerScheme => "invalid_token",
            _ => "invalid_dpop_proof",
        };
        assert_eq!(check.error(), Some(error), "{check:?}");
        assert_eq!(
            DpopRefusal::from(check).to_string(),
            format!("{}: {}", check.id(), check.description())
        );
    }
}

#[test]
fn metric_labels_are_distinct_from_each_other_and_from_those_of_the_session_checks() {
    let names: HashSet<_> = ALL.iter().map(|check| check.name()).collect();
    assert_eq!(names.len(), ALL.len());
    assert!(names.iter().all(|name| name.starts_with("dpop_")));
    assert!(!Check::Replay.name().starts_with("dpop_"));
}

/// The items of RFC 9449 §4.3 are all there.
#[test]
fn ids_are_the_numbers_of_the_items() {
    let ids: HashSet<_> = ALL.iter().map(|check| check.id()).collect();
    let expected: HashSet<_> = (1..=16).map(|item| format!("DP-{item}")).collect();
    assert_eq!(
        ids.into_iter().map(str::to_owned).collect::<HashSet<_>>(),
        expected
    );
}

/// RFC 6750 §3: `error_description` keeps to these characters.
#[test]
fn descriptions_may_stand_in_a_challenge() {
    for &check in ALL {
        let text = check.description();
        assert!(fits_error_description(text), "{text}");
    }
}
