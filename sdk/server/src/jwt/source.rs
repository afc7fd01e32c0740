//! Where the JWKS document comes from.

use std::error::Error as StdError;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::redirect;
use tokio::io::AsyncReadExt;

use super::keys::KeySet;

/// A longer document is refused unread.
const MAX_DOCUMENT: usize = 1024 * 1024;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the keys of the authorization server are found, as a JWK set (RFC 7517 section 5) of at most 1 MiB.
#[derive(Clone)]
pub struct Jwks(Source);

#[derive(Clone)]
enum Source {
    Document(Vec<u8>),
    File(PathBuf),
    Url(JwksUrl),
}

impl Jwks {
    /// The document itself. It never changes.
    ///
    /// # Errors
    /// It is not a JWK set.
    pub fn document(document: impl Into<Vec<u8>>) -> Result<Self, JwksError> {
        let document = document.into();
        KeySet::parse(document.clone(), NonZeroUsize::MIN).map_err(JwksError::malformed)?;
        Ok(Self(Source::Document(document)))
    }

    /// A file, read again as it ages.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Source::File(path.into()))
    }

    pub(super) async fn load(&self) -> Result<Vec<u8>, JwksError> {
        match &self.0 {
            Source::Document(document) => Ok(document.clone()),
            Source::File(path) => read(path).await,
            Source::Url(url) => url.fetch().await,
        }
    }

    pub(super) fn default_refresh_interval(&self) -> Duration {
        match &self.0 {
            Source::Document(_) => Duration::MAX,
            Source::File(_) => Duration::from_secs(5),
            Source::Url(_) => Duration::from_secs(300),
        }
    }
}

/// Fetched again as the answer ages.
impl From<JwksUrl> for Jwks {
    fn from(url: JwksUrl) -> Self {
        Self(Source::Url(url))
    }
}

impl fmt::Display for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Document(_) => f.write_str("document"),
            Source::File(path) => path.display().fmt(f),
            Source::Url(url) => url.url.fmt(f),
        }
    }
}

impl fmt::Debug for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Jwks({self})")
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, JwksError> {
    let unreadable = |error| JwksError::new("the JWKS file cannot be read").because(error);
    let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    let mut document = Vec::new();
    let most = MAX_DOCUMENT as u64 + 1;
    file.take(most).read_to_end(&mut document).await.map_err(unreadable)?;
    if document.len() > MAX_DOCUMENT {
        return Err(JwksError::too_long());
    }
    Ok(document)
}

/// A JWKS behind a URL, with whom to trust there and, if it asks, by which certificate to be known.
#[derive(Clone)]
pub struct JwksUrl {
    url: reqwest::Url,
    roots: Option<Vec<reqwest::Certificate>>,
    identity: Option<reqwest::Identity>,
    client: reqwest::Client,
}

impl JwksUrl {
    /// An `https` URL whose server the platform's roots vouch for; or an `http` URL on loopback.
    ///
    /// # Errors
    /// It is no URL, or one over which anybody on the way could replace the keys.
    pub fn new(url: &str) -> Result<Self, JwksError> {
        let url: reqwest::Url = url
            .parse()
            .map_err(|error| JwksError::new("the JWKS URL is not a URL").because(error))?;
        if !(url.scheme() == "https" || url.scheme() == "http" && is_loopback(&url)) {
            return Err(JwksError::new("the JWKS URL must be https; http is for loopback only"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(JwksError::new(
                "the JWKS URL must not hold a user name or password; they would be logged",
            ));
        }
        Ok(Self {
            client: client(None, None)?,
            roots: None,
            identity: None,
            url,
        })
    }

    /// Trusts these CA certificates (PEM) instead of the platform's.
    ///
    /// # Errors
    /// There is no certificate in the text, or one that cannot be read.
    pub fn trust_only_pem(mut self, roots: &[u8]) -> Result<Self, JwksError> {
        let bad = || JwksError::new("the roots for the JWKS URL hold no certificate in PEM");
        let roots = reqwest::Certificate::from_pem_bundle(roots).map_err(|error| bad().because(error))?;
        if roots.is_empty() {
            return Err(bad());
        }
        self.roots = Some(roots);
        self.rebuilt()
    }

    /// Authenticates with this certificate chain and private key (PEM, one after the other in one text).
    ///
    /// # Errors
    /// A part is missing or cannot be read, or the key is another certificate's.
    pub fn identity_pem(mut self, chain_and_key: &[u8]) -> Result<Self, JwksError> {
        let identity = reqwest::Identity::from_pem(chain_and_key).map_err(|error| {
            JwksError::new("the identity for the JWKS URL is not a certificate chain and its key in PEM").because(error)
        })?;
        self.identity = Some(identity);
        self.rebuilt()
    }

    fn rebuilt(mut self) -> Result<Self, JwksError> {
        self.client = client(self.roots.clone(), self.identity.clone())?;
        Ok(self)
    }

    async fn fetch(&self) -> Result<Vec<u8>, JwksError> {
        let failed = |error: reqwest::Error| JwksError::new("the JWKS URL cannot be fetched").because(error);
        let request = self.client.get(self.url.clone());
        let mut response = request
            .send()
            .await
            .map_err(failed)?
            .error_for_status()
            .map_err(failed)?;
        let mut document = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if document.len() + chunk.len() > MAX_DOCUMENT {
                return Err(JwksError::too_long());
            }
            document.extend_from_slice(&chunk);
        }
        Ok(document)
    }
}

/// Not the identity: it holds a private key.
impl fmt::Debug for JwksUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JwksUrl({})", self.url)
    }
}

/// Redirects are not followed: the configured URL is what is trusted, not where it points.
fn client(
    roots: Option<Vec<reqwest::Certificate>>,
    identity: Option<reqwest::Identity>,
) -> Result<reqwest::Client, JwksError> {
    let mut builder = reqwest::Client::builder()
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(FETCH_TIMEOUT);
    if let Some(roots) = roots {
        builder = builder.tls_certs_only(roots);
    }
    if let Some(identity) = identity {
        builder = builder.identity(identity);
    }
    builder
        .build()
        .map_err(|error| JwksError::new("no HTTPS client can be made for the JWKS URL").because(error))
}

fn is_loopback(url: &reqwest::Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            host.parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
        }
        None => false,
    }
}

/// A key set that cannot be had.
#[derive(Debug)]
pub struct JwksError {
    message: &'static str,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl JwksError {
    fn new(message: &'static str) -> Self {
        Self { message, source: None }
    }

    fn too_long() -> Self {
        Self::new("the JWKS document is longer than 1 MiB")
    }

    pub(super) fn malformed(source: serde_json::Error) -> Self {
        Self::new("the JWKS document is not a JWK set").because(source)
    }

    fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for JwksError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message)
    }
}

impl StdError for JwksError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
