//! What the adapters of protocols above HTTP have in common. It knows no protocol: `bowline-mcp`
//! and `bowline-a2a` are built on it, and so may another be. It is not part of the public API of
//! either.
//!
//! - [`call`]: from a method's name to the operation that it is counted as, and to the calls whose
//!   proof is for one request.
//! - [`credential`]: where access tokens come from.
//! - [`redirect`]: which redirects are followed, and where a reference leads.
//! - [`redact`]: access tokens and proofs taken out of text that a server wrote.
//! - [`sse`]: the events of an event stream.
//! - [`hold_last`]: the last event of a stream, held for the stream's end.
//! - [`head`]: the media type of a response, and the binding error of its challenge.
//! - [`body`]: the bounds for a response whose body is not needed, or that only a person will read.
//! - [`backoff`], [`retry_after`], [`text`]: delays, and the filter for text of peers; they live in
//!   `bowline-token`, which needs them too.

pub mod body;
pub mod call;
pub mod credential;
pub mod head;
pub mod hold_last;
pub mod redact;
pub mod redirect;
pub mod sse;

pub use bowline_token::shared::{backoff, retry_after, text};
pub use call::{Call, Operations, RequestBoundCalls};
