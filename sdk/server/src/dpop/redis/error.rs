//! What is wrong with a Redis. Nothing that it says itself is quoted: it could repeat the password,
//! or be anybody.

use std::error::Error as StdError;
use std::fmt;

use redis::{ErrorKind, ServerErrorKind};

/// Redis cannot be used for used proofs. The message names the server, not its password.
#[derive(Debug)]
pub struct RedisError {
    kind: RedisErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RedisErrorKind {
    /// The caller's: a URL, a certificate, an option.
    Configuration,
    /// Redis was reached and cannot be used as it is configured: its password, its certificate, its
    /// access control list, its `maxmemory-policy`. Trying again does not help.
    Refused,
    /// Redis cannot be reached, or not be used now. Trying again may help.
    Unreachable,
}

impl RedisError {
    /// Whose fault it is.
    #[must_use]
    pub fn kind(&self) -> RedisErrorKind {
        self.kind
    }

    pub(super) fn configuration(message: impl Into<String>) -> Self {
        Self::new(RedisErrorKind::Configuration, message)
    }

    pub(super) fn refused(message: impl Into<String>) -> Self {
        Self::new(RedisErrorKind::Refused, message)
    }

    pub(super) fn unreachable(message: impl Into<String>) -> Self {
        Self::new(RedisErrorKind::Unreachable, message)
    }

    fn new(kind: RedisErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    pub(super) fn with_source(
        mut self,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Names the server in front of the message.
    pub(super) fn of_server(mut self, server: impl fmt::Display) -> Self {
        self.message = format!("{server}: {}", self.message);
        self
    }

    /// The same, as the answer to a password.
    pub(super) fn of_log_in(error: &redis::RedisError) -> Self {
        let detail = error.detail().unwrap_or_default();
        if error.code() == Some("ERR") && detail.contains("without any password configured") {
            return Self::refused("Redis has no password set, and was given one: leave it away");
        }
        Self::of_command(error)
    }

    /// What an error of the client library, or one that Redis has answered, means here.
    pub(super) fn of_command(error: &redis::RedisError) -> Self {
        if is_denied(error) {
            return Self::refused(
                "this user of Redis may not do what is needed: give it `+info +evalsha \
                 +script|load +exists +time +set +hgetall +hincrby +hkeys +hdel +expire \
                 ~bowline:*`",
            );
        }
        match error.code() {
            Some("WRONGPASS") => {
                return Self::refused("Redis refuses this password, or this user (WRONGPASS)");
            }
            Some("NOAUTH") => return Self::refused("Redis wants a password (NOAUTH)"),
            Some("CROSSSLOT" | "MOVED" | "ASK" | "CLUSTERDOWN") => {
                return Self::refused(
                    "this is a node of a Redis Cluster, which spreads keys over nodes; take a \
                     Redis with one primary",
                );
            }
            Some("READONLY") => {
                return Self::unreachable(
                    "this Redis is a replica now (READONLY): the address must lead to the primary",
                );
            }
            Some("LOADING") => return Self::unreachable("Redis still loads its data (LOADING)"),
            Some("MISCONF") => {
                return Self::unreachable(
                    "Redis cannot write to its disk and refuses to store anything (MISCONF)",
                );
            }
            Some("NOREPLICAS") => {
                return Self::unreachable(
                    "Redis has too few replicas and refuses to store anything (NOREPLICAS, \
                     `min-replicas-to-write`)",
                );
            }
            _ => {}
        }
        match error.kind() {
            ErrorKind::Io => Self::unreachable("the connection to Redis broke"),
            ErrorKind::Server(ServerErrorKind::ResponseError) => {
                Self::unreachable("Redis has answered with an error (ERR)")
            }
            kind => Self::unreachable(format!("Redis has answered with an error ({kind:?})")),
        }
    }
}

/// Whether the access control list forbids it. Of a command within a script Redis 7 says that as an
/// error without a code of its own, and Redis 8 in other words.
fn is_denied(error: &redis::RedisError) -> bool {
    let says = |text| {
        let detail = error.detail();
        detail.is_some_and(|detail| detail.contains(text))
    };
    error.code() == Some("NOPERM")
        || says("The user executing the script can't")
        || says("ACL failure in script")
}

/// Whether nothing can be stored because Redis has no memory left. Before Redis 7 the code of an error within a script stands in
/// its text.
pub(super) fn is_out_of_memory(error: &redis::RedisError) -> bool {
    error.code() == Some("OOM")
        || error
            .detail()
            .is_some_and(|detail| detail.contains("-OOM "))
}

impl fmt::Display for RedisError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for RedisError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
