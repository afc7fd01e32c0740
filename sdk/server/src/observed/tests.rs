use bowline_proof::CheckTable;

use super::*;

/// Every check that an observed request can fail, by what a refusal would mean to the client.
#[test]
fn each_check_belongs_to_one_count() {
    for &check in Check::ALL {
        let expected = match check {
            Check::ProofMissing => "proof_missing",
            Check::TokenTransport
            | Check::Confirmation
            | Check::TokenCertificate
            | Check::BindingRequired
            | Check::NoToken => "refused",
            // These refuse all the same.
            Check::Certificate | Check::Token | Check::Scope => continue,
            check => {
                assert_eq!(check.error(), Some("invalid_proof"), "{check:?}");
                "proof_failed"
            }
        };
        let observed = Observed::failed(FailedCheck::Session(check));
        assert_eq!(observed.name(), expected, "{check:?}");
        assert_eq!(observed.check().unwrap().id(), check.id());
    }
    for &check in DpopCheck::ALL {
        let expected = match check {
            DpopCheck::Missing | DpopCheck::Nonce => "proof_missing",
            DpopCheck::TokenNotBound | DpopCheck::BearerScheme | DpopCheck::KeyBinding => "refused",
            _ => "proof_failed",
        };
        let observed = Observed::failed(FailedCheck::Dpop(check));
        assert_eq!(observed.name(), expected, "{check:?}");
        assert_eq!(observed.check().unwrap().name(), check.name());
    }
    assert_eq!(
        (Observed::Held.name(), Observed::Held.check()),
        ("held", None)
    );
}
