//! `bowline-a2a` against the official A2A server behind `BindingLayer`, and against agents that are
//! not ours. Nearly every suite goes over all three bindings, so they need the feature `grpc`.

#![cfg(feature = "grpc")]

mod binding;
mod card;
mod chain;
mod echoes;
mod fixture;
mod grpc;
mod http;
mod long_task;
mod public_types;
mod push;
mod python;
mod requirements;
mod script;
mod users;

/// A guard against hanging, which decides nothing.
async fn soon<F: Future>(future: F) -> F::Output {
    let soon = tokio::time::timeout(std::time::Duration::from_secs(30), future);
    soon.await.expect("done within 30 s")
}
