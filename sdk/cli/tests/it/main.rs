//! The command as its users run it.

mod ingress;
mod settings;
