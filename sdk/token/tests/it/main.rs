//! What `bowline-token` claims, against a real authorization server and real resource servers on
//! loopback. One binary, because linking is the slow part.

mod authentication;
mod authorized;
mod discovery;
mod exchange;
#[cfg(unix)]
mod file;
mod hostile;
mod lab;
mod outage;
mod replacement;
mod rotation;
mod secrets;
