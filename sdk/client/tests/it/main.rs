//! The client over real TLS connections on loopback.

mod ahead;
mod bad_peers;
mod challenges;
mod connect_to;
mod connections;
mod dpop;
mod exporter;
mod goaway;
mod http1;
mod identities;
mod long_lived;
mod many_tokens;
mod master_secret;
mod pool;
mod proofs;
mod proxies;
mod public_types;
mod slow_keys;
mod waits;

// Shared with the tests that need a process of their own, in `tests/`.
#[path = "../fixture/mod.rs"]
mod fixture;
