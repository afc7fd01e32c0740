//! What bowline's tests and its churn lab stand on: a development PKI, a small authorization
//! server, and peers that cycle their connections or misbehave. Not published, and not for
//! production.
//!
//! - [`pki`]: a certificate authority made on the spot, with server and client certificates.
//! - [`tls`]: rustls configurations for tests that speak raw TLS.
//! - [`authority`]: an authorization server: grants, exchange, introspection, and faults on demand.
//! - [`peers`]: servers that end connections by a rule, on command, or by breaking the rules.
//! - [`log`]: everything that a test process logs.
//! - [`attacker`]: replays stolen credentials, and the leaky log that they come from.
//! - `a2a` (feature `a2a`): the official A2A server, with executors that a test drives.
//!
//! Set-up failures panic with a message that says what failed: there is nothing a test could do
//! about them. Nothing panics on what comes from the network.

mod net;
mod task;

#[cfg(feature = "a2a")]
pub mod a2a;
pub mod attacker;
pub mod authority;
pub mod log;
pub mod peers;
pub mod pki;
pub mod tls;
