//! Tokens from an authorization server: `client_credentials` (RFC 6749 §4.4), token exchange (RFC
//! 8693) and refresh tokens (RFC 6749 §6).
//!
//! - [`authentication`]: how the client authenticates.
//! - [`server`], [`metadata`]: which authorization server, and where its endpoint is.
//! - [`issuer`]: one token request.
//! - [`token_response`]: reading the response, and whether the token is bound as required.
//! - [`http`]: small JSON documents over the client.
//! - [`exchanges`]: one source for each incoming token.
//! - [`refresh`]: the refresh grant, and the file that holds its refresh token.

mod authentication;
mod exchanges;
mod http;
mod issuer;
mod metadata;
#[cfg(unix)]
mod refresh;
mod server;
mod token_response;

use std::fmt;
#[cfg(unix)]
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bowline_http_client::bind::TokenSourceId;
use bowline_http_client::{Client, Identity};
use futures_util::future::BoxFuture;

use crate::cache::{Cache, Certificate};
use crate::observe::Observed;
use crate::shared::backoff::Backoff;
use crate::shared::text::printable_url;
use crate::source::new_source_id;
use crate::{Clock, Counts, Error, ErrorKind, Observer, Token, TokenSource};
use issuer::{Grant, Issuer};
#[cfg(unix)]
use refresh::store::SeedStore;

pub use authentication::ClientAuthentication;
pub use exchanges::Exchanges;
pub use metadata::resource_metadata;
#[cfg(unix)]
pub use refresh::SeedOwner;
pub use server::AuthorizationServer;
pub use token_response::RequiredBinding;

/// A source that gets its tokens from an authorization server, over a bowline client, and replaces
/// them in time.
///
/// A token is replaced in the background a fifth of its life before it expires (30 s at least, half
/// its life at most), when a caller asks for one then. However many callers ask, one request goes
/// out; a caller that is cancelled does not cancel it for the others. After a failure the source
/// pauses, from 1 s and doubling to 60 s, or as long as the server says (`Retry-After`, up to an
/// hour); meanwhile callers get the cached token while it is valid, and then the last error.
///
/// The request goes out with the client's current certificate, or the next one in
/// [`replace_identity`](crate::replace_identity), and the issued token is used with that
/// certificate (AS-1, CL-8). So the client that uses the tokens must be this client. If the
/// client's certificate is replaced without that, the old token is sent with the old certificate
/// until there is a new one. Clones share everything.
#[derive(Clone)]
pub struct OAuth {
    cache: Arc<Cache<Issuer>>,
    id: TokenSourceId,
}

/// Settings of an [`OAuth`] source; each has a default, apart from those of [`OAuth::builder`].
#[derive(Clone)]
pub struct Builder {
    client: Client,
    server: AuthorizationServer,
    authentication: ClientAuthentication,
    grant: Grant,
    actor: Option<Arc<dyn TokenSource>>,
    resources: Vec<String>,
    audiences: Vec<String>,
    scope: Option<String>,
    bound: RequiredBinding,
    timeout: Duration,
    clock: Clock,
    observed: Observed,
}

impl OAuth {
    /// Starts with the client that sends the requests, the authorization server, and how the client
    /// authenticates there.
    pub fn builder(
        client: Client,
        server: AuthorizationServer,
        authentication: ClientAuthentication,
    ) -> Builder {
        Builder {
            client,
            server,
            authentication,
            grant: Grant::ClientCredentials,
            actor: None,
            resources: Vec::new(),
            audiences: Vec::new(),
            scope: None,
            bound: RequiredBinding::default(),
            timeout: Duration::from_secs(10),
            clock: Clock::default(),
            observed: Observed::default(),
        }
    }

    /// Counters of this source.
    pub fn counts(&self) -> Counts {
        self.cache.counts()
    }
}

impl TokenSource for OAuth {
    fn id(&self) -> TokenSourceId {
        self.id
    }

    fn token(&self) -> BoxFuture<'_, Result<Token, Error>> {
        let certificate = Certificate(self.cache.issuer().client.identity());
        Box::pin(self.cache.token(certificate))
    }

    fn refused(&self, token: &Token) {
        self.cache.refused(token);
    }

    /// Adds the certificate to the client's, and requests a token with it, unless there is one.
    fn token_for(&self, identity: Arc<Identity>) -> BoxFuture<'_, Result<Token, Error>> {
        Box::pin(async move {
            let added = self.cache.issuer().client.hold_identity(identity.clone());
            added.map_err(|e| {
                Error::with_source(
                    ErrorKind::Configuration,
                    "the certificate cannot be used",
                    e,
                )
            })?;
            self.cache.token_for(Certificate(Some(identity))).await
        })
    }
}

impl Builder {
    /// What the tokens are for (RFC 8707): the resource's own identifier, a URI. May be called
    /// more than once, if one token is for several. Default: the resource of
    /// [`AuthorizationServer::for_resource`], or none.
    #[must_use]
    pub fn resource(mut self, resource: impl Into<String>) -> Self {
        self.resources.push(resource.into());
        self
    }

    /// What the tokens are for, as a name that the authorization server knows (`audience`, RFC 8693
    /// §2.1).
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// The scope to request, space-separated (RFC 6749 §3.3). Default: none, so the server decides.
    #[must_use]
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// What the tokens must be bound to; a JWT that is not is an error ([`ErrorKind::Binding`]) and
    /// is not handed out. An opaque token cannot be checked, so it is accepted, unless its
    /// `token_type` contradicts [`RequiredBinding::Dpop`]: the resource has to check it. Default
    /// [`RequiredBinding::AsIssued`]. With
    /// [`BindingPolicy::Require`](bowline_http_client::BindingPolicy::Require) say
    /// [`RequiredBinding::Session`] here: a proof with a token that does not ask for one protects
    /// nothing, because a thief leaves it out.
    #[must_use]
    pub fn bound(mut self, bound: RequiredBinding) -> Self {
        self.bound = bound;
        self
    }

    /// Exchanges the tokens of `subject` (RFC 8693) instead of requesting tokens of the client's
    /// own. Each request takes the current token of `subject`; the result is cached for its own
    /// lifetime. A service that received the subject's token must have verified its proof first
    /// (AS-3).
    #[must_use]
    pub fn exchange(mut self, subject: impl TokenSource) -> Self {
        self.grant = Grant::Exchange {
            subject: Arc::new(subject),
        };
        self
    }

    /// For an exchange: the party that acts for the subject, by its own token (`actor_token`).
    #[must_use]
    pub fn actor(mut self, actor: impl TokenSource) -> Self {
        self.actor = Some(Arc::new(actor));
        self
    }

    /// Requests tokens with a refresh token (RFC 6749 §6) instead of the client's own. `seed` is a
    /// file that holds it, which this source rewrites when the server answers with another one; any
    /// number of processes may use one seed, on one machine. It is a JSON object that somebody writes
    /// after a sign-in, mode 0600, with three texts:
    ///
    /// ```json
    /// {"client_id": "agent", "issuer": "https://as.example.com", "refresh_token": "8xLOxBtZp8"}
    /// ```
    ///
    /// The first two are compared with this client and with the server that is asked
    /// ([`AuthorizationServer::token_endpoint`]: with that URL), so that no refresh token goes to
    /// another server than the one that has issued it. Write a new seed beside the old one and
    /// rename it: then no process reads half of it.
    ///
    /// - The file is replaced, under a lock, before the new access token is given out: written
    ///   beside it (`.NAME.next`, mode 0600), synced, renamed, and its directory synced. So the
    ///   directory must be writable: where the place for the new seed cannot be made, the refresh
    ///   token is not sent. The lock is advisory, on `.NAME.lock`, by `flock`; network file systems
    ///   on which that does not hold between machines are not supported.
    /// - The access token is written with it. Another process with the same client, certificate,
    ///   resource, audience, scope and binding uses that one, as long as it need not be refreshed,
    ///   and is not the one that its resource has refused. (A DPoP-bound one is not written: the key
    ///   is its process's own.)
    /// - A process waits for the lock 15 s longer than [`timeout`](Self::timeout), so that it waits
    ///   out another one's request that hangs. Discovery is done before.
    /// - An answer is lost if the process ends, or the connection, between the server's decision and
    ///   the end of the write. Then the refresh token in the file may be used up. It is sent again:
    ///   once at once if the connection ended, else at the next attempt. A server that still accepts
    ///   it answers. One that takes it for stolen (RFC 9700 §4.14.2) refuses it and revokes its
    ///   successor. What was written and not renamed is found by the next process.
    /// - After `invalid_grant` the source asks no more, until the file holds another refresh token.
    /// - A resource cannot have refresh tokens used up: a token that it refuses is replaced once,
    ///   none that is younger than 30 s, and after three refused tokens in a row none for 15 min.
    ///   That is so for each source, so one resource's refusals affect no other's.
    ///
    /// A token is refreshed up to a tenth of its life later than other tokens, by chance.
    #[cfg(unix)]
    #[must_use]
    pub fn refresh(mut self, seed: impl Into<PathBuf>) -> Self {
        self.grant = Grant::Refresh(Arc::new(SeedStore::new(seed.into())));
        self
    }

    /// The time for all of it: discovery, the subject's token, the signature (half of the time at
    /// most), and the request. Default 10 s. With [`refresh`](Self::refresh) it is the time for
    /// discovery, and then for the request.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Where the time comes from. Default: the system clock.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Gets each [`Event`](crate::Event) of the source, and of each of [`Exchanges`]. Default: none.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observed = Observed(Some(observer));
        self
    }

    /// Makes the source. Sends nothing yet.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if the client has no id, a resource is not an absolute URI
    /// without fragment (RFC 8707 §2), there is an actor and no exchange, or the resource chooses
    /// the authorization server without [`AuthorizationServer::only`] (CL-10).
    pub fn build(mut self) -> Result<OAuth, Error> {
        if self.authentication.client_id.is_empty() {
            return Err(Error::new(
                ErrorKind::Configuration,
                "the client has no client_id",
            ));
        }
        // Each method of ClientAuthentication sends an assertion or authenticates by TLS, so this
        // holds for every grant.
        if self.server.is_chosen_by_resource() {
            let message = format!(
                "{} would choose which authorization server gets this client's credentials and \
                 tokens: list the issuers that may, with AuthorizationServer::only (CL-10)",
                printable_url(self.server.url())
            );
            return Err(Error::new(ErrorKind::Configuration, message));
        }
        if self.actor.is_some() && !matches!(self.grant, Grant::Exchange { .. }) {
            return Err(Error::new(
                ErrorKind::Configuration,
                "there is an actor and no subject to act for: say whose token is exchanged",
            ));
        }
        if self.resources.is_empty() {
            self.resources
                .extend(self.server.resource().map(str::to_owned));
        }
        if let Some(resource) = self
            .resources
            .iter()
            .find(|resource| !is_resource(resource))
        {
            let message = format!(
                "the resource {resource:?} must be an absolute URI without fragment (RFC 8707 \
                 section 2)"
            );
            return Err(Error::new(ErrorKind::Configuration, message));
        }
        let id = new_source_id();
        let (clock, observed) = (self.clock.clone(), self.observed.clone());
        let issuer = Arc::new(Issuer::new(self, id));
        let backoff = Backoff {
            first: Duration::from_secs(1),
            max: Duration::from_secs(60),
        };
        Ok(OAuth {
            cache: Arc::new(Cache::new(issuer, clock, backoff).observed(observed)),
            id,
        })
    }
}

fn is_resource(text: &str) -> bool {
    let scheme = text.split_once(':').map(|(scheme, _)| scheme);
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    };
    !text.contains('#') && scheme.is_some_and(is_scheme)
}

impl fmt::Debug for OAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuth")
            .field("id", &self.id)
            .field("issuer", self.cache.issuer())
            .finish()
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("server", &self.server)
            .field("authentication", &self.authentication)
            .field("resources", &self.resources)
            .finish_non_exhaustive()
    }
}
