//! The two attacks: what became of the last request's token and proof on a connection of a thief's.

use bowline_testkit::attacker::{Outcome, StolenCredentials, replay};
use bowline_testkit::pki::Leaf;
use serde::Serialize;

use crate::Result;
use crate::upstream::Upstream;
use crate::world::World;

/// What became of an attack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Attack {
    /// The server did as the thief asked.
    Accepted,
    /// The server refused, by this check.
    Refused(String),
}

impl Attack {
    /// An attack with `who`'s certificate.
    pub(crate) async fn with(
        world: &World,
        upstream: &Upstream,
        who: &Leaf,
        stolen: &StolenCredentials,
    ) -> Result<Self> {
        let call = upstream.call_by_hand();
        let outcome = replay(&world.pki, who, &upstream.origin(), stolen, call).await?;
        match (&outcome, outcome.check()) {
            (Outcome::Accepted, _) => Ok(Self::Accepted),
            (_, Some(check)) => Ok(Self::Refused(check.to_owned())),
            (_, None) => Err(format!(
                "the server answered {outcome} to the thief without naming a check"
            )
            .into()),
        }
    }

    pub(crate) fn got_through(&self) -> bool {
        *self == Self::Accepted
    }
}
