//! `bowline-mcp` against scripted servers, and against rmcp's own server behind `BindingLayer`.

mod authorization;
mod calls;
mod challenges;
mod connections;
mod echoes;
mod end_to_end;
mod fixture;
mod hostile;
mod keep_alive;
#[cfg(feature = "legacy-sse")]
mod legacy;
mod parity;
mod peers;
mod public_types;
mod redirects;
mod refusals;
mod replies;
mod requests;
mod scripted;
mod tokens;
