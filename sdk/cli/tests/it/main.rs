//! The command as its users run it.

mod ingress;
mod oidc;
mod ops;
mod pki;
mod settings;
