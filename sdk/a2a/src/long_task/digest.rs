//! What tells one message or part from another, in eight bytes.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};

use a2a::{Message, Part, TaskStatus};
use serde::Serialize;
use serde_json::Value;

/// Keyed, so that no agent can choose contents that pass for others.
#[derive(Debug, Default)]
pub(super) struct Digests(RandomState);

impl Digests {
    /// Of a message, by its id; of one without an id, by all of it.
    pub(super) fn message(&self, message: &Message) -> u64 {
        if message.message_id.is_empty() {
            self.content(message)
        } else {
            self.0.hash_one(&message.message_id)
        }
    }

    /// Of a status that has a time; nothing else tells one from another.
    pub(super) fn status(&self, status: &TaskStatus) -> Option<u64> {
        let at = status.timestamp?;
        let message = status.message.as_ref().map(|message| self.message(message));
        Some(self.0.hash_one((self.content(&status.state), at, message)))
    }

    pub(super) fn parts(&self, parts: &[Part]) -> Vec<u64> {
        parts.iter().map(|part| self.content(part)).collect()
    }

    fn content(&self, of: &impl Serialize) -> u64 {
        let mut hasher = self.0.build_hasher();
        hash(&serde_json::to_value(of).unwrap_or_default(), &mut hasher);
        hasher.finish()
    }
}

/// The same for the same JSON, in whatever order an object has its members.
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
