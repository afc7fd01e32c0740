//! Reaching an origin through a CONNECT proxy (RFC 9110 §9.3.6): TLS stays end to end, so a proof
//! is valid behind one, and the proxy sees neither token nor proof.
//!
//! - [`url`]: a proxy's URL. One that cannot be read is an error of the client's builder, never
//!   "no proxy": a request must not go past an egress policy because of a typing error.
//! - [`no_proxy`]: which hosts are reached directly, by curl's rules.
//! - [`tunnel`]: CONNECT itself.
//!
//! Which variable counts (as in curl): `https_proxy`, `HTTPS_PROXY`, `all_proxy`, `ALL_PROXY`, the
//! first of them that is set and not empty; and `no_proxy`, then `NO_PROXY`, likewise.

mod no_proxy;
mod tunnel;
mod url;

use std::env;
use std::fmt;
use std::sync::Arc;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower_service::Service;

use self::no_proxy::NoProxy;
use self::url::ProxyUrl;
use crate::config::Timeouts;
use crate::conn::socket;
use crate::error::{Error, ErrorKind, Step};
use crate::origin::Origin;

/// Which proxies a client goes through. Only `https` targets do.
///
/// Settings that cannot be read are an error of [`Builder::build`](crate::Builder::build), with
/// [`ErrorKind::Configuration`].
#[derive(Clone, Debug)]
pub struct Proxies(Result<Option<Arc<Proxy>>, Error>);

struct Proxy {
    url: ProxyUrl,
    exempt: NoProxy,
}

impl Proxies {
    /// As the environment says now (the default): the first of `https_proxy`, `HTTPS_PROXY`,
    /// `all_proxy` and `ALL_PROXY` that is set and not empty, and the first of `no_proxy` and
    /// `NO_PROXY`.
    pub fn environment() -> Self {
        Self::from_variables(|name| env::var(name))
    }

    fn from_variables(value: impl Fn(&str) -> Result<String, env::VarError>) -> Self {
        let proxy = first_set(
            &value,
            &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"],
        );
        let exempt = first_set(&value, &["no_proxy", "NO_PROXY"]);
        let parsed = proxy.and_then(|proxy| {
            let Some((name, url)) = proxy else {
                return Ok(None);
            };
            let (list_name, list) = exempt?.unwrap_or(("NO_PROXY", String::new()));
            Proxy::new(name, &url, list_name, &list).map(Some)
        });
        Self(parsed)
    }

    /// None, whatever the environment says.
    pub fn none() -> Self {
        Self(Ok(None))
    }

    /// This one for every `https` target except those in `no_proxy`, a list as in `NO_PROXY`.
    ///
    /// The URL is `http://[user:password@]host[:port]`, with or without its scheme; the port is 80
    /// unless it says another. User and password are percent-decoded and become
    /// `Proxy-Authorization: Basic`.
    pub fn https(url: &str, no_proxy: &str) -> Self {
        Self(Proxy::new("the proxy URL", url, "the list of exempt hosts", no_proxy).map(Some))
    }

    /// # Errors
    /// [`ErrorKind::Configuration`]: the settings cannot be read.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.0.as_ref().map(|_| ()).map_err(Error::clone)
    }

    /// A socket to the origin, or to a proxy that has connected to it.
    ///
    /// # Errors
    /// [`ErrorKind::Connect`]; [`ErrorKind::Timeout`], for [`Step::Connect`] or [`Step::Proxy`].
    pub(crate) async fn connect(
        &self,
        origin: &Origin,
        timeouts: &Timeouts,
    ) -> Result<TcpStream, Error> {
        if let Some(socket) = self.tunnel(origin, timeouts).await? {
            return Ok(socket);
        }
        let message = || format!("cannot connect to {origin}");
        tcp("http", &authority(origin), timeouts, message).await
    }

    /// A tunnel to the origin, for `bowline-cli`, which speaks through it by itself; `None` if none of
    /// these proxies is for it: nothing was connected to.
    ///
    /// # Errors
    /// [`ErrorKind::Connect`]; [`ErrorKind::Timeout`], for [`Step::Connect`] or [`Step::Proxy`];
    /// [`ErrorKind::Configuration`].
    #[doc(hidden)]
    pub async fn tunnel(
        &self,
        origin: &Origin,
        timeouts: &Timeouts,
    ) -> Result<Option<TcpStream>, Error> {
        let proxy = self.0.as_ref().map_err(Error::clone)?;
        let through = proxy
            .as_ref()
            .filter(|proxy| origin.is_https() && proxy.serves(origin.host()));
        let Some(proxy) = through else {
            return Ok(None);
        };
        let target = authority(origin);
        let address = proxy.url.address();
        let message = || format!("cannot connect to the proxy {address}, on the way to {origin}");
        let mut socket = tcp("http", &address, timeouts, message).await?;
        let connect = tunnel::connect(&mut socket, &target, proxy.url.authorization());
        match timeout(timeouts.proxy, connect).await {
            Ok(Ok(())) => Ok(Some(socket)),
            Ok(Err(e)) => {
                let message =
                    format!("cannot connect to {origin} through the proxy {address}: {e}");
                Err(Error::with_source(ErrorKind::Connect, message, e))
            }
            Err(_) => Err(Error::timeout(Step::Proxy, timeouts.proxy)),
        }
    }
}

/// What CONNECT names: host and port, whatever the port.
fn authority(origin: &Origin) -> String {
    format!("{}:{}", origin.host(), origin.port())
}

impl Proxy {
    fn serves(&self, host: &str) -> bool {
        !self.exempt.matches(host)
    }

    fn new(name: &str, url: &str, list_name: &str, list: &str) -> Result<Arc<Self>, Error> {
        let url = ProxyUrl::parse(url).map_err(|e| {
            // Never the value: it may hold a password.
            Error::new(
                ErrorKind::Configuration,
                format!("{name} cannot be used: {e}"),
            )
        })?;
        let exempt = NoProxy::parse(list);
        if let Some(unused) = exempt.unmatchable() {
            tracing::warn!("{list_name} has entries that match no host: {unused}");
        }
        Ok(Arc::new(Self { url, exempt }))
    }
}

/// The first of these variables that is set and not empty, and its value.
fn first_set(
    value: impl Fn(&str) -> Result<String, env::VarError>,
    names: &[&'static str],
) -> Result<Option<(&'static str, String)>, Error> {
    for name in names {
        match value(name) {
            Ok(value) if value.trim().is_empty() => {}
            Ok(value) => return Ok(Some((name, value))),
            Err(env::VarError::NotPresent) => {}
            Err(env::VarError::NotUnicode(_)) => {
                let message = format!("{name} cannot be used: it is not UTF-8");
                return Err(Error::new(ErrorKind::Configuration, message));
            }
        }
    }
    Ok(None)
}

/// Resolves and connects, whichever address answers first (RFC 8305).
async fn tcp(
    scheme: &str,
    address: &str,
    timeouts: &Timeouts,
    message: impl Fn() -> String,
) -> Result<TcpStream, Error> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    let uri = Uri::builder()
        .scheme(scheme)
        .authority(address)
        .path_and_query("/")
        .build();
    let uri = uri.map_err(|e| Error::with_source(ErrorKind::InvalidRequest, message(), e))?;
    let limit = timeouts.connect;
    match timeout(limit, connector.call(uri)).await {
        Ok(Ok(io)) => {
            let stream = io.into_inner();
            socket::set_up(&stream, timeouts.dead_peer);
            Ok(stream)
        }
        Ok(Err(e)) => Err(Error::with_source(ErrorKind::Connect, message(), e)),
        Err(_) => Err(Error::timeout(Step::Connect, limit)),
    }
}

impl Default for Proxies {
    fn default() -> Self {
        Self::environment()
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("address", &self.url.address())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
