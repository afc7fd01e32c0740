//! The connection to Redis, which a task keeps open.
//!
//! The client library's own `ConnectionManager` does less than is needed here: requests would wait for its
//! attempts to connect, it gives up for good after an error that is not of the network, such as a
//! wrong password, and it has no place for the check of what a new connection leads to.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::super::Insertion;
use super::condition::{self, Condition};
use super::script::{Entry, Script};
use super::server::{Open, Target};
use super::{RedisError, RedisErrorKind};

/// Between two attempts to connect: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How often an open connection is checked, so that one that is dead, or a Redis that is configured
/// otherwise, is not found by a request first.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// The connection, as long as there is one.
pub(super) struct Link {
    shared: Arc<Shared>,
    /// Ends the task when the last store is dropped.
    _keeper: JoinSet<()>,
}

struct Shared {
    target: ArcSwap<Target>,
    script: Arc<Script>,
    connect_timeout: Duration,
    capacity: u64,
    live: ArcSwapOption<Live>,
}

/// An open connection to a Redis that can be used.
pub(super) struct Live {
    connection: MultiplexedConnection,
    script: Arc<Script>,
    given_up: Notify,
    reason: Mutex<Option<RedisError>>,
}

impl Live {
    pub(super) async fn insert(&self, entry: &Entry) -> RedisResult<Insertion> {
        self.script
            .insert(&mut self.connection.clone(), entry)
            .await
    }

    /// It is not to be used any more: another one is opened.
    pub(super) fn give_up(&self, reason: RedisError) {
        // The first reason counts.
        self.reason().get_or_insert(reason);
        self.given_up.notify_one();
    }

    fn reason(&self) -> MutexGuard<'_, Option<RedisError>> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    /// Tries once, and then goes on in a task.
    ///
    /// # Errors
    /// Redis was reached and cannot be used.
    pub(super) async fn start(
        target: Target,
        connect_timeout: Duration,
        capacity: u64,
    ) -> Result<Self, RedisError> {
        let shared = Arc::new(Shared {
            target: ArcSwap::from_pointee(target),
            script: Arc::new(Script::new()),
            connect_timeout,
            capacity,
            live: ArcSwapOption::empty(),
        });
        let first = match shared.open().await {
            Ok(opened) => Some(shared.publish(opened)),
            Err(error) if error.kind() == RedisErrorKind::Unreachable => {
                note_reachable(false);
                shared.log_trouble(&error);
                None
            }
            Err(error) => return Err(error.of_server(shared.target.load())),
        };
        let mut keeper = JoinSet::new();
        keeper.spawn(shared.clone().keep(first));
        Ok(Self {
            shared,
            _keeper: keeper,
        })
    }

    pub(super) fn use_target(&self, target: Target) {
        self.shared.target.store(Arc::new(target));
    }

    pub(super) fn live(&self) -> Option<Arc<Live>> {
        self.shared.live.load_full()
    }
}

type Kept = (Arc<Live>, JoinSet<()>);

impl Shared {
    async fn keep(self: Arc<Self>, mut kept: Option<Kept>) {
        loop {
            let (live, driver) = match kept.take() {
                Some(kept) => kept,
                None => self.reopened().await,
            };
            let end = self.end_of(&live, driver).await;
            self.live.store(None);
            note_reachable(false);
            self.log_trouble(&end);
        }
    }

    /// Tries until a connection is open.
    async fn reopened(&self) -> Kept {
        let (mut pause, mut told) = (FIRST_PAUSE, String::new());
        loop {
            match self.open().await {
                Ok(opened) => return self.publish(opened),
                Err(error) => {
                    // Once for each reason, not for each attempt.
                    let text = error.to_string();
                    if error.kind() != RedisErrorKind::Unreachable && text != told {
                        self.log_trouble(&error);
                        told = text;
                    }
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn open(&self) -> Result<(Open, Condition), RedisError> {
        let limit = self.connect_timeout;
        let opened = async {
            let target = self.target.load_full();
            let mut open = target.open().await?;
            let condition = self.check(&mut open.connection).await?;
            Ok((open, condition))
        };
        timeout(limit, opened).await.unwrap_or_else(|_| {
            Err(RedisError::unreachable(format!(
                "no connection within {limit:?}"
            )))
        })
    }

    async fn check(&self, connection: &mut MultiplexedConnection) -> Result<Condition, RedisError> {
        condition::check(connection, &self.script, self.capacity).await
    }

    fn publish(&self, (open, condition): (Open, Condition)) -> Kept {
        let live = Arc::new(Live {
            connection: open.connection,
            script: self.script.clone(),
            given_up: Notify::new(),
            reason: Mutex::default(),
        });
        self.live.store(Some(live.clone()));
        note_reachable(true);
        self.log_connected(condition);
        (live, open.driver)
    }

    /// Waits until the connection is of no use any more, and says why. Whoever waits on it then gets
    /// an error, because the driver ends.
    async fn end_of(&self, live: &Live, mut driver: JoinSet<()>) -> RedisError {
        loop {
            tokio::select! {
                _ = driver.join_next() => {
                    return RedisError::unreachable("Redis has closed the connection");
                }
                () = live.given_up.notified() => {
                    let reason = live.reason().take();
                    return reason.unwrap_or_else(|| RedisError::unreachable("it was given up"));
                }
                () = sleep(CHECK_INTERVAL) => {
                    let mut connection = live.connection.clone();
                    let limit = self.connect_timeout;
                    let checked = timeout(limit, self.check(&mut connection)).await;
                    match checked {
                        Ok(Ok(_)) => {}
                        Ok(Err(error)) => return error,
                        Err(_) => {
                            let text = format!("it did not answer within {limit:?}");
                            return RedisError::unreachable(text);
                        }
                    }
                }
            }
        }
    }

    fn log_connected(&self, condition: Condition) {
        let target = self.target.load();
        tracing::info!("{target}: connected; used proofs are stored there");
        if condition.forgets_on_restart {
            tracing::warn!(
                "{target}: this Redis keeps no log of its data (`appendonly no`): when it restarts, \
                 proofs of the last minutes can be replayed; set `appendonly yes`"
            );
        }
        if let Some(limit) = condition.too_small {
            tracing::warn!(
                "{target}: its `maxmemory` of {limit} bytes ends before {} used proofs are stored: \
                 give it more, or lower the capacity",
                self.capacity
            );
        }
    }

    fn log_trouble(&self, error: &RedisError) {
        let cause = std::error::Error::source(error);
        tracing::error!(
            cause,
            "{}: {error}. Requests with DPoP, and those of trusted proxies with a `jti`, are \
             answered 503 until that has changed",
            self.target.load()
        );
    }
}

fn note_reachable(_is_reachable: bool) {
    #[cfg(feature = "metrics")]
    crate::metrics::note_replay_store(_is_reachable);
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.target.load().fmt(f)
    }
}
