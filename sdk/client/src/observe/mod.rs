//! What the client tells the outside: events, counts and metrics.

pub(crate) mod ahead;
mod event;
mod hot_rows;
#[cfg(feature = "metrics")]
pub mod metrics;
pub(crate) mod stats;

pub(crate) use event::Observers;
pub use event::{
    BindingUsed, Cause, CloseReason, ConnectionUse, Event, Observer, Operation, Outcome, ProofKind,
    Protocol,
};
