//! The server's paths, and the names of its grants.

pub(super) const TOKEN_PATH: &str = "/token";
pub(super) const INTROSPECTION_PATH: &str = "/introspect";
pub(super) const REGISTRATION_PATH: &str = "/register";
pub(super) const JWKS_PATH: &str = "/jwks";
/// RFC 8414 §3.
pub(super) const METADATA_PATH: &str = "/.well-known/oauth-authorization-server";

/// RFC 6749 §4.4.
pub(super) const CLIENT_CREDENTIALS: &str = "client_credentials";
/// RFC 6749 §6.
pub(super) const REFRESH_TOKEN: &str = "refresh_token";
/// RFC 8693 §2.1.
pub(super) const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
