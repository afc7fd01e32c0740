//! `bowline run`: an egress for one command.

mod bundle;
mod environment;
