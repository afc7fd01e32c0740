//! Whether a Redis can hold used proofs: it must not drop entries before their time.

use redis::aio::MultiplexedConnection;

use super::RedisError;
use super::error::is_out_of_memory;
use super::script::{Entry, Script};

/// The only one that drops nothing.
const NO_EVICTION: &str = "noeviction";

/// The others. No other text of Redis's is quoted.
const EVICTING: [&str; 7] = [
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
];

/// What an entry takes of Redis's memory, about, with its share of the counts.
const ENTRY_BYTES: u64 = 200;

/// What is worth a warning, though it can be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Condition {
    /// It keeps no log of what is written (`appendonly no`).
    pub(super) forgets_on_restart: bool,
    /// Its memory ends before the store is full, in bytes.
    pub(super) too_small: Option<u64>,
}

/// Asks Redis what it is configured for, and stores a trial entry.
///
/// # Errors
/// It cannot be used as it is, or not now.
pub(super) async fn check(
    connection: &mut MultiplexedConnection,
    script: &Script,
    capacity: u64,
) -> Result<Condition, RedisError> {
    let memory = info(connection, "memory").await?;
    let persistence = info(connection, "persistence").await?;
    let condition = Condition {
        forgets_on_restart: field(&persistence, "aof_enabled") == Some("0"),
        too_small: memory_limit(&memory)?
            .filter(|limit| *limit < capacity.saturating_mul(ENTRY_BYTES)),
    };
    match script.insert(connection, &Entry::trial()).await {
        Ok(_) => Ok(condition),
        // It is full and works: that ends by itself.
        Err(error) if is_out_of_memory(&error) => Ok(condition),
        Err(error) => Err(RedisError::of_command(&error)),
    }
}

async fn info(connection: &mut MultiplexedConnection, section: &str) -> Result<String, RedisError> {
    let mut command = redis::cmd("INFO");
    let answer = command.arg(section).query_async(connection).await;
    answer.map_err(|error| RedisError::of_command(&error))
}

/// `maxmemory`, if it is set.
fn memory_limit(info: &str) -> Result<Option<u64>, RedisError> {
    let limit = field(info, "maxmemory").and_then(|limit| limit.parse::<u64>().ok());
    let policy = field(info, "maxmemory_policy");
    let (Some(limit), Some(policy)) = (limit, policy) else {
        return Err(RedisError::refused(
            "`INFO memory` does not say what it does without memory (`maxmemory`, \
             `maxmemory_policy`), so used proofs might be dropped; take a Redis that says it",
        ));
    };
    if limit == 0 {
        return Ok(None);
    }
    if policy == NO_EVICTION {
        return Ok(Some(limit));
    }
    let known = EVICTING.iter().find(|known| **known == policy);
    let policy = known.unwrap_or(&"another one");
    Err(RedisError::refused(format!(
        "its `maxmemory-policy` is {policy}: without memory it would drop used proofs, which could \
         then be replayed; run `CONFIG SET maxmemory-policy noeviction`, and set it in redis.conf"
    )))
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = info.lines();
    lines.find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim_end()))
}

#[cfg(test)]
mod tests;
