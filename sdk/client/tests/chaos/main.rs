//! Thousands of requests on connections that keep ending.
//!
//! A binary of its own: these tests keep every core busy for seconds, and the short time limits of
//! other tests would not hold beside them.

#![allow(
    clippy::print_stdout,
    reason = "each test prints what happened in the run, for a reader of its output"
)]

mod churn;
mod retirements;
mod signature_audit;

#[path = "../fixture/mod.rs"]
mod fixture;
