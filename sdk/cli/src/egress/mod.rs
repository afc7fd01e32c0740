//! The egress: a proxy on this machine that gives an unmodified agent's requests mutual TLS and
//! session-binding proofs (GW-5, GW-6, GW-7).

pub(crate) mod address;
pub(crate) mod answer;
pub(crate) mod authority;
pub(crate) mod body;
pub(crate) mod callers;
pub(crate) mod counts;
pub(crate) mod credential;
pub(crate) mod fields;
pub(crate) mod names;
pub(crate) mod options;
pub(crate) mod origins;
pub(crate) mod pages;
pub(crate) mod proxy;
mod refused;
pub(crate) mod serve;
pub(crate) mod service;
pub(crate) mod splice;
pub(crate) mod tls;
pub(crate) mod tunnels;
