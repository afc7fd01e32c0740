//! The checks, called as a tower service with constructed connection facts.

mod dpop;
mod fixture;
mod metadata;
mod order;
mod passes;
mod proof_cache;
mod proxies;
mod refusals;
mod scope;
