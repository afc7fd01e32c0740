//! The checks, called as a tower service with constructed connection facts.

mod before_validation;
mod dpop;
mod fixture;
mod metadata;
mod observe;
mod order;
mod passes;
mod proof_cache;
mod proxies;
mod public;
mod refusals;
mod scope;
mod vectors;
