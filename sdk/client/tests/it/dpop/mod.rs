//! DPoP (RFC 9449) against a server that verifies it, detects replays and may require nonces.

mod attacker;
mod nonces;
mod proofs;
mod refusals;
mod token_binding;
