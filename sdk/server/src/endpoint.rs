//! An endpoint of the authorization server: its URL, the roots to trust there, and this server's
//! client certificate.

use std::error::Error as StdError;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use reqwest::{RequestBuilder, Url, redirect};

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
            client: client(name, &url, None, None)?,
            roots: None,
            identity: None,
            name,
            url,
        })
    }

    /// Trusts these CA certificates (PEM) instead of the platform's.
    pub(crate) fn trust_only_pem(mut self, roots: &[u8]) -> Result<Self, EndpointError> {
        let bad = || {
            EndpointError::new(format!(
                "the roots for {} hold no certificate in PEM",
                self.name
            ))
        };
        let roots = reqwest::Certificate::from_pem_bundle(roots)
            .map_err(|error| bad().with_source(error))?;
        if roots.is_empty() {
            return Err(bad());
        }
        self.roots = Some(roots);
        self.rebuild()
    }

    /// Authenticates with this certificate chain and private key (PEM, one after the other in one
    /// text).
    pub(crate) fn identity_pem(mut self, chain_and_key: &[u8]) -> Result<Self, EndpointError> {
        let identity = reqwest::Identity::from_pem(chain_and_key).map_err(|error| {
            let name = self.name;
            EndpointError::new(format!(
                "the identity for {name} is not a certificate chain and its key in PEM"
            ))
            .with_source(error)
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
) -> Result<reqwest::Client, EndpointError> {
    let mut builder = reqwest::Client::builder()
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(EXCHANGE_TIMEOUT);
    if url.scheme() == "http" {
        // Loopback: a proxy from the environment must not read what is sent.
        builder = builder.no_proxy();
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

/// Whether a URL's host is this machine, by the same rule as the client's (CL-6).
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
