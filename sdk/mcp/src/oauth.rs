//! Runs rmcp's authorization manager on bowline's client. The authorization server then sees the
//! client's certificate and can bind its tokens to it (AS-1).

use std::time::Duration;

use bowline_client::Client;
use bowline_transport::head::{MAX_REDIRECTS, onward};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
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
/// - Where rmcp allows redirects, a 307 or 308 to the same origin is followed; any other redirect is
///   returned unchanged.
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
        mut request: Request<Full<Bytes>>,
        follows: bool,
    ) -> Result<Response<Vec<u8>>, Error> {
        for _ in 0..=MAX_REDIRECTS {
            let response = self.0.send(request.clone()).await?;
            let (head, body) = response.into_parts();
            match onward(request.uri(), &head).filter(|_| follows) {
                Some(target) => {
                    body.drain_in_background();
                    *request.uri_mut() = target;
                }
                None => return Ok(Response::from_parts(head, read_body(body).await?)),
            }
        }
        Err(Cause::TooManyRedirects(MAX_REDIRECTS).into())
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

async fn read_body(body: bowline_client::Body) -> Result<Vec<u8>, Error> {
    match Limited::new(body, MAX_RESPONSE).collect().await {
        Ok(body) => Ok(body.to_bytes().to_vec()),
        Err(e) if e.is::<LengthLimitError>() => Err(Cause::ResponseTooLarge {
            limit: MAX_RESPONSE,
        }
        .into()),
        Err(e) => match e.downcast::<bowline_client::Error>() {
            Ok(e) => Err((*e).into()),
            Err(_) => Err(Cause::ResponseTooLarge {
                limit: MAX_RESPONSE,
            }
            .into()),
        },
    }
}
