//! RS-10: what a refusal by each check tells the client.

use std::collections::HashSet;

use bowline_proof::{Check, CheckTable, Refusal};

use crate::fixture::fits_error_description;

/// RS-10, row by row.
#[test]
fn each_check_answers_as_the_profile_says() {
    for refusal in all_refusals() {
        let check = refusal.check();
        let (status, error) = match check.id() {
            _ if check == Check::NoToken => (401, None),
            _ if check == Check::Scope => (403, Some("insufficient_scope")),
            _ if check == Check::ProofMissing => (401, Some("use_session_binding")),
            "RS-1" | "RS-2" | "RS-3" | "RS-13" | "TK-0" | "TK-2" => (401, Some("invalid_token")),
            "RS-4" | "RS-5" | "RS-6" | "RS-7" | "RS-8" | "RS-9" | "RS-12" => {
                (401, Some("invalid_proof"))
            }
            other => panic!("{other} is not in RS-10"),
        };
        assert_eq!(
            (check.status().as_u16(), check.error()),
            (status, error),
            "{check:?}"
        );
        assert_eq!(
            refusal.to_string(),
            format!("{}: {}", check.id(), check.description())
        );
    }
    let names: HashSet<_> = Check::ALL.iter().map(|check| check.name()).collect();
    assert_eq!(names.len(), Check::ALL.len(), "metric labels are distinct");
}

/// RFC 6750 §3: `error_description` keeps to these characters.
#[test]
fn descriptions_may_stand_in_a_challenge() {
    for refusal in all_refusals() {
        assert!(fits_error_description(refusal.description()), "{refusal}");
    }
}

fn all_refusals() -> impl Iterator<Item = Refusal> {
    Check::ALL.iter().copied().map(Refusal::from)
}
