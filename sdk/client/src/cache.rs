//! A bounded map with random replacement.
//!
//! The least recently used entry would be the wrong one to drop where more keys than the bound come
//! in turn: each would be gone whenever it comes again. With random replacement a bound of `n` and
//! `n + 1` keys in turn miss about two in `n` look-ups.

use std::collections::HashMap;
use std::hash::Hash;

use lru::DefaultHasher;

/// At most `bound` entries; a new one beyond it replaces another that is chosen at random.
pub(crate) struct Cache<K, V> {
    bound: usize,
    entries: Vec<(K, V)>,
    /// Where each key's entry is. This hasher has a random key, as the standard library's, and
    /// takes a fraction of its time.
    places: HashMap<K, usize, DefaultHasher>,
    /// The place of the entry that was used last. Most look-ups ask for it again, and are spared
    /// the hash.
    last: usize,
}

impl<K: Clone + Eq + Hash, V> Cache<K, V> {
    /// Reserves nothing. A bound of 0 counts as 1.
    pub(crate) fn new(bound: usize) -> Self {
        Self {
            bound: bound.max(1),
            entries: Vec::new(),
            places: HashMap::default(),
            last: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        let place = *self.places.get(key)?;
        self.entries.get(place).map(|(_, value)| value)
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.last = self.find(key)?;
        self.last_mut()
    }

    /// The value of the entry that was used last.
    pub(crate) fn last(&self) -> Option<&V> {
        self.entries.get(self.last).map(|(_, value)| value)
    }

    fn last_mut(&mut self) -> Option<&mut V> {
        self.entries.get_mut(self.last).map(|(_, value)| value)
    }

    /// The key's value; a new key has that of `make`, and may replace an entry, which is returned.
    pub(crate) fn get_or_insert_with(
        &mut self,
        key: &K,
        make: impl FnOnce() -> V,
    ) -> (&mut V, Option<(K, V)>) {
        let mut replaced = None;
        self.last = match self.find(key) {
            Some(place) => place,
            None => {
                replaced = self.push(key, make());
                self.len() - 1
            }
        };
        (&mut self.entries[self.last].1, replaced)
    }

    /// Sets the key's value; returns the one that goes for it, its own or another entry's.
    pub(crate) fn insert(&mut self, key: &K, value: V) -> Option<V> {
        match self.find(key) {
            Some(place) => Some(std::mem::replace(&mut self.entries[place].1, value)),
            None => self.push(key, value).map(|(_, value)| value),
        }
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let place = self.find(key)?;
        Some(self.remove_at(place).1)
    }

    /// An entry chosen at random, for a caller that decides by its value whether it may go.
    pub(crate) fn random(&self) -> Option<(&K, &V)> {
        let (key, value) = self.entries.get(self.random_place()?)?;
        Some((key, value))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().map(|(key, value)| (key, value))
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.places.clear();
    }

    fn find(&self, key: &K) -> Option<usize> {
        match self.entries.get(self.last) {
            Some((last, _)) if last == key => Some(self.last),
            _ => self.places.get(key).copied(),
        }
    }

    /// Adds an entry at the end; the key has none.
    fn push(&mut self, key: &K, value: V) -> Option<(K, V)> {
        let replaced = match self.random_place() {
            Some(place) if self.len() >= self.bound => Some(self.remove_at(place)),
            _ => None,
        };
        self.places.insert(key.clone(), self.len());
        self.entries.push((key.clone(), value));
        replaced
    }

    fn random_place(&self) -> Option<usize> {
        (!self.entries.is_empty()).then(|| fastrand::usize(..self.len()))
    }

    fn remove_at(&mut self, place: usize) -> (K, V) {
        let removed = self.entries.swap_remove(place);
        self.places.remove(&removed.0);
        if let Some((moved, _)) = self.entries.get(place) {
            self.places.insert(moved.clone(), place);
        }
        removed
    }
}

#[cfg(test)]
mod tests;
