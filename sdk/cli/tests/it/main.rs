//! The command as its users run it.

mod call;
mod settings;
mod support;
