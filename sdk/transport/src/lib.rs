//! What adapters of protocols above HTTP have in common: an answer of [`bowline_client`] read
//! within bounds, and judged.
//!
//! - [`body`]: whole, in part, or read out for its connection's sake.
//! - [`head`]: media type, challenge, redirect.
//! - [`lines`]: an event stream's bytes, ready for a parser.
//!
//! It knows no protocol: `bowline-mcp` and `bowline-a2a` are built on it, and so may another be.
//! What such adapters send is `bowline-client`'s affair: see its `Operations`, `Call` and
//! `RequestBoundCalls`.

pub mod body;
pub mod head;
pub mod lines;
