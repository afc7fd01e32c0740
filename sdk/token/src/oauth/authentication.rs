//! How a client authenticates to the authorization server.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bowline_proof::{AssertionClaims, AssertionKey};
use rustls_pki_types::UnixTime;
use zeroize::Zeroizing;

use super::server::Endpoint;
use crate::blocking_pool::BlockingPool;
use crate::cache::Certificate;
use crate::{Clock, Error, ErrorKind};

/// `client_assertion_type` (RFC 7523 §2.2).
pub(super) const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Long enough for clocks that differ a little, and too short to be worth stealing.
const ASSERTION_LIFETIME: Duration = Duration::from_secs(60);

/// A key that hangs blocks one thread for each signature. Beyond this many, callers wait.
const MAX_SIGNING: usize = 16;

/// The client's id, and how it authenticates. There is no method with a client secret: a
/// thief could use it as well as the client.
#[derive(Clone)]
pub struct ClientAuthentication {
    pub(super) client_id: Arc<str>,
    method: Method,
    audience: Option<Arc<str>>,
    blocking_pool: BlockingPool,
}

#[derive(Clone)]
enum Method {
    Tls,
    SelfSignedTls,
    PrivateKeyJwt(AssertionKey),
    CertificateKeyJwt,
}

impl ClientAuthentication {
    /// `tls_client_auth`: by the certificate of the TLS connection, issued by a certificate
    /// authority (RFC 8705 §2.1).
    pub fn tls(client_id: impl Into<Arc<str>>) -> Self {
        Self::new(client_id, Method::Tls)
    }

    /// `self_signed_tls_client_auth`: by the certificate of the TLS connection, which the client
    /// has registered (RFC 8705 §2.2). A new certificate must be registered before tokens are
    /// requested with it.
    pub fn self_signed_tls(client_id: impl Into<Arc<str>>) -> Self {
        Self::new(client_id, Method::SelfSignedTls)
    }

    /// `private_key_jwt`: by an assertion that this key signs (RFC 7523 §2.2). The client's
    /// certificate is presented all the same, where the server asks for one, so that tokens can be
    /// bound to it.
    pub fn private_key_jwt(client_id: impl Into<Arc<str>>, key: AssertionKey) -> Self {
        Self::new(client_id, Method::PrivateKeyJwt(key))
    }

    /// `private_key_jwt`, signed by the key of the certificate that the token request presents.
    pub fn certificate_key_jwt(client_id: impl Into<Arc<str>>) -> Self {
        Self::new(client_id, Method::CertificateKeyJwt)
    }

    /// The assertion's audience (`aud`), one value (CL-10). Default: the issuer identifier that was
    /// configured or is on the list (`draft-ietf-oauth-rfc7523bis`); for
    /// [`AuthorizationServer::token_endpoint`](crate::AuthorizationServer::token_endpoint) that
    /// URL. Never an endpoint that metadata names. Some servers, such as Entra and Okta, accept
    /// their token endpoint only: set it here.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<Arc<str>>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// The name of the method (RFC 8705 §2, RFC 7523 via OpenID Connect Core §9).
    pub fn method(&self) -> &'static str {
        match self.method {
            Method::Tls => "tls_client_auth",
            Method::SelfSignedTls => "self_signed_tls_client_auth",
            Method::PrivateKeyJwt(_) | Method::CertificateKeyJwt => "private_key_jwt",
        }
    }

    fn new(client_id: impl Into<Arc<str>>, method: Method) -> Self {
        Self {
            client_id: client_id.into(),
            method,
            audience: None,
            blocking_pool: BlockingPool::new(MAX_SIGNING),
        }
    }

    /// The key that signs assertions, if the method needs one.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if there is no certificate where one is needed.
    pub(super) fn key(&self, certificate: &Certificate) -> Result<Option<AssertionKey>, Error> {
        match (&self.method, &certificate.0) {
            (Method::PrivateKeyJwt(key), _) => Ok(Some(key.clone())),
            (Method::CertificateKeyJwt, Some(identity)) => {
                Ok(Some(identity.proof_key().assertion_key()))
            }
            (Method::Tls | Method::SelfSignedTls, Some(_)) => Ok(None),
            (_, None) => Err(Error::new(
                ErrorKind::Configuration,
                format!(
                    "client authentication ({}) needs a certificate, and the client has none: \
                     give it an identity",
                    self.method()
                ),
            )),
        }
    }

    /// A new assertion for this server. Signing may block, so it runs on a blocking thread.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if the key does not sign, [`ErrorKind::Unavailable`] if it has
    /// not within `limit`.
    pub(super) async fn assertion(
        &self,
        key: AssertionKey,
        endpoint: &Endpoint,
        clock: &Clock,
        limit: Duration,
    ) -> Result<Zeroizing<String>, Error> {
        let client_id = self.client_id.clone();
        let audience: Arc<str> = match (&self.audience, &endpoint.issuer) {
            (Some(audience), _) => audience.clone(),
            (None, Some(issuer)) => issuer.as_str().into(),
            (None, None) => endpoint.uri.to_string().into(),
        };
        let since = clock
            .now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        let signing = self.blocking_pool.run(move || {
            key.sign(&AssertionClaims {
                client_id: &client_id,
                audience: &audience,
                issued_at: UnixTime::since_unix_epoch(since),
                lifetime: ASSERTION_LIFETIME,
            })
        });
        let failed = "no client assertion could be signed";
        match tokio::time::timeout(limit, signing).await {
            Ok(Some(signed)) => {
                signed.map_err(|e| Error::with_source(ErrorKind::Configuration, failed, e))
            }
            Ok(None) => Err(Error::new(
                ErrorKind::Configuration,
                format!("{failed}: the key panicked"),
            )),
            Err(_) => Err(Error::new(
                ErrorKind::Unavailable,
                format!(
                    "{failed} within {limit:?}: see whether the key hangs, or is too slow for \
                     all its callers"
                ),
            )),
        }
    }
}

impl fmt::Debug for ClientAuthentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientAuthentication")
            .field("client_id", &self.client_id)
            .field("method", &self.method())
            .finish_non_exhaustive()
    }
}
