//! Bodies, both ways: requests that can be sent again, responses that give their connection back.

mod replay;
mod response;
mod spare;

pub(crate) use replay::{ReplayBody, ReplayHandle, Sending};
pub use response::{Body, BodyReadError};
pub(crate) use response::{DRAIN_BYTES, DRAIN_TIME};
