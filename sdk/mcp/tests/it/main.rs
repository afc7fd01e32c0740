//! `bowline-mcp` against scripted servers, and against rmcp's own server behind `BindingLayer`.

mod end_to_end;
mod hostile;
mod house;
mod keeping;
mod legacy;
mod peers;
mod refusals;
mod replies;
mod requests;
mod scripted;
