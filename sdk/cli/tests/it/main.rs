//! The command as its users run it.

#[cfg(target_os = "linux")]
mod agents;
#[cfg(target_os = "linux")]
mod egress;
mod pki;
#[cfg(target_os = "linux")]
mod run;
mod settings;
