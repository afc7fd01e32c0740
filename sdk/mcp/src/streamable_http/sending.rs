//! Sending: the access token, and the redirects that stay at their origin.

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

use super::{Failure, client, failed};
use crate::error::{Cause, Error};

/// Where access tokens come from.
#[derive(Clone)]
pub(super) enum Credential {
    /// From rmcp's `auth_header`, if at all: they are each other's successors.
    Theirs(TokenSourceId),
    Fixed(AccessToken),
    Source(Own),
}

/// A source, and the client that carries its tokens to the origin of the first request, and to no
/// other (CL-6).
#[derive(Clone)]
pub(super) struct Own {
    source: Arc<dyn TokenSource>,
    authorized: Arc<OnceLock<Authorized>>,
}

impl Own {
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
            Self::Theirs(_) => "Theirs",
            Self::Fixed(_) => "Fixed",
            Self::Source(_) => "Source",
        })
    }
}

/// Sends a request, and once more for each redirect to the same origin.
///
/// # Errors
/// Those of the client and of the token source; `Redirects` for too many of them.
pub(super) async fn send(
    http: &Client,
    credential: &Credential,
    mut request: Request<Full<Bytes>>,
) -> Result<Response<Body>, Failure> {
    for _ in 0..=MAX_REDIRECTS {
        let response = send_once(http, credential, request.clone())
            .await
            .map_err(failed)?;
        let (head, rest) = response.into_parts();
        let Some(target) = onward(request.uri(), &head) else {
            return Ok(Response::from_parts(head, rest));
        };
        // Not where to: a server may put into a path what it was sent (EX-7).
        tracing::debug!(status = %head.status, "redirected within the origin");
        body::discard(rest).await;
        *request.uri_mut() = target;
    }
    Err(client(Cause::Redirects(MAX_REDIRECTS)))
}

/// One that is refused with `invalid_token` is sent once more if the source has another token.
async fn send_once(
    http: &Client,
    credential: &Credential,
    request: Request<Full<Bytes>>,
) -> Result<Response<Body>, Error> {
    match credential {
        Credential::Source(own) => Ok(own.authorized(http, request.uri())?.send(request).await?),
        Credential::Theirs(_) | Credential::Fixed(_) => Ok(http.send(request).await?),
    }
}
