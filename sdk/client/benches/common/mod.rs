//! Shared by the benches: the fixture, the callers, the measurement and the report.
#![allow(dead_code, reason = "each bench uses a part of it")]

pub(crate) mod callers;
pub(crate) mod callgrind;
pub(crate) mod child;
pub(crate) mod crowd;
pub(crate) mod figures;
pub(crate) mod fixture;
pub(crate) mod options;
pub(crate) mod rounds;
pub(crate) mod server;
pub(crate) mod slow;

use std::num::NonZero;

/// Tasks, server and connections share these threads: as many as the machine has cores.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    runtime_with(cores())
}

/// A runtime with this many worker threads.
pub(crate) fn runtime_with(workers: usize) -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .expect("a runtime")
}

/// For exact counts: one thread, so that nothing depends on scheduling.
pub(crate) fn one_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}
