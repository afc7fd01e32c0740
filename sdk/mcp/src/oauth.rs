//! Runs rmcp's authorization manager on bowline's client. The authorization server then sees the
//! client's certificate and can bind its tokens to it (AS-1).

use std::time::Duration;

use bowline_http_client::BodyReadError;
use bowline_http_client::Client;
use bowline_transport::redirect::{FollowError, MAX_REDIRECTS, Reason, follow_same_origin};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use rmcp::transport::auth::{
    OAuthHttpClient, OAuthHttpClientError, OAuthHttpClientFuture, OAuthHttpRedirectPolicy,
    OAuthHttpRequest,
};

use crate::error::{Cause, Error};

/// Maximum length of a response in bytes, the limit of rmcp's own client.
const MAX_RESPONSE: usize = 1024 * 1024;
/// Time-out for requests to which rmcp gives none.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// rmcp's [`OAuthHttpClient`] over a [`Client`]: give it to
/// `AuthorizationManager::new_with_oauth_http_client`.
///
/// - Where rmcp allows redirects, a 307 or 308 to the same origin and query is followed, at the
///   same path or below it (CL-6); any other redirect is returned unchanged.
/// - Responses are read up to 1 MiB, within the time that rmcp gives.
/// - Plaintext is refused, except on loopback if the client allows it. The resolved address is not
///   checked: unlike rmcp's default client, this one can be made by a hostile server's metadata to
///   connect to a host of your own network, over TLS.
#[derive(Clone, Debug)]
pub struct OAuthHttp(Client);

impl OAuthHttp {
    /// Uses this client, whose certificate the authorization server sees.
    pub fn new(client: Client) -> Self {
        Self(client)
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        follows: bool,
    ) -> Result<Response<Vec<u8>>, Error> {
        let response = if follows {
            let path = request.uri().path().to_owned();
            match follow_same_origin(request, &path, |request| self.0.send(request)).await {
                Ok(response) => response,
                Err(FollowError::Send(e)) => return Err(e.into()),
                Err(FollowError::NotFollowed(redirect)) => match redirect.reason() {
                    Reason::TooMany => return Err(Cause::TooManyRedirects(MAX_REDIRECTS).into()),
                    _ => redirect.into_response(),
                },
            }
        } else {
            self.0.send(request).await?
        };
        let (head, body) = response.into_parts();
        match body.bytes_limited(MAX_RESPONSE).await {
            Ok(body) => Ok(Response::from_parts(head, body)),
            Err(BodyReadError::Client(e)) => Err(e.into()),
            Err(_) => Err(Cause::ResponseTooLarge {
                limit: MAX_RESPONSE,
            }
            .into()),
        }
    }
}

impl OAuthHttpClient for OAuthHttp {
    fn execute(&self, request: OAuthHttpRequest) -> OAuthHttpClientFuture<'_> {
        Box::pin(async move {
            let OAuthHttpRequest {
                request,
                redirect_policy,
                timeout,
                ..
            } = request;
            let follows = redirect_policy == OAuthHttpRedirectPolicy::Follow;
            let limit = timeout.unwrap_or(DEFAULT_TIMEOUT);
            let exchange = self.exchange(request.map(Full::from), follows);
            match tokio::time::timeout(limit, exchange).await {
                Ok(response) => response.map_err(OAuthHttpClientError::from),
                Err(_) => Err(Error::from(Cause::Timeout(limit)).into()),
            }
        })
    }
}
