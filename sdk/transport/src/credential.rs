//! Where the access token of a request comes from.

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, OnceLock};

use bowline_http_client::bind::TokenSourceId;
use bowline_http_client::{AccessToken, Body, Client};
use bowline_token::{Authorized, Error, SentToken, TokenSource, new_source_id};

pub use bowline_token::SentAgain;
use bytes::Bytes;
use http::{Extensions, Request, Response};

/// Where the access tokens of an adapter's requests come from.
#[derive(Clone)]
pub enum Credential {
    /// The caller gives one with each call, or none. Under this id the client knows that one token
    /// succeeds another, where the adapter puts them into the requests.
    FromCaller(TokenSourceId),
    /// This one.
    Fixed(AccessToken),
    /// From a source.
    Source(SourceCredential),
}

/// A source, and the client that carries its tokens to one origin and no other (CL-6).
#[derive(Clone)]
pub struct SourceCredential {
    source: Arc<dyn TokenSource>,
    authorized: Arc<OnceLock<Authorized>>,
}

/// A call gives an access token, and the adapter has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("two access tokens for one request: give one")]
pub struct TwoTokens;

impl Credential {
    /// From the caller, with an id of its own.
    pub fn from_caller() -> Self {
        Self::FromCaller(new_source_id())
    }

    /// From this source. Its tokens go to the origin of the first request, and to no other.
    pub fn from_source(source: impl TokenSource) -> Self {
        Self::Source(SourceCredential {
            source: Arc::new(source),
            authorized: Arc::default(),
        })
    }

    /// From the source of this client, and by this client, whatever client [`send`](Self::send) is
    /// given.
    pub fn from_authorized(authorized: Authorized) -> Self {
        Self::Source(SourceCredential {
            source: authorized.source().clone(),
            authorized: Arc::new(OnceLock::from(authorized)),
        })
    }

    /// Whether the adapter has a token, so that a call must not give another.
    pub fn has_token(&self) -> bool {
        !matches!(self, Self::FromCaller(_))
    }

    /// Puts the token that is known before the request is sent into the request's extensions: the
    /// one that the call gives, or the fixed one. A source's comes when it is sent.
    ///
    /// # Errors
    /// [`TwoTokens`].
    pub fn attach_to(
        &self,
        given: Option<AccessToken>,
        extensions: &mut Extensions,
    ) -> Result<(), TwoTokens> {
        match (self, given) {
            (Self::FromCaller(source), Some(token)) => {
                extensions.insert(token);
                extensions.insert(*source);
            }
            (_, Some(_)) => return Err(TwoTokens),
            (Self::Fixed(token), None) => {
                extensions.insert(token.clone());
            }
            (Self::FromCaller(_) | Self::Source(_), None) => {}
        }
        Ok(())
    }

    /// Sends a request. One that is refused with `invalid_token` is sent once more if the source
    /// has another token.
    ///
    /// # Errors
    /// Those of the source, and those of the client with the kind `Request`.
    pub async fn send<B>(
        &self,
        client: &Client,
        request: Request<B>,
    ) -> Result<Response<Body>, Error>
    where
        B: http_body::Body<Data = Bytes> + Clone + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        match self {
            Self::Source(source) => source.authorized(client, &request)?.send(request).await,
            Self::FromCaller(_) | Self::Fixed(_) => Ok(client.send(request).await?),
        }
    }
}

impl Credential {
    /// Reports that a response refused the token of its request otherwise than by 401
    /// `invalid_token`. Whether the request may be sent again, with [`SentAgain`]: it was sent
    /// once, and the source has another token.
    pub async fn refused(&self, response: &Extensions) -> bool {
        match (self, response.get::<SentToken>()) {
            (Self::Source(source), Some(sent)) => match source.authorized.get() {
                Some(authorized) => authorized.refused(sent).await,
                None => false,
            },
            _ => false,
        }
    }
}

impl SourceCredential {
    fn authorized<B>(&self, client: &Client, request: &Request<B>) -> Result<&Authorized, Error> {
        if let Some(authorized) = self.authorized.get() {
            return Ok(authorized);
        }
        let uri = request.uri().to_string();
        let authorized = Authorized::new(client.clone(), self.source.clone(), &uri)?;
        Ok(self.authorized.get_or_init(|| authorized))
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FromCaller(_) => "FromCaller",
            Self::Fixed(_) => "Fixed",
            Self::Source(_) => "Source",
        })
    }
}

impl fmt::Debug for SourceCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin_is_known = self.authorized.get().is_some();
        f.debug_struct("SourceCredential")
            .field("source", &self.source.id())
            .field("origin_is_known", &origin_is_known)
            .finish()
    }
}
