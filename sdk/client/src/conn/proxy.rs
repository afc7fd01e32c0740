//! Reaching an origin through a CONNECT proxy (RFC 9110 §9.3.6): TLS stays end to end, so a proof
//! is good behind one.

use std::fmt;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use tokio::net::TcpStream;
use tower_service::Service;

use crate::error::{BoxError, Error, ErrorKind};
use crate::origin::Origin;

/// Which proxies a client goes through. Only `https` targets do.
pub struct Proxies(Matcher);

impl Proxies {
    /// As the environment says: `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`, in either case (the
    /// default).
    pub fn environment() -> Self {
        Self(Matcher::from_env())
    }

    /// None, whatever the environment says.
    pub fn none() -> Self {
        Self(Matcher::builder().build())
    }

    /// This one for every `https` target except those in `no_proxy`, a list as in `NO_PROXY`.
    /// Credentials in the URL become `Proxy-Authorization: Basic`.
    pub fn https(url: &str, no_proxy: &str) -> Self {
        Self(Matcher::builder().https(url).no(no_proxy).build())
    }

    /// A socket to the origin, or to a proxy that has connected to it.
    pub(crate) async fn connect(&self, origin: &Origin, uri: Uri) -> Result<TcpStream, Error> {
        let mut direct = HttpConnector::new();
        direct.enforce_http(false);
        direct.set_nodelay(true);
        let proxy = self.0.intercept(&uri).filter(|_| origin.is_https());
        let Some(proxy) = proxy else {
            return match direct.call(uri).await {
                Ok(io) => Ok(io.into_inner()),
                Err(e) => Err(Error::with_source(
                    ErrorKind::Connect,
                    format!("cannot connect to {origin}"),
                    e,
                )),
            };
        };
        let address = shown(proxy.uri());
        if proxy.uri().scheme_str() != Some("http") {
            let message = format!(
                "the proxy {address} cannot be used: only http:// proxies (CONNECT) are supported"
            );
            return Err(Error::new(ErrorKind::Configuration, message));
        }
        let mut tunnel = Tunnel::new(proxy.uri().clone(), direct);
        if let Some(credentials) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(credentials.clone());
        }
        match tunnel.call(uri).await {
            Ok(io) => Ok(io.into_inner()),
            Err(e) => {
                let message = format!("cannot connect to {origin} through the proxy {address}");
                Err(Error::with_source(
                    ErrorKind::Connect,
                    message,
                    BoxError::from(e),
                ))
            }
        }
    }
}

/// Host and port alone: the rest may hold credentials.
fn shown(uri: &Uri) -> String {
    match uri.port_u16() {
        Some(port) => format!("{}:{port}", uri.host().unwrap_or_default()),
        None => uri.host().unwrap_or_default().to_owned(),
    }
}

impl Default for Proxies {
    fn default() -> Self {
        Self::environment()
    }
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxies").finish_non_exhaustive()
    }
}
