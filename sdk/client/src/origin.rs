//! What the client asks of an [`Origin`]: the name that a certificate must have, and whether
//! plaintext may be allowed.

use std::net::IpAddr;

pub use bowline_proof::{InvalidTarget, Origin};

use crate::error::{Error, ErrorKind};

/// The host without the brackets of an IPv6 address: what a certificate is checked against.
pub(crate) fn server_name(origin: &Origin) -> &str {
    let host = origin.host();
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

/// Whether this is the local machine, decided by the name alone: no DNS lookup decides whether
/// plaintext is allowed.
pub(crate) fn is_loopback(origin: &Origin) -> bool {
    let name = server_name(origin);
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A request's URI that has no origin.
impl From<InvalidTarget> for Error {
    fn from(error: InvalidTarget) -> Self {
        let hint = match error {
            InvalidTarget::Authority => "; send credentials in Authorization",
            _ => "",
        };
        Self::new(ErrorKind::InvalidRequest, format!("{error}{hint}"))
    }
}

#[cfg(test)]
mod tests;
