//! reqwest's requests over bowline, tested against real TLS peers.

mod authorized;
mod exchanges;
mod failures;
mod fixture;
mod middleware;
mod parity;
mod proofs;
mod public_types;
