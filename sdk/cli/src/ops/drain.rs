//! The end: signals, and what happens to requests in flight.

use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use super::Service;
use crate::failure::Failure;

/// The signals that end the process.
pub(super) struct Ending {
    terminate: Signal,
    interrupt: Signal,
}

impl Ending {
    pub(super) fn listen() -> Result<Self, Failure> {
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// Completes when the process shall end; with the signal's name.
    pub(super) async fn signal(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// The signal that asks for a reload.
pub(super) fn hangup() -> Result<Signal, Failure> {
    listen(SignalKind::hangup())
}

fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::failed(format!("signals cannot be received: {error}")))
}

/// Lets requests in flight finish, for as long as `--drain-timeout` and until the second signal.
pub(super) async fn drain<S: Service>(
    service: S,
    ending: &mut Ending,
    signal: &str,
) -> Result<ExitCode, Failure> {
    let limit = service.drain_timeout();
    let in_flight = service.in_flight().clone();
    let (begun, cut_before) = (Instant::now(), in_flight.cut());
    tracing::info!(
        in_flight = in_flight.now(),
        "{signal}: draining, for at most {limit:?}; a second signal ends it at once"
    );
    service.stop();
    tokio::select! {
        biased;
        () = service.finished() => {}
        second = ending.signal() => {
            return Err(Failure::failed(format!(
                "ended at once by a second signal ({second}), with {} requests in flight",
                in_flight.now()
            )));
        }
    }
    // Those that have not been answered. The task of a request may outlive its connection for a
    // moment, so they are not counted one by one. And clients may give up during a drain as at any
    // other time: that is not the drain's doing.
    let cut = in_flight.begun() - in_flight.answered() - cut_before;
    if cut > 0 && begun.elapsed() >= limit {
        return Err(Failure::failed(format!(
            "{cut} requests were still in flight after --drain-timeout ({limit:?}) and were cut off"
        )));
    }
    tracing::info!("drained");
    Ok(ExitCode::SUCCESS)
}
