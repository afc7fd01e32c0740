//! The command as its users run it.

mod call;
mod call_errors;
mod inspect;
mod settings;
mod support;
