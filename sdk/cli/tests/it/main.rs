//! The command as its users run it.

mod ingress;
mod ops;
mod pki;
mod settings;
