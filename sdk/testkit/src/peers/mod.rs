//! TLS servers for tests: one that serves properly and cycles its connections
//! ([`CyclingServer`]), a set that misbehaves by script ([`Peer`]), and the wire of HTTP/2 for tests
//! with a script of their own ([`H2Wire`]). And a router for one of them: MCP's legacy transport ([`LegacySse`]).

mod attended;
mod cycling;
mod h2_wire;
mod ledger;
pub mod legacy_sse;
mod misbehaving;

pub use cycling::{Cycle, CyclingOptions, CyclingServer};
pub use h2_wire::H2Wire;
pub use ledger::{ConnectionCount, Counts};
pub use legacy_sse::LegacySse;
pub use misbehaving::{Misbehaviour, Peer, PeerCounts};
