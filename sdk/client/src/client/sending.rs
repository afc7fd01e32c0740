//! The limits of a request that is being sent: until its head is written, and while the peer takes
//! nothing of its body.
//!
//! Both waits are inside hyper and h2. A request waits there for a stream
//! (SETTINGS_MAX_CONCURRENT_STREAMS, RFC 9113 §5.1.2), its body for a flow-control window (§5.2) or
//! for the socket. What was written is known from the frames (`conn::frames`), what is ready from
//! the body (`body::replay`).

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::body::{ReplayHandle, Sending};
use crate::config::Timeouts;
use crate::conn::live::Connection;
use crate::error::{Error, ErrorKind, Step};

/// Ends only when a limit has passed (HTTP/2). HTTP/1.1: see [`Connection::until_end`].
pub(super) async fn stalled(
    body: &ReplayHandle,
    connection: &Connection,
    timeouts: &Timeouts,
) -> Error {
    let started = Instant::now();
    let tick = connection.send_limits.tick;
    loop {
        wait(body, connection).await;
        // While it waits for something, it has a timer of its own.
        loop {
            let next = match body.sending_h2(&connection.wire) {
                Sending::Unopened => match timeouts.pool.checked_sub(started.elapsed()) {
                    Some(left) if !left.is_zero() => left,
                    _ => return unopened(connection, timeouts.pool),
                },
                Sending::Blocked(since) => {
                    match timeouts.request_body.checked_sub(since.elapsed()) {
                        Some(left) if !left.is_zero() => left,
                        _ => {
                            let limit = timeouts.request_body;
                            return Error::timeout(Step::RequestBody, limit);
                        }
                    }
                }
                Sending::Other if connection.wire.is_driverless() => tick,
                Sending::Other => break,
            };
            sleep(next.clamp(MIN_WAIT, tick)).await;
        }
    }
}

const MIN_WAIT: Duration = Duration::from_millis(1);

/// Waits for the connection's driver to find that the request is not all written yet. That costs
/// the others no timer.
async fn wait(body: &ReplayHandle, connection: &Connection) {
    let upload = body.upload();
    poll_fn(|cx| match upload.poll_tick(cx) {
        Poll::Pending if connection.wire.is_driverless() => Poll::Ready(()),
        polled => polled,
    })
    .await;
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
