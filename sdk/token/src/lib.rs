//! draft
mod authorized;
mod cache;
mod clock;
mod error;
mod file;
mod fixed;
mod oauth;
mod replace;
mod source;
mod workers;

pub use authorized::{Authorized, is_invalid_token};
pub use bowline_client::Fault;
pub use bowline_proof::AssertionKey;
pub use cache::Counts;
pub use clock::Clock;
pub use error::{Error, Kind, Refusal};
pub use file::{TokenFile, TokenFileOptions};
pub use fixed::Fixed;
pub use oauth::{AuthorizationServer, Bound, Builder, ClientAuthentication, Exchanges, OAuth, resource_metadata};
pub use replace::replace_identity;
pub use source::{Token, TokenSource, new_source_id};
