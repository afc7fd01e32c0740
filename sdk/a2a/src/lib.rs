//! A2A transports over bowline's connection-aware client.
//!
//! Requirement ids such as `CL-6` refer to the project's wire profile.

mod events;
mod failure;
mod grpc;
mod http_json;
mod json_rpc;
pub mod long_task;
pub mod operation;
mod reported;
mod results;
mod transports;
mod wire;

pub use failure::{Failure, Kind};
pub use long_task::LongTask;
pub use transports::Transports;
