//! Where the JWKS document comes from.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::StatusCode;
use tokio::io::AsyncReadExt;

use super::keys::KeySet;
use crate::endpoint::{Endpoint, EndpointError};

/// A longer document is refused.
const MAX_DOCUMENT: usize = 1024 * 1024;

/// Where the keys of the authorization server are found, as a JWK set (RFC 7517 section 5) of at
/// most 1 MiB.
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

    /// Whether the document never changes.
    pub(super) fn is_fixed(&self) -> bool {
        matches!(self.0, Source::Document(_))
    }

    pub(super) fn default_refresh_interval(&self) -> Duration {
        match &self.0 {
            Source::Document(_) => Duration::MAX,
            Source::File(_) => Duration::from_secs(5),
            Source::Url(_) => Duration::from_secs(300),
        }
    }
}

/// The document is fetched again as it ages.
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
            Source::Url(url) => url.0.fmt(f),
        }
    }
}

impl fmt::Debug for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Jwks({self})")
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, JwksError> {
    let unreadable = |error| JwksError::new("the JWKS file cannot be read").with_source(error);
    let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    let mut document = Vec::new();
    let max_bytes = MAX_DOCUMENT as u64 + 1;
    file.take(max_bytes)
        .read_to_end(&mut document)
        .await
        .map_err(unreadable)?;
    if document.len() > MAX_DOCUMENT {
        return Err(JwksError::too_long());
    }
    Ok(document)
}

/// A JWKS at a URL, with the roots to trust there and an optional client certificate.
#[derive(Clone)]
pub struct JwksUrl(Endpoint);

impl JwksUrl {
    /// An `https` URL whose server the platform's roots verify; or an `http` URL on loopback.
    ///
    /// # Errors
    /// It is not a URL, or an attacker on the network path could replace the keys.
    pub fn new(url: &str) -> Result<Self, JwksError> {
        Ok(Self(Endpoint::new("the JWKS URL", url)?))
    }

    /// Trusts these CA certificates (PEM) instead of the platform's.
    ///
    /// # Errors
    /// There is no certificate in the text, or one that cannot be read.
    pub fn trust_only_pem(self, roots: &[u8]) -> Result<Self, JwksError> {
        Ok(Self(self.0.trust_only_pem(roots)?))
    }

    /// Authenticates with this certificate chain and private key (PEM, one after the other in one
    /// text).
    ///
    /// # Errors
    /// A part is missing or cannot be read, or the key is another certificate's.
    pub fn identity_pem(self, chain_and_key: &[u8]) -> Result<Self, JwksError> {
        Ok(Self(self.0.identity_pem(chain_and_key)?))
    }

    async fn fetch(&self) -> Result<Vec<u8>, JwksError> {
        let response = self.0.send(self.0.get(), MAX_DOCUMENT).await?;
        match response.status {
            StatusCode::OK => Ok(response.body),
            status => Err(self.0.error(format_args!("answered {status}")).into()),
        }
    }
}

/// Does not show the identity, which holds a private key.
impl fmt::Debug for JwksUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JwksUrl({})", self.0)
    }
}

/// A key set that cannot be loaded.
#[derive(Debug)]
pub struct JwksError {
    message: Cow<'static, str>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl From<EndpointError> for JwksError {
    fn from(error: EndpointError) -> Self {
        Self {
            message: error.message.into(),
            source: error.source,
        }
    }
}

impl JwksError {
    fn new(message: &'static str) -> Self {
        Self {
            message: message.into(),
            source: None,
        }
    }

    fn too_long() -> Self {
        Self::new("the JWKS document is longer than 1 MiB")
    }

    /// Says where, and not what: the parser's text may quote the document, which holds keys.
    pub(super) fn malformed(error: serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        Self {
            message: format!(
                "the JWKS document is not a JWK set (RFC 7517 section 5): line {line}, column \
                 {column}"
            )
            .into(),
            source: None,
        }
    }

    fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for JwksError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for JwksError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
