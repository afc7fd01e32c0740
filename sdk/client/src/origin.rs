//! Where a request goes: scheme, host and port.

use std::fmt;
use std::net::IpAddr;

use http::Uri;

use crate::error::{Error, ErrorKind};

/// An origin (RFC 6454): the unit that connections, tickets and proofs never leave (CL-6).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    https: bool,
    host: Box<str>,
    port: u16,
}

impl Origin {
    /// The origin of an absolute `https` (or `http`) URI.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] if the URI has no scheme or host, another scheme, or a user-info
    /// part.
    pub fn of(uri: &Uri) -> Result<Self, Error> {
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) => {
                return Err(Error::new(
                    ErrorKind::InvalidRequest,
                    "the URI's scheme is neither https nor http",
                ));
            }
            None => {
                return Err(Error::new(
                    ErrorKind::InvalidRequest,
                    "the URI is not absolute: give scheme and host",
                ));
            }
        };
        let authority = uri
            .authority()
            .ok_or_else(|| Error::new(ErrorKind::InvalidRequest, "the URI has no host"))?;
        if authority.as_str().contains('@') {
            return Err(Error::new(
                ErrorKind::InvalidRequest,
                "the URI carries user information; send credentials in Authorization",
            ));
        }
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            None if https => 443,
            None => 80,
        };
        Ok(Self {
            https,
            host: authority.host().to_ascii_lowercase().into(),
            port,
        })
    }

    /// Whether requests travel in TLS.
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// The host: lower-case, an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The host without the brackets of an IPv6 address: what a certificate is checked against.
    pub(crate) fn server_name(&self) -> &str {
        self.host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(&self.host)
    }

    /// Whether this is the machine itself, judged by the name alone: no look-up decides whether
    /// plaintext is allowed.
    pub(crate) fn is_loopback(&self) -> bool {
        let name = self.server_name();
        name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    fn has_default_port(&self) -> bool {
        self.port == if self.https { 443 } else { 80 }
    }

    /// `Host` (RFC 9110 §7.2): no default port.
    pub(crate) fn host_field(&self) -> String {
        if self.has_default_port() {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.host_field())
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(uri: &str) -> Result<Origin, Error> {
        Origin::of(&uri.parse().unwrap())
    }

    #[test]
    fn case_and_default_port_do_not_make_another_origin() {
        assert_eq!(
            origin("https://EXAMPLE.com/a").unwrap(),
            origin("https://example.com:443/b").unwrap()
        );
        assert_ne!(
            origin("https://example.com/").unwrap(),
            origin("http://example.com/").unwrap()
        );
        assert_ne!(
            origin("https://example.com/").unwrap(),
            origin("https://example.com:8443/").unwrap()
        );
        assert_eq!(
            origin("https://example.com:443/").unwrap().to_string(),
            "https://example.com"
        );
        assert_eq!(
            origin("https://[::1]:8443/").unwrap().to_string(),
            "https://[::1]:8443"
        );
    }

    #[test]
    fn a_uri_without_an_origin_is_an_error() {
        for uri in [
            "/path",
            "ftp://example.com/",
            "https://user:pw@example.com/",
        ] {
            assert_eq!(
                origin(uri).unwrap_err().kind(),
                ErrorKind::InvalidRequest,
                "{uri}"
            );
        }
    }

    #[test]
    fn loopback_is_decided_by_name() {
        for uri in ["http://localhost:1/", "http://127.0.0.9/", "http://[::1]/"] {
            assert!(origin(uri).unwrap().is_loopback(), "{uri}");
        }
        for uri in [
            "http://localhost.example.com/",
            "http://10.0.0.1/",
            "http://127.0.0.1.nip.io/",
        ] {
            assert!(!origin(uri).unwrap().is_loopback(), "{uri}");
        }
    }
}
