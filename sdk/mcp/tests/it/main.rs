//! `bowline-mcp` against scripted servers, and against rmcp's own server behind `BindingLayer`.

mod authorization;
mod challenges;
mod end_to_end;
mod hostile;
mod house;
mod keeping;
mod parity;
mod redirects;
mod refusals;
mod replies;
mod requests;
mod scripted;
mod tokens;
