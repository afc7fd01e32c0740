//! What this crate and the crates above it need alike. It is not part of the public API.
//!
//! It is hidden from the documentation because users need none of it, and public because
//! `bowline-transport` re-exports it for `bowline-mcp` and `bowline-a2a`. It is here because
//! this is the lowest crate that uses it.

pub mod backoff;
pub mod retry_after;
pub mod text;
