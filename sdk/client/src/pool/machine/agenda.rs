//! Which keys have something to do, the soonest first.

use std::collections::BTreeSet;

use tokio::time::Instant;

use super::KeyId;

/// For each key a time that is no later than the key's own. A time that has moved on is corrected
/// only when it comes first, so that a request which makes it later costs nothing here.
///
/// Each key keeps its entry's time itself (`noted`): to compare with it needs no look-up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Agenda(BTreeSet<(Instant, KeyId)>);

impl Agenda {
    /// Nothing is to be done for the key later than at `when`.
    pub(super) fn note(&mut self, noted: &mut Option<Instant>, key: KeyId, when: Instant) {
        if noted.is_none_or(|noted| when < noted) {
            self.set(noted, key, Some(when));
        }
    }

    /// The next thing is to be done for the key at `when`, or nothing is.
    pub(super) fn set(&mut self, noted: &mut Option<Instant>, key: KeyId, when: Option<Instant>) {
        if *noted == when {
            return;
        }
        if let Some(before) = std::mem::replace(noted, when) {
            self.0.remove(&(before, key));
        }
        self.0.extend(when.map(|when| (when, key)));
    }

    pub(super) fn first(&self) -> Option<(Instant, KeyId)> {
        self.0.first().copied()
    }

    /// The keys whose time has come.
    pub(super) fn due(&self, now: Instant) -> Vec<KeyId> {
        let due = self.0.iter().take_while(|(when, _)| *when <= now);
        due.map(|(_, key)| *key).collect()
    }
}
