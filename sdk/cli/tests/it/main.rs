//! The command as its users run it.

mod call;
mod call_errors;
mod ingress;
mod ops;
mod pki;
mod oidc;
mod settings;
mod support;
