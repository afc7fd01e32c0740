//! A random credential that callers show, where the kernel cannot say whose a connection is (GW-5).

use std::net::SocketAddr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::HeaderMap;
use http::header::PROXY_AUTHORIZATION;

const USER: &str = "bowline";
const PASSWORD_BYTES: usize = 32;

/// Known to those alone that are given the proxy's URL.
pub(crate) struct Credential {
    password: String,
}

impl Credential {
    /// # Errors
    /// The system's random numbers fail.
    pub(crate) fn new() -> std::io::Result<Self> {
        let mut bytes = [0; PASSWORD_BYTES];
        rand::fill(&mut bytes).map_err(|_| std::io::Error::other("no random numbers"))?;
        let password = URL_SAFE_NO_PAD.encode(bytes);
        Ok(Self { password })
    }

    pub(crate) fn url(&self, proxy: SocketAddr) -> String {
        format!("http://{USER}:{}@{proxy}", self.password)
    }

    /// Whether `Proxy-Authorization` has it, as `Basic` (RFC 7617).
    pub(crate) fn is_shown(&self, headers: &HeaderMap) -> bool {
        let expected = STANDARD.encode(format!("{USER}:{}", self.password));
        let shown = headers
            .get(PROXY_AUTHORIZATION)
            .map(|value| value.as_bytes());
        shown
            .and_then(basic)
            .is_some_and(|shown| verify_slices_are_equal(shown, expected.as_bytes()).is_ok())
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").finish_non_exhaustive()
    }
}

fn basic(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(b"Basic ".len())?;
    scheme
        .eq_ignore_ascii_case(b"Basic ")
        .then(|| rest.trim_ascii())
}

#[cfg(test)]
mod tests;
