//! What `bowline-proof` claims, and attempts to break each claim. One binary, because linking is
//! the slow part.

mod assertion;
mod challenge;
mod check;
mod common;
mod dpop;
mod exporter;
mod key;
mod never_panics;
mod secrets;
mod target;
mod token;
mod vectors;
mod verify;
