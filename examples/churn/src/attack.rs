//! The two attacks: the token and proof of the last request, replayed on another connection.

use bowline_testkit::attacker::{Outcome, StolenCredentials, replay};
use bowline_testkit::pki::Leaf;
use serde::Serialize;

use crate::Result;
use crate::fixture::Fixture;
use crate::upstream::Upstream;

/// The outcome of an attack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Attack {
    /// The server served the request.
    Accepted,
    /// The server refused, by this check.
    Refused(String),
}

impl Attack {
    /// Attacks with this certificate.
    pub(crate) async fn with(
        fixture: &Fixture,
        upstream: &Upstream,
        certificate: &Leaf,
        stolen: &StolenCredentials,
    ) -> Result<Self> {
        let call = upstream.attackers_call();
        let outcome = replay(&fixture.pki, certificate, &upstream.origin(), stolen, call).await?;
        match (&outcome, outcome.check()) {
            (Outcome::Accepted, _) => Ok(Self::Accepted),
            (_, Some(check)) => Ok(Self::Refused(check.to_owned())),
            (_, None) => Err(format!(
                "the server answered {outcome} to the attacker without naming a check"
            )
            .into()),
        }
    }

    pub(crate) fn is_accepted(&self) -> bool {
        *self == Self::Accepted
    }
}
