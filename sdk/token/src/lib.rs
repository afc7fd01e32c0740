//! draft
mod cache;
mod clock;
mod error;
mod file;
mod fixed;
mod source;

pub use bowline_client::Fault;
pub use cache::Counts;
pub use clock::Clock;
pub use error::{Error, Kind, Refusal};
pub use file::TokenFile;
pub use fixed::Fixed;
pub use source::{Token, TokenSource, new_source_id};
