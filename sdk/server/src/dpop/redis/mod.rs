//! A replay store in Redis, which the nodes of one service share.
//!
//! | file | what it knows |
//! |---|---|
//! | here | keys, times to live, what a failure means for a request |
//! | `insert.lua`, `script.rs` | one insertion, in one step |
//! | `server.rs` | where Redis is, and how a connection to it is opened |
//! | `condition.rs` | whether that Redis can hold used proofs: its `maxmemory-policy` |
//! | `link.rs` | the one connection, kept open in the background |
//! | `error.rs` | what is said of errors, and that nothing of Redis's own text is |

mod condition;
mod error;
mod link;
mod script;
mod server;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bowline_proof::Windows;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rustls_pki_types::UnixTime;
use tokio::time::timeout;

pub use self::error::{RedisError, RedisErrorKind};
use self::link::Link;
use self::script::Entry;
pub use self::server::RedisServer;
use super::{Insertion, NodeSecrets, ProofId, ProofOwner, ReplayStore, UsedProof};

/// Stores used proofs in a Redis that the nodes of one service share, up to a capacity.
///
/// An entry is kept for the whole of the [windows](RedisReplayStoreBuilder::windows) and the
/// [greatest difference of clocks](RedisReplayStoreBuilder::max_skew): 420 s by default, whatever
/// the clock of the node says. It takes about 200 bytes of Redis's memory. As in the
/// [`MemoryReplayStore`](crate::MemoryReplayStore), when the store is full requests are refused, and
/// once it is 80 % full those of an owner (issuer, subject and client of the token) that holds 1 %
/// of it. An owner's entries count up to a seventh longer than they are kept.
///
/// Redis learns of a proof, and of its owner, nothing but a hash under a secret
/// ([`NodeSecrets`]).
///
/// One connection is kept open in the background, and opened anew when it breaks. While Redis cannot
/// be reached, does not answer in time, or cannot be used, [`insert`](ReplayStore::insert) returns
/// [`Insertion::Unavailable`] at once, and the requests that need the store are answered 503; with no
/// memory left in Redis, [`Insertion::Full`]. A proof whose insertion timed out may have been stored:
/// sent again it is then a replay.
///
/// What Redis forgets can be replayed: after a restart without persistence, everything; after a
/// failover, what the new primary had not received. The layer refuses a proof when its window is
/// over, so a replay passes within that time at most.
///
/// Clones share the connection.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use bowline_server::{Dpop, DpopNonces, NodeSecrets, RedisReplayStore, RedisServer};
///
/// let secrets = NodeSecrets::from_file("nodes.secret")?;
/// let password = std::fs::read_to_string("redis.password")?;
/// let redis = RedisServer::new("rediss://node@redis.example.com")?.password(password.trim());
/// let nonces = DpopNonces::shared(&secrets, std::time::Duration::from_secs(150));
/// let store = RedisReplayStore::builder(redis, secrets).start().await?;
/// let dpop = Dpop::new(store).nonces(nonces);
/// # drop(dpop); Ok(()) }
/// ```
#[derive(Clone)]
pub struct RedisReplayStore {
    link: Arc<Link>,
    secrets: Arc<[hmac::Key]>,
    settings: Settings,
    /// Redis had no memory left when it was last asked. Only the change is logged.
    is_full: Arc<AtomicBool>,
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    windows: Windows,
    max_skew: Duration,
    capacity: u64,
    connect_timeout: Duration,
    command_timeout: Duration,
}

/// The settings of a [`RedisReplayStore`] that is not yet connected.
#[derive(Clone, Debug)]
pub struct RedisReplayStoreBuilder {
    server: RedisServer,
    secrets: NodeSecrets,
    settings: Settings,
}

/// Redis's own keys start so, which is what an access control list can say (`~bowline:*`).
const PREFIX: &str = "bowline:";

/// Domain separation: the secret also makes nonces.
const PROOF: &[u8] = b"bowline used proof";
const OWNER: &[u8] = b"bowline owner of used proofs";

/// 128 bits of a keyed hash: who does not know the key can make no two proofs meet.
const NAME_BYTES: usize = 16;

impl RedisReplayStore {
    /// A store in this Redis. All nodes must have the same secrets, or they do not find one
    /// another's entries.
    #[must_use]
    pub fn builder(server: RedisServer, secrets: NodeSecrets) -> RedisReplayStoreBuilder {
        RedisReplayStoreBuilder {
            server,
            secrets,
            settings: Settings {
                windows: Windows::default(),
                max_skew: Duration::from_secs(60),
                capacity: 1_000_000,
                connect_timeout: Duration::from_secs(2),
                command_timeout: Duration::from_millis(500),
            },
        }
    }

    /// The same store with these secrets, while the former value goes on with its own. To replace a
    /// secret see [`NodeSecrets`]: an entry is looked for, and stored, under each of them.
    #[must_use]
    pub fn with_secrets(&self, secrets: &NodeSecrets) -> Self {
        Self {
            secrets: secrets.keys().into(),
            ..self.clone()
        }
    }

    /// Logs in with what this server says when the connection is opened next: after a password or a
    /// certificate was replaced. Used proofs stay where they are, so it should be the same Redis.
    ///
    /// # Errors
    /// [`RedisErrorKind::Configuration`]: the TLS configuration cannot be made.
    pub fn use_server(&self, server: &RedisServer) -> Result<(), RedisError> {
        self.link.use_target(server.target()?);
        Ok(())
    }

    /// Whether Redis can be used now, as far as is known without asking it. It is asked when the
    /// connection is opened, with each insertion, and every ten seconds.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        self.link.live().is_some()
    }

    /// For how many seconds to keep an entry. The layer's own limit counts only where its windows
    /// are larger than those of this store, which is a mistake, but must be no replay.
    fn time_to_live(&self, until: UnixTime, now: UnixTime) -> u64 {
        let Settings {
            windows, max_skew, ..
        } = self.settings;
        let window = windows.past.saturating_add(windows.future);
        let rest = until.as_secs().saturating_sub(now.as_secs());
        let longest = window.max(Duration::from_secs(rest));
        longest.saturating_add(max_skew).as_secs().max(1)
    }

    /// One name for each secret.
    fn proof_names(&self, id: &ProofId) -> Vec<String> {
        let name = |secret| name("jti:", secret, PROOF, id.as_bytes());
        self.secrets.iter().map(name).collect()
    }

    /// By the first secret alone: while it is replaced, an owner may have twice as much.
    fn owner_name(&self, owner: &ProofOwner) -> String {
        name("owner:", &self.secrets[0], OWNER, owner.as_bytes())
    }

    async fn store(&self, proof: UsedProof, now: UnixTime) -> Insertion {
        let Some(live) = self.link.live() else {
            return Insertion::Unavailable;
        };
        let entry = Entry {
            proofs: self.proof_names(&proof.id),
            owner: self.owner_name(&proof.owner),
            all: format!("{PREFIX}all"),
            time_to_live: self.time_to_live(proof.until, now),
            capacity: self.settings.capacity,
        };
        let limit = self.settings.command_timeout;
        match timeout(limit, live.insert(&entry)).await {
            Ok(Ok(insertion)) => {
                self.note_memory(true);
                insertion
            }
            Ok(Err(error)) if error::is_out_of_memory(&error) => {
                self.note_memory(false);
                Insertion::Full
            }
            Ok(Err(error)) => {
                live.give_up(RedisError::of_command(&error));
                Insertion::Unavailable
            }
            Err(_) => {
                live.give_up(RedisError::unreachable(format!(
                    "it did not answer within {limit:?}"
                )));
                Insertion::Unavailable
            }
        }
    }

    fn note_memory(&self, is_left: bool) {
        if self.is_full.load(Ordering::Relaxed) == is_left {
            self.is_full.store(!is_left, Ordering::Relaxed);
            if is_left {
                tracing::info!("{}: Redis has memory for used proofs again", self.link);
            } else {
                tracing::error!(
                    "{}: Redis has no memory left for used proofs (`maxmemory`): requests that need \
                     it are answered 503 until entries expire; give it more",
                    self.link
                );
            }
        }
    }
}

impl RedisReplayStoreBuilder {
    /// How old a proof may be, and how far in the future: what
    /// [`BindingLayer::windows`](crate::BindingLayer::windows) says. Default: the default of that.
    #[must_use]
    pub fn windows(mut self, windows: Windows) -> Self {
        self.settings.windows = windows;
        self
    }

    /// By how much the clocks of two nodes may differ, in whole seconds: for so long a proof is kept
    /// beyond its window. Default: 60 s.
    #[must_use]
    pub fn max_skew(mut self, skew: Duration) -> Self {
        self.settings.max_skew = skew;
        self
    }

    /// How many entries all nodes together may store. Default: a million, which suffices for 2,300
    /// requests a second with the default windows, and takes about 200 MB of Redis's memory.
    #[must_use]
    pub fn capacity(mut self, entries: u64) -> Self {
        self.settings.capacity = entries;
        self
    }

    /// For opening a connection: name, socket, TLS, log-in, and the check of what Redis is
    /// configured for. Default: 2 s.
    #[must_use]
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.settings.connect_timeout = limit;
        self
    }

    /// For one insertion. Afterwards the connection is opened anew. Default: 500 ms.
    #[must_use]
    pub fn command_timeout(mut self, limit: Duration) -> Self {
        self.settings.command_timeout = limit;
        self
    }

    /// Opens the connection, and keeps it open in a task of this runtime for as long as the store, or
    /// a clone of it, lives. If Redis cannot be reached the store starts all the same, and
    /// tries on: then nothing passes that needs it, and everything else does.
    ///
    /// # Errors
    /// [`RedisErrorKind::Configuration`]: the TLS configuration cannot be made.
    /// [`RedisErrorKind::Refused`]: Redis was reached and cannot be used, because of its password,
    /// its certificate, its access control list, or a `maxmemory-policy` that would drop entries.
    pub async fn start(self) -> Result<RedisReplayStore, RedisError> {
        let Settings {
            connect_timeout,
            capacity,
            ..
        } = self.settings;
        let link = Link::start(self.server.target()?, connect_timeout, capacity).await?;
        Ok(RedisReplayStore {
            link: Arc::new(link),
            secrets: self.secrets.keys().into(),
            settings: self.settings,
            is_full: Arc::default(),
        })
    }
}

impl ReplayStore for RedisReplayStore {
    fn insert(&self, proof: UsedProof, now: UnixTime) -> BoxFuture<'_, Insertion> {
        self.store(proof, now).boxed()
    }
}

/// What Redis sees instead of a hash that somebody else could compute too.
fn name(kind: &str, secret: &hmac::Key, purpose: &[u8], hash: &[u8; 32]) -> String {
    let mut context = hmac::Context::with_key(secret);
    context.update(purpose);
    context.update(hash);
    let tag = context.sign();
    let tag = URL_SAFE_NO_PAD.encode(&tag.as_ref()[..NAME_BYTES]);
    format!("{PREFIX}{kind}{tag}")
}

/// Shows no secret.
impl fmt::Debug for RedisReplayStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisReplayStore")
            .field("server", &format_args!("{}", self.link))
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
