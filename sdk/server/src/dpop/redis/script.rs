//! One insertion: `insert.lua`, its arguments and its answers.

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisResult};

use super::super::Insertion;
use super::PREFIX;

/// The script, as Redis knows it: by its hash once it was loaded.
pub(super) struct Script(redis::Script);

/// What is stored, by its names in Redis.
pub(super) struct Entry {
    /// The proof, under each secret.
    pub(super) proofs: Vec<String>,
    /// How much its owner has stored.
    pub(super) owner: String,
    /// How much is stored in all.
    pub(super) all: String,
    /// In seconds.
    pub(super) time_to_live: u64,
    pub(super) capacity: u64,
}

impl Entry {
    /// One that is gone after a second, by which it is seen whether this user may insert here. Its
    /// names are its own: else the script would end early.
    pub(super) fn trial() -> Self {
        let mut number = [0; 8];
        // Without random bytes the names are those of an earlier trial.
        let _ = aws_lc_rs::rand::fill(&mut number);
        let name = |what| format!("{PREFIX}trial:{}:{what}", u64::from_ne_bytes(number));
        Self {
            proofs: vec![name("jti")],
            owner: name("owner"),
            all: name("all"),
            time_to_live: 1,
            capacity: u64::from(u32::MAX),
        }
    }
}

impl Script {
    pub(super) fn new() -> Self {
        Self(redis::Script::new(include_str!("insert.lua")))
    }

    pub(super) async fn insert(
        &self,
        connection: &mut MultiplexedConnection,
        entry: &Entry,
    ) -> RedisResult<Insertion> {
        let mut call = self.0.key(&entry.all);
        call.key(&entry.owner)
            .key(&entry.proofs)
            .arg(entry.time_to_live)
            .arg(entry.capacity);
        match call.invoke_async::<i64>(connection).await? {
            1 => Ok(Insertion::Fresh),
            0 => Ok(Insertion::Seen),
            -1 => Ok(Insertion::Full),
            _ => Err((
                ErrorKind::UnexpectedReturnType,
                "not an answer of the script",
            )
                .into()),
        }
    }
}
