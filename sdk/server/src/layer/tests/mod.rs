//! The checks, driven as a tower service with hand-made connection facts.

mod dpop;
mod memory;
mod metadata;
mod order;
mod passes;
mod proxies;
mod refusals;
mod scope;
mod world;
