//! The command as its users run it.

mod call;
mod call_errors;
mod ingress;
mod oidc;
mod ops;
mod pki;
mod settings;
mod support;
