//! What the client tells the outside: events, counts and metrics.

mod event;
#[cfg(feature = "metrics")]
pub mod metrics;
mod hot_rows;
pub(crate) mod stats;

pub(crate) use event::Observers;
pub use event::{
    BindingUsed, Cause, CloseReason, ConnectionUse, Event, Observer, Operation, Outcome, ProofKind,
    Protocol,
};
