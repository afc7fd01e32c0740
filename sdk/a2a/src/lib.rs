//! A2A transports over bowline's connection-aware client.
//!
//! Requirement ids such as `CL-6` refer to the project's wire profile.

pub mod card;
pub mod extension;
mod failure;
mod grpc;
pub mod operation;
mod transports;
mod wire;

pub use failure::{Failure, Kind};
pub use transports::Transports;
