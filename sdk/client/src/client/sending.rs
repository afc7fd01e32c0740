//! The limits of a request that is being sent: until its head is written, and while the peer takes
//! nothing of its body.
//!
//! Both waits are inside hyper and h2. A request waits there for a stream
//! (SETTINGS_MAX_CONCURRENT_STREAMS, RFC 9113 §5.1.2), its body for a flow-control window (§5.2) or
//! for the socket. What was written is known from the frames (`conn::frames`), what is ready from
//! the body (`body::replay`).

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::body::{ReplayHandle, Sending};
use crate::config::Timeouts;
use crate::conn::facts::HttpVersion;
use crate::conn::live::Connection;
use crate::error::{Error, ErrorKind, Step};

/// Ends only when a limit has passed.
pub(super) async fn stalled(
    body: &ReplayHandle,
    connection: &Connection,
    timeouts: &Timeouts,
) -> Error {
    let started = Instant::now();
    // Looked at from time to time: to be woken by each frame would cost every request.
    let tick = (timeouts.pool.min(timeouts.request_body) / 4).clamp(MIN_TICK, MAX_TICK);
    let mut next = tick;
    loop {
        sleep(next.max(MIN_TICK)).await;
        next = match sending(body, connection) {
            Sending::Unopened if started.elapsed() >= timeouts.pool => {
                return unopened(connection, timeouts.pool);
            }
            Sending::Blocked(since) => {
                let Some(left) = timeouts.request_body.checked_sub(since.elapsed()) else {
                    return Error::timeout(Step::RequestBody, timeouts.request_body);
                };
                tick.min(left)
            }
            Sending::Unopened | Sending::Other => tick,
        };
    }
}

const MIN_TICK: Duration = Duration::from_millis(1);
const MAX_TICK: Duration = Duration::from_secs(15);

fn sending(body: &ReplayHandle, connection: &Connection) -> Sending {
    match connection.facts.http() {
        HttpVersion::H2 => body.sending_h2(&connection.wire),
        HttpVersion::H1 => match connection.wire.blocked_since() {
            Some(since) => Sending::Blocked(since),
            None => Sending::Other,
        },
    }
}

/// hyper still holds the request, and would write it after all: it is not processed only if its
/// connection can be given up with it.
fn unopened(connection: &Connection, limit: Duration) -> Error {
    let is_streamless = connection.streams() == 0;
    if connection.abandon() {
        return if is_streamless {
            Error::no_streams(limit)
        } else {
            Error::timeout(Step::Pool, limit)
        };
    }
    let message = format!(
        "the request was not written within {limit:?}, and may be yet: its connection serves others"
    );
    Error::new(ErrorKind::Timeout(Step::Response), message)
}
