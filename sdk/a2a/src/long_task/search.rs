//! Finds a sequence that grows item by item in one that is fixed. Its whole cost is linear in the
//! two lengths, whatever an agent sends: the position in the fixed sequence never goes back
//! (Knuth, Morris and Pratt).

/// The prime 2^61 - 1, the modulus of [`Search`]'s hashes.
const MODULUS: u64 = (1 << 61) - 1;

/// The search for the items that have come so far.
///
/// Every call needs the same fixed sequence: it is `all`, and not kept here.
#[derive(Debug)]
pub(super) struct Search {
    /// Where the items that have come begin: at the first possible place.
    start: usize,
    /// How many have come.
    len: usize,
    /// Whether they can begin at `start` only.
    is_anchored: bool,
    /// For each number of first items, how many of them are also the last of those.
    borders: Vec<usize>,
    ends: Ends,
    #[cfg(test)]
    pub(super) steps: usize,
}

/// Hashes of the items that have come, and of as many items at the end of the fixed sequence.
/// Polynomials, so that each item costs the same at either end of them.
#[derive(Debug)]
struct Ends {
    base: u64,
    /// `base` to the power of the number of items.
    power: u64,
    come: u64,
    last: u64,
}

impl Search {
    /// For items that may begin anywhere from `from` on. `base` is random: with it an agent cannot
    /// make the search slower.
    pub(super) fn from(from: usize, base: u64) -> Self {
        Self {
            start: from,
            len: 0,
            is_anchored: false,
            borders: Vec::new(),
            ends: Ends {
                base: base % MODULUS,
                power: 1,
                come: 0,
                last: 0,
            },
            #[cfg(test)]
            steps: 0,
        }
    }

    /// For items that begin with the first.
    pub(super) fn at_start() -> Self {
        Self {
            is_anchored: true,
            ..Self::from(0, 0)
        }
    }

    /// Takes in the next items. Whether all that have come are still found; if not, the search is
    /// over.
    pub(super) fn find(&mut self, items: &[u64], all: &[u64]) -> bool {
        items.iter().all(|item| self.find_one(*item, all))
    }

    /// Whether the items that have come may be the last.
    pub(super) fn is_at_end(&mut self, all: &[u64]) -> bool {
        if self.is_anchored {
            return self.start + self.len == all.len();
        }
        if self.len == 0 || self.ends.come != self.ends.last {
            return false;
        }
        #[cfg(test)]
        {
            self.steps += self.len;
        }
        // Once only, unless two hashes are equal by chance.
        all.ends_with(&all[self.start..][..self.len])
    }

    fn find_one(&mut self, item: u64, all: &[u64]) -> bool {
        if self.is_anchored {
            let found = all.get(self.start + self.len) == Some(&item);
            self.len += usize::from(found);
            return found;
        }
        // The items are read where they were found.
        let come = &all[self.start..][..self.len];
        self.push_border(item, come);
        let (mut at, mut matching) = (self.start + self.len, self.len);
        while let Some(here) = all.get(at) {
            self.count_step();
            if here == come.get(matching).unwrap_or(&item) {
                at += 1;
                matching += 1;
                if matching > come.len() {
                    self.start = at - matching;
                    self.len = matching;
                    self.ends.add(item, all[all.len() - matching]);
                    return true;
                }
            } else if matching > 0 {
                matching = self.borders[matching - 1];
            } else {
                at += 1;
            }
        }
        false
    }

    fn push_border(&mut self, item: u64, come: &[u64]) {
        let Some(mut border) = self.borders.last().copied() else {
            self.borders.push(0);
            return;
        };
        while border > 0 && come[border] != item {
            self.count_step();
            border = self.borders[border - 1];
        }
        self.borders
            .push(border + usize::from(come[border] == item));
    }

    fn count_step(&mut self) {
        #[cfg(test)]
        {
            self.steps += 1;
        }
    }
}

impl Ends {
    /// One more item has come, and one more at the end is compared: the one before those.
    fn add(&mut self, item: u64, before_last: u64) {
        self.come = sum(product(self.come, self.base), item % MODULUS);
        self.last = sum(product(before_last % MODULUS, self.power), self.last);
        self.power = product(self.power, self.base);
    }
}

/// Both are less than the modulus.
fn sum(a: u64, b: u64) -> u64 {
    (a + b) % MODULUS
}

fn product(a: u64, b: u64) -> u64 {
    // The remainder is less than the modulus.
    (u128::from(a) * u128::from(b) % u128::from(MODULUS)) as u64
}

#[cfg(test)]
mod tests;
