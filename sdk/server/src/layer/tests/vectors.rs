//! The verdicts in `conformance/vectors/confirmations.json` (RS-13): each policy gives them.

use serde_json::Value;

use super::fixture::*;
use crate::AcceptPolicy::{self, Follow, RequireBound, RequireProof, RequireSession};

/// The class of a request that passes, or the error of the challenge.
async fn verdict(fixture: &Fixture) -> String {
    let outcome = fixture.send().await;
    if outcome.has_passed() {
        return outcome.binding().class().name().to_owned();
    }
    let challenges = outcome.challenges();
    let error = challenges.iter().find_map(|challenge| challenge.error());
    error.expect("an error of a challenge").to_owned()
}

/// DPoP is not configured here, so what passes with a DPoP proof is left to `tests/it/policies.rs`.
/// A member that stands twice is for the validators to refuse: see `tests/it/jwt.rs`.
#[tokio::test]
async fn rs_13_each_policy_gives_the_verdict_of_each_vector() {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../conformance/vectors/confirmations.json"
    );
    let vectors: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let theirs = vectors["connection_x5t#S256"].as_str().unwrap();
    let policies: [(&str, AcceptPolicy); 4] = [
        ("Follow", Follow),
        ("RequireBound", RequireBound),
        ("RequireProof", RequireProof),
        ("RequireSession", RequireSession),
    ];
    let mut compared = 0;
    let is_unique = |vector: &&Value| !vector["name"].as_str().unwrap().ends_with(" twice");
    for vector in vectors["vectors"]
        .as_array()
        .unwrap()
        .iter()
        .filter(is_unique)
    {
        let claims = vector["claims_json"].as_str().unwrap();
        let claims = claims.replace(theirs, &CLIENT.thumbprint());
        for (name, policy) in policies {
            let expected = vector["verdicts"][name].as_str().unwrap();
            if expected == "dpop" {
                continue;
            }
            let mut fixture = Fixture::default();
            fixture.configure(|layer| layer.policy(policy));
            fixture.token = fixture.tokens.issue_text(&claims);
            fixture.proof_claims["ath"] = ath(&fixture.token);
            if vector["session_binding_proof"] == false {
                fixture.proofs = Some(vec![]);
            }
            assert_eq!(
                verdict(&fixture).await,
                expected,
                "{}, {policy}",
                vector["name"]
            );
            compared += 1;
        }
    }
    assert!(compared > 90, "{compared}");
}
