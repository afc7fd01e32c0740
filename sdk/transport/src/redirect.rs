//! Redirects: which ones are followed, and where a reference leads (CL-6).
//!
//! A redirect is followed only if it asks for the same request (307 and 308) at the same origin,
//! with the same query, at the same path or one below the configured path. On an origin that
//! several tenants share, another path is another audience: what is sent there carries the access
//! token, and a proof for that connection, to another party.
//!
//! ```text
//! configured  https://rs.example/tenant/mcp         request  https://rs.example/tenant/mcp?a=b
//! followed    /tenant/mcp/?a=b                      a slash at the end
//!             https://rs.example/tenant/mcp/v2?a=b  below the configured path
//! refused     /other/mcp?a=b                        another path
//!             /tenant/mcp/v2                        another query
//!             /tenant/mcp/%2e%2e/x?a=b              escaped, so that servers differ on where it is
//! ```

#[cfg(test)]
mod tests;

use std::fmt;

use bowline_http_client::{Body, Origin, RequestBoundProof};
use bowline_token::shared::text::printable_url;
use http::header::LOCATION;
use http::response::Parts;
use http::{Request, Response, StatusCode, Uri};
use url::Url;

/// The most redirects that are followed for one request.
pub const MAX_REDIRECTS: usize = 3;

/// Why there is no response to return.
#[derive(Debug)]
pub enum FollowError<E> {
    /// A request failed.
    Send(E),
    /// The last response redirects, and is not followed.
    NotFollowed(Box<NotFollowed>),
}

/// A redirect that is not followed.
#[derive(Debug)]
pub struct NotFollowed<B = Body> {
    response: Response<B>,
    reason: Reason,
}

/// Why a redirect is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// It has another status than 307 and 308.
    #[error("only 307 and 308 ask for the same request elsewhere")]
    Status,
    /// The call asked for a proof of its own, which is for one URL.
    #[error("the call's proof is for the URL that it was sent to")]
    RequestBound,
    /// There is no `Location`, or none that a request could be sent to.
    #[error("it names no URL that a request could go to")]
    NoTarget,
    /// Another scheme, host or port.
    #[error("it leads to another origin")]
    OtherOrigin,
    /// A path that is neither the request's nor below the configured one.
    #[error("it leads out of the configured path")]
    OtherPath,
    /// Another query than the request's.
    #[error("it changes the query")]
    OtherQuery,
    /// There were [`MAX_REDIRECTS`] before it.
    #[error("{MAX_REDIRECTS} redirects were followed before it")]
    TooMany,
}

/// Sends a request, and again for each redirect that may be followed. `configured` is the path of
/// the URL that the user configured, below which redirects may lead.
///
/// Each sending is a request of its own: `send` puts in the token, and the client the proof. What a
/// redirect's own body holds is read and dropped first, within bounds.
///
/// # Errors
/// What `send` says, and any redirect that is not followed: statuses of 3xx, apart from 304.
//
// `tower_http::follow_redirect` with its `SameOrigin` policy does not fit. It drops a redirect's
// body, which closes an HTTP/1.1 connection, so that the next request needs a new connection and
// that a new proof; and it turns a POST into a GET at 301 and 302.
pub async fn follow_same_origin<B, F, R, E>(
    request: Request<B>,
    configured: &str,
    send: F,
) -> Result<Response<Body>, FollowError<E>>
where
    B: Clone,
    F: Fn(Request<B>) -> R,
    R: Future<Output = Result<Response<Body>, E>>,
{
    match follow(request, configured, send, crate::body::discard).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(redirect)) => Err(FollowError::NotFollowed(Box::new(redirect))),
        Err(e) => Err(FollowError::Send(e)),
    }
}

/// The loop itself, for any type of response body.
async fn follow<B, T, F, R, E, D>(
    request: Request<B>,
    configured: &str,
    send: F,
    discard: impl Fn(T) -> D,
) -> Result<Result<Response<T>, NotFollowed<T>>, E>
where
    B: Clone,
    F: Fn(Request<B>) -> R,
    R: Future<Output = Result<Response<T>, E>>,
    D: Future<Output = ()>,
{
    let is_request_bound = request.extensions().get::<RequestBoundProof>().is_some();
    let mut current = request.uri().clone();
    let mut followed = 0;
    loop {
        let mut attempt = request.clone();
        *attempt.uri_mut() = current.clone();
        let (head, body) = send(attempt).await?.into_parts();
        if !head.status.is_redirection() || head.status == StatusCode::NOT_MODIFIED {
            return Ok(Ok(Response::from_parts(head, body)));
        }
        let target = match target(request.uri(), &current, configured, &head) {
            Ok(_) if is_request_bound => Err(Reason::RequestBound),
            Ok(_) if followed == MAX_REDIRECTS => Err(Reason::TooMany),
            target => target,
        };
        match target {
            Ok(target) => current = target,
            Err(reason) => {
                let response = Response::from_parts(head, body);
                return Ok(Err(NotFollowed { response, reason }));
            }
        }
        // Not where to: a server may put into a path what it was sent (EX-7).
        tracing::debug!(status = %head.status, "redirected within the origin");
        discard(body).await;
        followed += 1;
    }
}

/// Where a response to a request for `current`, which began as one for `first`, redirects to.
fn target(first: &Uri, current: &Uri, configured: &str, head: &Parts) -> Result<Uri, Reason> {
    if !matches!(
        head.status,
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
    ) {
        return Err(Reason::Status);
    }
    let location = head.headers.get(LOCATION).ok_or(Reason::NoTarget)?;
    let location = location.to_str().map_err(|_| Reason::NoTarget)?;
    // Some readers take a backslash for a slash, and skip white space.
    if location.contains(['\\', ' ', '\t']) {
        return Err(Reason::NoTarget);
    }
    let target = resolve(current, location).map_err(|e| match e {
        ResolveError::OtherOrigin { .. } => Reason::OtherOrigin,
        _ => Reason::NoTarget,
    })?;
    let reference = location.split('#').next().unwrap_or_default();
    let (reference, query) = match reference.split_once('?') {
        Some((reference, query)) => (reference, Some(query)),
        // The empty reference is the request's own URL, its query included (RFC 3986 §5.2.2).
        None if reference.is_empty() => (reference, current.query()),
        None => (reference, None),
    };
    if !is_same_path(target.path(), first.path())
        && (has_escape(reference) || !is_below(target.path(), configured))
    {
        return Err(Reason::OtherPath);
    }
    if query != first.query() {
        return Err(Reason::OtherQuery);
    }
    // As it was sent, and not as the reader of the URL writes it.
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let mut parts = target.clone().into_parts();
    let path = format!("{}{query}", target.path()).parse();
    parts.path_and_query = Some(path.map_err(|_| Reason::NoTarget)?);
    Uri::from_parts(parts).map_err(|_| Reason::NoTarget)
}

fn is_same_path(path: &str, other: &str) -> bool {
    let without_slash = |path: &str| path.strip_suffix('/').unwrap_or(path).to_owned();
    without_slash(path) == without_slash(other)
}

/// Whether a path, which has no dot segments, is below the configured one. Nothing is below the
/// root: everything would be.
fn is_below(path: &str, configured: &str) -> bool {
    let configured = configured.trim_end_matches('/');
    let rest = path.strip_prefix(configured);
    !configured.is_empty() && rest.is_some_and(|rest| rest.starts_with('/')) && !has_escape(path)
}

/// Whether a dot, a slash or a backslash is escaped: servers differ on whether that is one.
fn has_escape(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    ["%2e", "%2f", "%5c"]
        .iter()
        .any(|escape| path.contains(escape))
}

impl<B> NotFollowed<B> {
    /// Why it is not followed.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// Where it leads, as far as a message may show it.
    pub fn target(&self) -> Option<String> {
        shown_location(self.response.headers())
    }

    /// The response, for callers that handle redirects themselves.
    pub fn into_response(self) -> Response<B> {
        self.response
    }
}

/// Where `Location` leads, as far as a message may show it (EX-7).
pub fn shown_location(headers: &http::HeaderMap) -> Option<String> {
    let location = String::from_utf8_lossy(headers.get(LOCATION)?.as_bytes());
    (!location.is_empty()).then(|| printable_url(&location))
}

impl<B> fmt::Display for NotFollowed<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status();
        let target = self.target();
        let target = target.as_deref().unwrap_or("nowhere");
        let reason = self.reason;
        write!(
            f,
            "a redirect (HTTP {status}) to {target} is not followed: {reason}"
        )
    }
}

/// Why a reference is no target for a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// It is not a URL, or too strange a one to be a URI.
    #[error("it is not a URL")]
    NotUrl,
    /// It has another scheme, or no host, or user information.
    #[error("it is no http or https URI, or has user information")]
    NotHttp,
    /// It leads to another origin.
    #[error("it leads from {here} to {there}")]
    OtherOrigin {
        /// The origin of the base.
        here: Origin,
        /// The origin of the target.
        there: Origin,
    },
}

/// The URI that `reference` stands for in what came from `base`, if it is at the same origin,
/// without its fragment (RFC 3986 §5). Its dot segments are removed.
///
/// # Errors
/// See [`ResolveError`].
pub fn resolve(base: &Uri, reference: &str) -> Result<Uri, ResolveError> {
    let url = Url::parse(&base.to_string()).and_then(|base| base.join(reference));
    let mut url = url.map_err(|_| ResolveError::NotUrl)?;
    url.set_fragment(None);
    let uri = Uri::try_from(url.as_str()).map_err(|_| ResolveError::NotUrl)?;
    // Refuses user information as well.
    let there = Origin::from_uri(&uri).map_err(|_| ResolveError::NotHttp)?;
    let here = Origin::from_uri(base).map_err(|_| ResolveError::NotHttp)?;
    if there == here {
        Ok(uri)
    } else {
        Err(ResolveError::OtherOrigin { here, there })
    }
}
