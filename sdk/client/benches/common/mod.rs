//! What the benches share: who takes part, who calls how, how it is measured and how it is told.
#![allow(dead_code, reason = "each bench uses a part of it")]

pub(crate) mod callers;
pub(crate) mod child;
pub(crate) mod figures;
pub(crate) mod options;
pub(crate) mod rounds;
pub(crate) mod scene;
pub(crate) mod server;

use std::num::NonZero;

/// Tasks, server and drivers share these threads: as many as the machine has cores.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    runtime_of(cores())
}

/// One that can move its tasks to another thread if it must.
pub(crate) fn runtime_of(workers: usize) -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .expect("a runtime")
}

/// For what is counted exactly: one thread, so that nothing depends on who runs where.
pub(crate) fn one_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}
