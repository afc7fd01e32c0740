//! An endpoint of the authorization server: its URL, the roots to trust there, and this server's
//! client certificate.

use bowline_proof::pem;
use std::error::Error as StdError;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{RequestBuilder, Url, redirect};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(10);

/// A checked URL, and the HTTP client for it.
#[derive(Clone)]
pub(crate) struct Endpoint {
    /// Its name, as the subject of an error message.
    name: &'static str,
    url: Url,
    roots: Option<Vec<reqwest::Certificate>>,
    identity: Option<reqwest::Identity>,
    /// Resolves the name in an `http` URL.
    look_up: Lookup,
    client: reqwest::Client,
}

/// A response, read to its end.
pub(crate) struct EndpointResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Endpoint {
    /// An `https` URL whose server the platform's roots verify; or an `http` URL on loopback.
    pub(crate) fn new(name: &'static str, url: &str) -> Result<Self, EndpointError> {
        let url: Url = url.parse().map_err(|error| {
            EndpointError::new(format!("{name} is not a URL")).with_source(error)
        })?;
        if !(url.scheme() == "https"
            || url.scheme() == "http" && url.host_str().is_some_and(is_loopback))
        {
            return Err(EndpointError::new(format!(
                "{name} must be https; http is for loopback only"
            )));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(EndpointError::new(format!(
                "{name} must not hold a user name or password; they would be logged"
            )));
        }
        Ok(Self {
            client: client(name, &url, None, None, look_up)?,
            roots: None,
            identity: None,
            look_up,
            name,
            url,
        })
    }

    #[cfg(test)]
    fn with_lookup(mut self, look_up: Lookup) -> Self {
        self.look_up = look_up;
        self.rebuild().unwrap()
    }

    /// Trusts these CA certificates (PEM) instead of the platform's.
    pub(crate) fn trust_only_pem(mut self, roots: &[u8]) -> Result<Self, EndpointError> {
        let bad = |what: String| EndpointError::new(format!("the roots for {} {what}", self.name));
        let mut read = Vec::new();
        for der in pem::certificates(roots).map_err(|e| bad(format!("cannot be read: {e}")))? {
            let number = read.len() + 1;
            let certificate = Some(der)
                .filter(is_anchor)
                .and_then(|der| reqwest::Certificate::from_der(&der).ok())
                .ok_or_else(|| {
                    bad(format!(
                        "hold a certificate that is no anchor: number {number}"
                    ))
                })?;
            read.push(certificate);
        }
        self.roots = Some(read);
        self.rebuild()
    }

    /// Authenticates with this certificate chain and private key (PEM, one after the other in one
    /// text).
    pub(crate) fn identity_pem(mut self, chain_and_key: &[u8]) -> Result<Self, EndpointError> {
        // Without the parser's error, which may quote the key.
        let identity = reqwest::Identity::from_pem(chain_and_key).map_err(|_| {
            EndpointError::new(format!(
                "the identity for {} is not a certificate chain and its key in PEM; were the line \
                 ends lost?",
                self.name
            ))
        })?;
        self.identity = Some(identity);
        self.rebuild()
    }

    fn rebuild(mut self) -> Result<Self, EndpointError> {
        self.client = client(
            self.name,
            &self.url,
            self.roots.clone(),
            self.identity.clone(),
            self.look_up,
        )?;
        Ok(self)
    }

    pub(crate) fn get(&self) -> RequestBuilder {
        self.client.get(self.url.clone())
    }

    pub(crate) fn post(&self) -> RequestBuilder {
        self.client.post(self.url.clone())
    }

    /// Sends the request and reads the response, whatever its status, up to `max_bytes`.
    pub(crate) async fn send(
        &self,
        request: RequestBuilder,
        max_bytes: usize,
    ) -> Result<EndpointResponse, EndpointError> {
        let failed = |error: reqwest::Error| {
            EndpointError::new(format!("{} cannot be reached", self.name))
                .with_source(error.without_url())
        };
        let mut response = request.send().await.map_err(failed)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > max_bytes {
                return Err(self.error(format_args!(
                    "answered with more than {} KiB",
                    max_bytes / 1024
                )));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(EndpointResponse {
            status: response.status(),
            headers: response.headers().clone(),
            body,
        })
    }

    /// An error whose message begins with the endpoint's name.
    pub(crate) fn error(&self, what_it_did: impl fmt::Display) -> EndpointError {
        EndpointError::new(format!("{} {what_it_did}", self.name))
    }
}

impl EndpointResponse {
    /// `Retry-After`, if it is in seconds (RFC 9110 §10.2.3).
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let seconds = self.headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
        Some(Duration::from_secs(seconds))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

/// Redirects are not followed: only the configured URL is trusted.
fn client(
    name: &str,
    url: &Url,
    roots: Option<Vec<reqwest::Certificate>>,
    identity: Option<reqwest::Identity>,
    look_up: Lookup,
) -> Result<reqwest::Client, EndpointError> {
    let mut builder = reqwest::Client::builder()
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(EXCHANGE_TIMEOUT);
    if url.scheme() == "http" {
        // Loopback: a proxy from the environment must not read what is sent.
        builder = builder.no_proxy().dns_resolver(LoopbackOnly(look_up));
    }
    if let Some(roots) = roots {
        builder = builder.tls_certs_only(roots);
    }
    if let Some(identity) = identity {
        builder = builder.identity(identity);
    }
    builder.build().map_err(|error| {
        EndpointError::new(format!("no HTTPS client can be made for {name}")).with_source(error)
    })
}

/// Whether a certificate can be a trust anchor: reqwest would find only later that it cannot.
fn is_anchor(der: &CertificateDer<'_>) -> bool {
    RootCertStore::empty().add(der.clone()).is_ok()
}

/// Resolves a name to this machine's addresses and to no others. What is sent without TLS must not
/// leave this machine, whatever the resolver says about `localhost` (CL-6): so the address of the
/// peer counts, and not the name.
struct LoopbackOnly(Lookup);

type Lookup = fn(String) -> BoxFuture<'static, std::io::Result<Vec<SocketAddr>>>;

fn look_up(name: String) -> BoxFuture<'static, std::io::Result<Vec<SocketAddr>>> {
    // The port of the URL replaces this one.
    async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) }.boxed()
}

impl Resolve for LoopbackOnly {
    fn resolve(&self, name: Name) -> Resolving {
        let found = self.0(name.as_str().to_owned());
        Box::pin(async move {
            let mut found = found.await?;
            found.retain(|address| address.ip().is_loopback());
            if found.is_empty() {
                return Err(
                    "the name has no loopback address, and http is for loopback only".into(),
                );
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Whether a URL's host is this machine, by the same rule as the client's (CL-6). What a name
/// resolves to is looked at when it is resolved.
pub(crate) fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// An endpoint of the authorization server that cannot be used as it is configured, or did not
/// answer as it must.
#[derive(Debug)]
pub struct EndpointError {
    pub(crate) message: String,
    pub(crate) source: Option<Box<dyn StdError + Send + Sync>>,
}

impl EndpointError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            source: None,
        }
    }

    pub(crate) fn with_source(
        mut self,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for EndpointError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests;
