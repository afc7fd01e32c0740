//! The integration tests of `bowline-proof`. One binary, because linking is the slow part.

mod assertion;
mod challenge;
mod challenge_list;
mod dpop;
mod exporter;
mod fixture;
mod never_panics;
mod origin;
mod seconds;
mod secrets;
mod session;
mod target;
mod token;
mod vectors;
