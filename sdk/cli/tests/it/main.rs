//! The command as its users run it.

mod call;
mod pki;
mod settings;
mod support;
