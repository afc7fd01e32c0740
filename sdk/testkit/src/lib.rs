//! The base of bowline's tests and of its churn lab: a development PKI, a small authorization
//! server, and peers that cycle their connections or misbehave. Not published, and not for
//! production.
//!
//! - [`pki`]: a certificate authority made on the spot, with server and client certificates.
//! - [`tls`]: rustls configurations for tests that speak raw TLS.
//! - [`authority`]: an authorization server: grants, exchange, introspection, and injected faults.
//! - [`peers`]: servers that end connections by a rule, on command, or by breaking the rules.
//! - [`net`]: loopback sockets, the loop that accepts connections, and the text of a response.
//! - [`log`]: everything that a test process logs.
//! - [`secrets`]: the secrets that tests make, in a file, for `just leaks`.
//! - [`attacker`]: a log that leaks credentials, and an attacker who replays them.
//! - `a2a` (feature `a2a`): the official A2A server, with executors that a test drives.
//!
//! Set-up failures panic with a message that says what failed: there is nothing a test could do
//! about them. Nothing panics on what comes from the network.

mod task;

#[cfg(feature = "a2a")]
pub mod a2a;
pub mod attacker;
pub mod authority;
pub mod log;
pub mod net;
pub mod peers;
pub mod pki;
pub mod secrets;
pub mod tls;
