//! Servers for tests.
//!
//! - [`CyclingServer`] serves correctly and ends its connections by a rule or on command.
//! - [`MisbehavingPeer`] breaks the rules, one [`Misbehaviour`] at a time.
//! - [`EchoServer`] echoes the tokens and proofs that it is sent.
//! - [`PlainServer`] has no TLS; tests compare bowline's results with it.
//! - [`Distance`] puts a server far away: bytes take a while each way.
//! - [`H2Wire`] is an HTTP/2 connection frame by frame, for tests that script one themselves.
//!
//! Two routers can be served by the first: [`LegacySse`] is MCP's legacy transport, and [`forward`]
//! a reverse proxy for a server that speaks plain HTTP. [`HaProxy`] and [`Redis`] run the real programs.

/// Where a peer can be reached: two methods for a type with a field `addr`, of which `$origin` makes
/// the origin.
macro_rules! address_methods {
    ($form:literal, $origin:path) => {
        /// Where it listens, on 127.0.0.1.
        #[must_use]
        pub fn addr(&self) -> SocketAddr {
            self.addr
        }

        #[doc = concat!("The origin `", $form, "`.")]
        #[must_use]
        pub fn origin(&self) -> String {
            $origin(self.addr)
        }
    };
}

mod connection_log;
mod counted_service;
mod cycling;
mod distance;
mod echo_server;
pub mod echoes;
mod h2_wire;
mod haproxy;
pub mod legacy_sse;
mod misbehaving;
mod plain;
mod redis;
mod reverse_proxy;

pub use connection_log::{ConnectionCount, Counts};
pub use cycling::{Cycle, CyclingOptions, CyclingServer};
pub use distance::Distance;
pub use echo_server::{Echo, EchoServer};
pub use h2_wire::H2Wire;
pub use haproxy::HaProxy;
pub use legacy_sse::LegacySse;
pub use misbehaving::{MisbehavingPeer, Misbehaviour, PeerCounts};
pub use plain::PlainServer;
pub use redis::Redis;
pub use reverse_proxy::{forward, forward_with_grpc};
