//! DPoP (RFC 9449) against a server that verifies it, remembers proofs and may ask for nonces.

mod demand;
mod nonces;
mod proofs;
mod refusals;
mod scene;
#[path = "../support/mod.rs"]
mod support;
mod thief;
