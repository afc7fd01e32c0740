//! The trait of token sources, and the token that they give.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bowline_http_client::bind::TokenSourceId;
use bowline_http_client::{AccessToken, Identity, Thumbprint, WithCertificate};
use futures_util::future::BoxFuture;
use http::{Extensions, Request};
use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::Error;

/// Gives access tokens for one resource, one after the other.
///
/// Ask for a token for each request, put it in with [`Token::attach`], and tell the source when the
/// resource refused it: [`Authorized`](crate::Authorized) does all three.
pub trait TokenSource: Send + Sync + 'static {
    /// The id of this source, which never changes. By it the client tells a token that succeeds
    /// another from an unrelated one, in the causes of proofs.
    fn id(&self) -> TokenSourceId;

    /// A token to send now. Cheap while there is a valid one; otherwise waits for the next.
    ///
    /// # Errors
    /// There is no valid token, and none could be obtained. The source may repeat the same error
    /// for a while without another attempt.
    fn token(&self) -> BoxFuture<'_, Result<Token, Error>>;

    /// The resource refused this token with `invalid_token` (RFC 6750 §3.1): the next call of
    /// [`token`](Self::token) gives another, if there is one. A source that has just replaced a
    /// token for this reason does not replace the next one at once.
    fn refused(&self, token: &Token);

    /// A token to send with this certificate, which may be the next one and not yet the current
    /// one (CL-8): see [`replace_identity`](crate::replace_identity). A source that cannot choose
    /// what its tokens are bound to gives the token that it has.
    ///
    /// # Errors
    /// As [`token`](Self::token).
    fn token_for(&self, _identity: Arc<Identity>) -> BoxFuture<'_, Result<Token, Error>> {
        self.token()
    }
}

impl<S: TokenSource + ?Sized> TokenSource for Arc<S> {
    fn id(&self) -> TokenSourceId {
        (**self).id()
    }

    fn token(&self) -> BoxFuture<'_, Result<Token, Error>> {
        (**self).token()
    }

    fn refused(&self, token: &Token) {
        (**self).refused(token);
    }

    fn token_for(&self, identity: Arc<Identity>) -> BoxFuture<'_, Result<Token, Error>> {
        (**self).token_for(identity)
    }
}

/// A new id of 64 random bits, which no other source is likely to have.
pub fn new_source_id() -> TokenSourceId {
    TokenSourceId(RandomState::new().hash_one(()))
}

/// A token as a source gives it: the access token, and what the source knows about it.
///
/// Clones are cheap. `Debug` shows nothing of the token itself. Two are equal when their access
/// tokens are.
#[derive(Clone)]
pub struct Token {
    access: AccessToken,
    source: TokenSourceId,
    certificate: Option<Thumbprint>,
    expires_at: Option<SystemTime>,
    scope: Option<Arc<str>>,
}

impl Token {
    /// A token of a source. If it is a JWT, its claims say what it is bound to and when it expires;
    /// they are not verified, since the client only uses its own token.
    pub fn new(access: AccessToken, source: TokenSourceId) -> Self {
        Self {
            certificate: access.confirmation().ok().and_then(|cnf| cnf.x5t_s256),
            expires_at: Payload::parse(&access).and_then(|payload| payload.expires_at()),
            access,
            source,
            scope: None,
        }
    }

    /// The same, issued to a client that authenticated with this certificate. An opaque token is
    /// taken to be bound to it; a JWT says itself what it is bound to.
    #[must_use]
    pub fn issued_to(mut self, certificate: Thumbprint) -> Self {
        if Payload::parse(&self.access).is_none() {
            self.certificate = Some(certificate);
        }
        self
    }

    /// The same, with this expiry.
    #[must_use]
    pub fn expiring_at(mut self, when: SystemTime) -> Self {
        self.expires_at = Some(when);
        self
    }

    pub(crate) fn with_scope(mut self, scope: Option<String>) -> Self {
        self.scope = scope.map(Into::into);
        self
    }

    /// The access token.
    pub fn access_token(&self) -> &AccessToken {
        &self.access
    }

    /// The source that gave it.
    pub fn source(&self) -> TokenSourceId {
        self.source
    }

    /// The certificate that it is bound to, or may be bound to if it is opaque (CL-8).
    pub fn certificate(&self) -> Option<Thumbprint> {
        self.certificate
    }

    /// When it expires, if that is known.
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.expires_at
    }

    /// The scope that was granted, if the authorization server said so (RFC 6749 §5.1): it may be
    /// less than was asked for.
    pub fn scope(&self) -> Option<&str> {
        self.scope.as_deref()
    }

    /// Puts the token into a request for a bowline client: the token, its source, and the
    /// certificate that it needs.
    pub fn attach<B>(&self, request: &mut Request<B>) {
        self.attach_to(request.extensions_mut());
    }

    /// Like [`attach`](Self::attach), into the extensions alone.
    pub fn attach_to(&self, extensions: &mut Extensions) {
        extensions.insert(self.access.clone());
        extensions.insert(self.source);
        if let Some(certificate) = self.certificate {
            extensions.insert(WithCertificate(certificate));
        }
    }

    /// Whether it is a JWT, so that its claims say what it is bound to.
    pub(crate) fn is_jwt(&self) -> bool {
        Payload::parse(&self.access).is_some()
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.access == other.access
    }
}

impl Eq for Token {}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("source", &self.source)
            .field("certificate", &self.certificate)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// The claims of a JWT that matter to the client that uses it.
#[derive(Deserialize)]
struct Payload {
    #[serde(default)]
    exp: Value,
}

impl Payload {
    fn parse(token: &AccessToken) -> Option<Self> {
        let mut parts = token.secret().split('.');
        let (Some(_), Some(payload), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return None;
        };
        let payload = Zeroizing::new(URL_SAFE_NO_PAD.decode(payload).ok()?);
        // serde would also read an array.
        if !payload.trim_ascii_start().starts_with(b"{") {
            return None;
        }
        serde_json::from_slice(&payload).ok()
    }

    /// `exp` (RFC 7519 §4.1.4): it may have a fraction. One that no clock can show counts as none.
    fn expires_at(&self) -> Option<SystemTime> {
        let seconds = Duration::try_from_secs_f64(self.exp.as_f64()?.max(0.0)).ok()?;
        SystemTime::UNIX_EPOCH.checked_add(seconds)
    }
}
