//! The egress on real connections.

mod callers;
mod check;
mod direct;
mod idle;
mod intercepted;
mod origins;
mod pages;
mod pairs;
mod service;
mod streams;
mod tunnels;
