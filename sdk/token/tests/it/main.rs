//! Tests of `bowline-token` against a real authorization server and real resource servers on
//! loopback. One binary, because linking is slow.

mod authentication;
mod authorized;
mod discovery;
mod exchange;
#[cfg(unix)]
mod file;
mod fixture;
mod hostile;
mod named_servers;
mod outage;
mod public_types;
#[cfg(unix)]
mod refresh;
mod replacement;
mod rotation;
mod secrets;
mod waits;
