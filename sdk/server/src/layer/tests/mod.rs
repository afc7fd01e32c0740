//! The checks, driven as a tower service with hand-made connection facts.

mod dpop;
mod fixture;
mod metadata;
mod order;
mod passes;
mod proof_cache;
mod proxies;
mod refusals;
mod scope;
