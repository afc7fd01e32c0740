//! A bounded number of entries, of which no owner may take the last part alone.

use std::collections::HashMap;

use crate::ProofOwner;

/// Counts entries, in all and by owner.
///
/// While less than 80 % of the capacity is taken no owner is limited: a fleet that shares one
/// identity may need most of it. Above that, an owner that holds 1 % of the capacity already is
/// refused, so that one client cannot keep the others out.
pub(crate) struct Shares {
    capacity: usize,
    held: usize,
    by_owner: HashMap<ProofOwner, usize>,
}

impl Shares {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            held: 0,
            by_owner: HashMap::new(),
        }
    }

    /// Counts one more entry of this owner, if there is room for it.
    #[must_use]
    pub(crate) fn take(&mut self, owner: ProofOwner) -> bool {
        let owned = self.by_owner.get(&owner).copied().unwrap_or_default();
        let is_crowded = self.held >= self.capacity - self.capacity / 5;
        if self.held >= self.capacity || is_crowded && owned >= (self.capacity / 100).max(1) {
            return false;
        }
        self.held += 1;
        self.by_owner.insert(owner, owned + 1);
        true
    }

    /// An entry of this owner is gone.
    pub(crate) fn give_back(&mut self, owner: ProofOwner) {
        if let Some(owned) = self.by_owner.get_mut(&owner) {
            self.held -= 1;
            *owned -= 1;
            if *owned == 0 {
                self.by_owner.remove(&owner);
            }
        }
    }
}

#[cfg(test)]
mod tests;
