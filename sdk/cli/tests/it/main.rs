//! The command as its users run it.

mod pki;
mod settings;
