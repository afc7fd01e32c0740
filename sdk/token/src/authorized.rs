//! A client and a source together: each request carries a token.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bowline_http_client::{Body, Client, NoRetryOn401, Origin};
use bowline_proof::{AccessToken, Demand, Scheme, challenges};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use tower_service::Service;

use crate::error::BoxError;
use crate::{Error, ErrorKind, Token, TokenSource};

/// A client whose requests carry a token of a source, to one origin and no other (CL-6).
///
/// A request that the resource refuses with `invalid_token` is sent once more, whatever its method,
/// if the source has another token: a server that refuses a request like this has not acted on it.
/// That is so where the resource itself says it, so the rule is narrow ([`is_invalid_token`]): a
/// challenge of the scheme that the token went with, and its `error` exactly `invalid_token`.
///
/// A gateway that acts on a request and then passes on the 401 of a server behind it, challenge
/// included, would be called twice. For a request that must not be repeated even so, put
/// [`NoRetryOn401`] into its extensions: the caller gets the 401, and the source still learns that
/// its token was refused.
#[derive(Clone)]
pub struct Authorized {
    client: Client,
    source: Arc<dyn TokenSource>,
    origin: Origin,
}

/// In the extensions of a response that does not refuse the token by 401 `invalid_token`: the token
/// that its request carried, for [`Authorized::refused`].
#[derive(Clone, Debug)]
pub struct SentToken {
    token: Token,
    /// The request was sent once only.
    may_be_replaced: bool,
}

/// In the extensions of a request: it is sent for the second time because its first token was
/// refused, and [`Authorized::send`] sends it once.
#[derive(Clone, Copy, Debug)]
pub struct SentAgain;

impl Authorized {
    /// Puts tokens of `source` into requests to the origin of `resource`, an absolute URL.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if `resource` is not such a URL.
    pub fn new(client: Client, source: impl TokenSource, resource: &str) -> Result<Self, Error> {
        let unusable = |e: BoxError| {
            Error::with_source(
                ErrorKind::Configuration,
                "the resource must be an absolute URL",
                e,
            )
        };
        let uri = resource
            .parse::<http::Uri>()
            .map_err(|e| unusable(e.into()))?;
        let origin = Origin::from_uri(&uri).map_err(|e| unusable(e.into()))?;
        Ok(Self {
            client,
            source: Arc::new(source),
            origin,
        })
    }

    /// The client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The source.
    pub fn source(&self) -> &Arc<dyn TokenSource> {
        &self.source
    }

    /// Sends a request with a token, and once more with another if the first is refused.
    ///
    /// # Errors
    /// [`ErrorKind::OtherOrigin`]; those of the source; [`ErrorKind::Request`] for those of the
    /// client ([`Error::client`]).
    pub async fn send<B>(&self, request: Request<B>) -> Result<Response<Body>, Error>
    where
        B: http_body::Body<Data = Bytes> + Clone + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if request.extensions().get::<SentAgain>().is_some() {
            return self.send_once(request).await;
        }
        let copy = request.clone();
        let may_retry = request.extensions().get::<NoRetryOn401>().is_none();
        let (mut response, refused) = self.send_with_token(request).await?;
        let Some(refused) = refused.filter(|_| may_retry) else {
            if let Some(sent) = response.extensions_mut().get_mut::<SentToken>() {
                sent.may_be_replaced = may_retry;
            }
            return Ok(response);
        };
        // If there is no other token, the resource's response says more than the source's error.
        match self.other_than(&refused).await {
            Some(token) => {
                response.into_body().drain_in_background();
                let (response, _) = self.attempt(copy, token).await?;
                Ok(response)
            }
            None => Ok(response),
        }
    }

    /// Reports that the token of a request was refused otherwise than by 401 `invalid_token`: gRPC
    /// has a status of its own, in a response with HTTP 200. Whether the request may be sent again,
    /// with [`SentAgain`]: it was sent once, and the source has another token.
    pub async fn refused(&self, sent: &SentToken) -> bool {
        self.source.refused(&sent.token);
        sent.may_be_replaced && self.other_than(&sent.token).await.is_some()
    }

    async fn other_than(&self, refused: &Token) -> Option<Token> {
        let token = self.source.token().await.ok()?;
        (token != *refused).then_some(token)
    }

    /// Sends a request whose body cannot be read twice. A refused token is reported to the source,
    /// and the refusal returned.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn send_once<B>(&self, request: Request<B>) -> Result<Response<Body>, Error>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (response, _) = self.send_with_token(request).await?;
        Ok(response)
    }

    async fn send_with_token<B>(
        &self,
        request: Request<B>,
    ) -> Result<(Response<Body>, Option<Token>), Error>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let origin = Origin::from_uri(request.uri()).map_err(bowline_http_client::Error::from)?;
        if origin != self.origin {
            let message = format!(
                "the request is for {origin}, and its tokens are for {}",
                self.origin
            );
            return Err(Error::new(ErrorKind::OtherOrigin, message));
        }
        let token = self.source.token().await?;
        self.attempt(request, token).await
    }

    /// The response, and the token if it was refused.
    async fn attempt<B>(
        &self,
        mut request: Request<B>,
        token: Token,
    ) -> Result<(Response<Body>, Option<Token>), Error>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        token.attach(&mut request);
        let mut response = self.client.send(request).await?;
        if !is_invalid_token(&response, token.access_token()) {
            response.extensions_mut().insert(SentToken {
                token,
                may_be_replaced: false,
            });
            return Ok((response, None));
        }
        self.source.refused(&token);
        Ok((response, Some(token)))
    }
}

/// Whether the response refuses `sent`, the token that its request carried, so that another might
/// pass: 401 with a challenge of the token's scheme whose `error` is `invalid_token` (RFC 6750
/// §3.1, RFC 9449 §7.1). What another scheme means by that word is unknown.
pub fn is_invalid_token<B>(response: &Response<B>, sent: &AccessToken) -> bool {
    // A token that is bound to a DPoP key goes with that scheme, whatever the caller gave.
    let scheme = match sent.demand() {
        Ok(Demand::Dpop) => Scheme::Dpop,
        _ => sent.scheme(),
    };
    response.status() == StatusCode::UNAUTHORIZED
        && challenges(response.headers()).iter().any(|challenge| {
            challenge.scheme.eq_ignore_ascii_case(scheme.name())
                && challenge.error() == Some("invalid_token")
        })
}

impl<B> Service<Request<B>> for Authorized
where
    B: http_body::Body<Data = Bytes> + Clone + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { this.send(request).await })
    }
}

impl std::fmt::Debug for Authorized {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authorized")
            .field("client", &self.client)
            .field("source", &self.source.id())
            .field("origin", &self.origin)
            .finish()
    }
}
