//! What adapters of protocols above HTTP have in common: an answer of [`bowline_client`] read
//! within bounds, and judged.
//!
//! - [`body`]: whole, in part, or read out for its connection's sake.
//! - [`call`]: from a method's name to the operation that it is counted as, and to the calls whose
//!   proof is for one request.
//! - [`head`]: media type, challenge, redirect.
//! - [`lines`]: an event stream's bytes, ready for a parser.
//!
//! It knows no protocol: `bowline-mcp` and `bowline-a2a` are built on it, and so may another be.

pub mod body;
pub mod call;
pub mod head;
pub mod lines;

pub use call::{Call, Operations, RequestBoundCalls};
