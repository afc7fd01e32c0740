//! A proxy's URL: `http://[user[:password]@]host[:port]`. No error quotes it: it may hold a
//! password.

use std::net::Ipv6Addr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use percent_encoding::percent_decode_str;

const DEFAULT_PORT: u16 = 80;

pub(super) struct ProxyUrl {
    /// In brackets, if it is an IPv6 address.
    host: String,
    port: u16,
    authorization: Option<HeaderValue>,
}

/// Why a proxy's URL cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidProxyUrl {
    #[error("it is no URL of the form http://host:port")]
    Form,
    #[error("only http:// proxies (CONNECT) are supported")]
    Scheme,
    #[error("it has no host, or one with characters that no host has")]
    Host,
    #[error("its port is not a number from 1 to 65535")]
    Port,
    #[error(
        "its user or password has a percent sign without two hexadecimal digits, or is not UTF-8"
    )]
    Credentials,
}

impl ProxyUrl {
    pub(super) fn parse(url: &str) -> Result<Self, InvalidProxyUrl> {
        let url = url.trim();
        let rest = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some((scheme, _)) if is_scheme(scheme) => return Err(InvalidProxyUrl::Scheme),
            Some(_) => return Err(InvalidProxyUrl::Form),
            None => url,
        };
        // `http:/host`: without this it would be the host `http` with an empty port.
        if url.len() == rest.len() && (rest.contains(":/") || rest.starts_with('/')) {
            return Err(InvalidProxyUrl::Form);
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (credentials, address) = match authority.rsplit_once('@') {
            Some((credentials, address)) => (Some(credentials), address),
            None => (None, authority),
        };
        let (host, port) = split_port(address)?;
        Ok(Self {
            host,
            port,
            authorization: credentials.map(basic).transpose()?,
        })
    }

    /// Host and port: all of the URL that may be shown.
    pub(super) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// `Proxy-Authorization` (RFC 7617).
    pub(super) fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }
}

fn is_scheme(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

fn split_port(address: &str) -> Result<(String, u16), InvalidProxyUrl> {
    let (host, port) = if let Some(rest) = address.strip_prefix('[') {
        let (ip, after) = rest.split_once(']').ok_or(InvalidProxyUrl::Host)?;
        let ip: Ipv6Addr = ip.parse().map_err(|_| InvalidProxyUrl::Host)?;
        let port = match after.strip_prefix(':') {
            Some(port) => Some(port),
            None if after.is_empty() => None,
            None => return Err(InvalidProxyUrl::Host),
        };
        (format!("[{ip}]"), port)
    } else {
        let (host, port) = match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        };
        let belongs = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if host.is_empty() || !host.bytes().all(belongs) {
            return Err(InvalidProxyUrl::Host);
        }
        (host.to_owned(), port)
    };
    let port = match port {
        None => DEFAULT_PORT,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            let port = digits.parse().map_err(|_| InvalidProxyUrl::Port)?;
            if port == 0 {
                return Err(InvalidProxyUrl::Port);
            }
            port
        }
        Some(_) => return Err(InvalidProxyUrl::Port),
    };
    Ok((host, port))
}

/// `user[:password]`, percent-decoded, as `Basic` credentials.
fn basic(credentials: &str) -> Result<HeaderValue, InvalidProxyUrl> {
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let plain = format!("{}:{}", decoded(user)?, decoded(password)?);
    let value = format!("Basic {}", STANDARD.encode(plain));
    let mut value = HeaderValue::try_from(value).map_err(|_| InvalidProxyUrl::Credentials)?;
    value.set_sensitive(true);
    Ok(value)
}

fn decoded(text: &str) -> Result<String, InvalidProxyUrl> {
    let mut after_percent = text.split('%').skip(1);
    if !after_percent
        .all(|part| part.len() >= 2 && part.bytes().take(2).all(|byte| byte.is_ascii_hexdigit()))
    {
        return Err(InvalidProxyUrl::Credentials);
    }
    let decoded = percent_decode_str(text).decode_utf8();
    decoded
        .map(Into::into)
        .map_err(|_| InvalidProxyUrl::Credentials)
}

#[cfg(test)]
mod tests;
