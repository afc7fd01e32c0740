//! rmcp's authorization manager, over bowline's client: the authorization server sees the client's
//! certificate, so that it can bind its tokens to it (AS-1).

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

/// As much of an answer is read: what rmcp's own client reads.
const LONGEST: usize = 1024 * 1024;
/// For those requests to which rmcp gives none.
const TIME: Duration = Duration::from_secs(30);

/// rmcp's [`OAuthHttpClient`] over a [`Client`]: give it to
/// `AuthorizationManager::new_with_oauth_http_client`.
///
/// - Where rmcp lets redirects be followed, a 307 or 308 to the same origin is; any other is
///   returned as it is.
/// - Answers are read up to 1 MiB, within the time that rmcp gives.
/// - Plaintext is refused, loopback aside if the client allows it. What a name resolves to is not
///   looked at: unlike with rmcp's default client, metadata of a hostile server can make this one
///   connect to a host of your own network, over TLS.
#[derive(Clone, Debug)]
pub struct OAuthHttp(Client);

impl OAuthHttp {
    /// Over this client, whose certificate the authorization server sees.
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
                None => return Ok(Response::from_parts(head, whole(body).await?)),
            }
        }
        Err(Cause::Redirects(MAX_REDIRECTS).into())
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
            let limit = timeout.unwrap_or(TIME);
            let exchange = self.exchange(request.map(Full::from), follows);
            match tokio::time::timeout(limit, exchange).await {
                Ok(response) => response.map_err(OAuthHttpClientError::from),
                Err(_) => Err(Error::from(Cause::TimedOut(limit)).into()),
            }
        })
    }
}

async fn whole(body: bowline_client::Body) -> Result<Vec<u8>, Error> {
    match Limited::new(body, LONGEST).collect().await {
        Ok(body) => Ok(body.to_bytes().to_vec()),
        Err(e) if e.is::<LengthLimitError>() => Err(Cause::AnswerTooLong { limit: LONGEST }.into()),
        Err(e) => match e.downcast::<bowline_client::Error>() {
            Ok(e) => Err((*e).into()),
            Err(_) => Err(Cause::AnswerTooLong { limit: LONGEST }.into()),
        },
    }
}
