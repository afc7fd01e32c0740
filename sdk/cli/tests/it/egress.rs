//! The egress on real connections.

mod direct;
mod intercepted;
mod origins;
mod pages;
mod pairs;
mod service;
mod streams;
mod tunnels;
