//! RS-10: what a refusal by each check tells the client.

use std::collections::HashSet;

use bowline_proof::{Check, Refusal};

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
    let names: HashSet<_> = all_refusals()
        .iter()
        .map(|refusal| refusal.check().name())
        .collect();
    assert_eq!(
        names.len(),
        all_refusals().len(),
        "metric labels are distinct"
    );
}

/// RFC 6750 §3: `error_description` keeps to these characters.
#[test]
fn descriptions_may_stand_in_a_challenge() {
    for refusal in all_refusals() {
        assert!(
            refusal
                .description()
                .chars()
                .all(|c| (' '..='~').contains(&c) && c != '"' && c != '\\'),
            "{refusal}"
        );
    }
}

fn all_refusals() -> Vec<Refusal> {
    use Check::*;
    [
        NoToken,
        Certificate,
        Token,
        TokenCertificate,
        ProofMissing,
        ProofDuplicated,
        ProofSyntax,
        ProofType,
        ProofAlgorithm,
        ProofThumbprint,
        ProofSignature,
        Exporter,
        TokenHash,
        IssuedAt,
        Method,
        TargetUri,
        Replay,
        ReplayQuota,
        RequestClaimsRequired,
        BindingRequired,
        TokenTransport,
        Confirmation,
        Scope,
    ]
    .map(Refusal::from)
    .to_vec()
}
