//! The testkit works as documented: tested from outside, with raw TLS and hyper clients.

mod a2a;
mod authority;
mod client;
mod cycling;
mod haproxy;
mod misbehaving;
mod oidc_provider;
mod pki;
mod reverse_proxy;
mod threats;
mod together;
