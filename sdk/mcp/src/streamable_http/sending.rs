//! Sends a request with an access token, and follows redirects within its origin.

use std::fmt;
use std::sync::{Arc, OnceLock};

use bowline_client::bind::TokenSourceId;
use bowline_client::{AccessToken, Body, Client};
use bowline_token::{Authorized, TokenSource};
use bowline_transport::body;
use bowline_transport::head::{MAX_REDIRECTS, onward};
use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;

use super::{RmcpError, client_error};
use crate::error::{Cause, Error};

/// Where access tokens come from.
#[derive(Clone)]
pub(super) enum Credential {
    /// From rmcp's `auth_header`, if it has one. Successive tokens count as one source.
    FromCaller(TokenSourceId),
    Fixed(AccessToken),
    Source(OriginSource),
}

/// A token source, and the client that carries its tokens to the origin of the first request and to
/// no other (CL-6).
#[derive(Clone)]
pub(super) struct OriginSource {
    source: Arc<dyn TokenSource>,
    authorized: Arc<OnceLock<Authorized>>,
}

impl OriginSource {
    pub(super) fn new(source: impl TokenSource) -> Self {
        Self {
            source: Arc::new(source),
            authorized: Arc::default(),
        }
    }

    fn authorized(&self, http: &Client, uri: &Uri) -> Result<&Authorized, Error> {
        if let Some(authorized) = self.authorized.get() {
            return Ok(authorized);
        }
        let authorized = Authorized::new(http.clone(), self.source.clone(), &uri.to_string())?;
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

/// Sends a request, and again for each redirect within the origin.
///
/// # Errors
/// Those of the client and of the token source; `Redirects` if there are too many.
pub(super) async fn send(
    http: &Client,
    credential: &Credential,
    mut request: Request<Full<Bytes>>,
) -> Result<Response<Body>, RmcpError> {
    for _ in 0..=MAX_REDIRECTS {
        let response = send_once(http, credential, request.clone())
            .await
            .map_err(client_error)?;
        let (head, rest) = response.into_parts();
        let Some(target) = onward(request.uri(), &head) else {
            return Ok(Response::from_parts(head, rest));
        };
        // The target is not logged: a server may put into a path what it was sent (EX-7).
        tracing::debug!(status = %head.status, "redirected within the origin");
        body::discard(rest).await;
        *request.uri_mut() = target;
    }
    Err(client_error(Cause::TooManyRedirects(MAX_REDIRECTS)))
}

/// With a token source, a request refused with `invalid_token` is sent again if the source has
/// another token.
async fn send_once(
    http: &Client,
    credential: &Credential,
    request: Request<Full<Bytes>>,
) -> Result<Response<Body>, Error> {
    match credential {
        Credential::Source(source) => Ok(source
            .authorized(http, request.uri())?
            .send(request)
            .await?),
        Credential::FromCaller(_) | Credential::Fixed(_) => Ok(http.send(request).await?),
    }
}
