//! Eight-byte digests by which messages and parts are compared.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};

use a2a::{Message, Part, TaskStatus};
use serde::Serialize;
use serde_json::Value;

/// Keyed with a random key, so that an agent cannot construct collisions.
#[derive(Debug, Default)]
pub(super) struct Digests(RandomState);

impl Digests {
    /// Digest of a message: of its id, or of its contents if it has none.
    pub(super) fn message(&self, message: &Message) -> u64 {
        if message.message_id.is_empty() {
            self.content(message)
        } else {
            self.0.hash_one(&message.message_id)
        }
    }

    /// Digest of a status with a timestamp. Without one, statuses cannot be told apart.
    pub(super) fn status(&self, status: &TaskStatus) -> Option<u64> {
        let at = status.timestamp?;
        let message = status.message.as_ref().map(|message| self.message(message));
        Some(self.0.hash_one((self.content(&status.state), at, message)))
    }

    pub(super) fn parts(&self, parts: &[Part]) -> Vec<u64> {
        parts.iter().map(|part| self.content(part)).collect()
    }

    /// The base of [`Search`](super::search::Search)'s hashes, as random as the key.
    pub(super) fn search_base(&self) -> u64 {
        self.0.hash_one("the base of a search")
    }

    fn content(&self, value: &impl Serialize) -> u64 {
        let mut hasher = self.0.build_hasher();
        hash(
            &serde_json::to_value(value).unwrap_or_default(),
            &mut hasher,
        );
        hasher.finish()
    }
}

/// Hashes JSON independently of the order of an object's members.
fn hash(value: &Value, into: &mut impl Hasher) {
    match value {
        Value::Null => 0u8.hash(into),
        Value::Bool(b) => (1u8, b).hash(into),
        Value::Number(n) => (2u8, n).hash(into),
        Value::String(s) => (3u8, s).hash(into),
        Value::Array(items) => {
            (4u8, items.len()).hash(into);
            items.iter().for_each(|item| hash(item, into));
        }
        Value::Object(members) => {
            (5u8, members.len()).hash(into);
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            for (name, member) in members {
                name.hash(into);
                hash(member, into);
            }
        }
    }
}
