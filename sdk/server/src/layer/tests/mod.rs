//! The checks, driven as a tower service with hand-made connection facts.

mod dpop;
mod memory;
mod passes;
mod refusals;
mod world;
