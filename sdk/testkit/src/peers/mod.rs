//! Servers for tests: one that serves properly and cycles its connections ([`CyclingServer`]), a
//! set that misbehaves by script ([`Peer`]), and the wire of HTTP/2 for tests with a script of
//! their own ([`H2Wire`]). And two routers to put behind the first: MCP's legacy transport
//! ([`LegacySse`]), and a front for servers that speak plain HTTP ([`forward`]). [`PlainServer`]
//! has no TLS, for what is compared with it.

mod attended;
mod cycling;
mod front;
mod h2_wire;
mod haproxy;
mod ledger;
pub mod legacy_sse;
mod misbehaving;
mod plain;

pub use cycling::{Cycle, CyclingOptions, CyclingServer};
pub use front::{forward, forward_with_grpc};
pub use h2_wire::H2Wire;
pub use haproxy::HaProxy;
pub use ledger::{ConnectionCount, Counts};
pub use legacy_sse::LegacySse;
pub use misbehaving::{Misbehaviour, Peer, PeerCounts};
pub use plain::PlainServer;
