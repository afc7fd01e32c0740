//! The checks, driven as a tower service with hand-made connection facts.

mod memory;
mod passes;
mod refusals;
mod world;
