//! The verifier as tower middleware: RS-1 to RS-13 on every request.

mod checks;
mod layer;
mod refused;
mod service;
mod transport;

#[cfg(test)]
mod tests;

pub use self::layer::{BindingLayer, Policy, RequestClaims};
pub use self::service::BindingService;
