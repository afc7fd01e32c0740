//! `bowline ingress`: the command itself, real TLS, and a service behind it.

mod fields;
mod fixture;
mod malformed;
mod policies;
mod streams;
mod upstream;
