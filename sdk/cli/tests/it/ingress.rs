//! `bowline ingress`: the command itself, real TLS, and a service behind it.

mod configuration;
mod fields;
pub(crate) mod fixture;
mod malformed;
mod policies;
mod streams;
pub(crate) mod threats;
mod upstream;
