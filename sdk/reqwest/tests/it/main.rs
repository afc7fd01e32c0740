//! Claims about reqwest's requests over bowline, against real TLS peers.

mod exchanges;
mod failures;
mod house;
mod middleware;
mod parity;
mod proofs;
