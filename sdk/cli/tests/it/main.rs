//! The command as its users run it.

#[cfg(target_os = "linux")]
mod agents;
mod book;
mod call;
mod call_errors;
#[cfg(target_os = "linux")]
mod egress;
mod ingress;
mod inspect;
mod mcp;
mod nodes;
mod oidc;
mod ops;
mod pki;
#[cfg(target_os = "linux")]
mod run;
mod settings;
#[cfg(target_os = "linux")]
mod soak;
mod support;
#[cfg(target_os = "linux")]
mod token_sources;
