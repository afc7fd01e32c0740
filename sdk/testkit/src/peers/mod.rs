//! TLS servers for tests: one that serves properly and cycles its connections
//! ([`CyclingServer`]), and a set that misbehaves by script ([`Peer`]).

mod attended;
mod cycling;
mod h2_wire;
mod ledger;
mod misbehaving;

pub use cycling::{Cycle, CyclingOptions, CyclingServer};
pub use ledger::{ConnectionCount, Counts};
pub use misbehaving::{Misbehaviour, Peer, PeerCounts};
