//! Small JSON documents over a bowline client, bounded in time and bytes. Errors say what the
//! server sent instead.

use std::time::Duration;

use bowline_http_client::{BodyReadError, Client, ErrorKind as ClientErrorKind};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri, header};
use http_body_util::Full;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::shared::retry_after::retry_after;
use crate::shared::text::{printable_ascii, printable_url};
use crate::{Error, ErrorKind};

/// A longer response is an error: a token is 64 KiB at most, and metadata is shorter.
const MAX_BYTES: usize = 256 * 1024;

/// A response that should be JSON.
pub(super) struct JsonResponse {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    body: Zeroizing<Vec<u8>>,
}

/// Sends a request and reads the response. `label` names the request in errors.
///
/// # Errors
/// [`ErrorKind::Unavailable`], [`ErrorKind::Protocol`], or [`ErrorKind::Configuration`] where the
/// client refused to send it.
pub(super) async fn send(
    client: &Client,
    request: Request<Full<Bytes>>,
    label: &RequestLabel<'_>,
) -> Result<JsonResponse, Error> {
    let response = client
        .send(request)
        .await
        .map_err(|error| label.failed(error))?;
    let (head, body) = response.into_parts();
    if head.status.is_redirection() {
        let message = format!(
            "{label} answered with a redirect ({}); none is followed (CL-6)",
            head.status.as_u16()
        );
        return Err(Error::new(ErrorKind::Protocol, message));
    }
    let body = body
        .bytes_limited(MAX_BYTES)
        .await
        .map_err(|error| match error {
            BodyReadError::Client(error) => label.failed(error),
            _ => label.too_long(),
        })?;
    Ok(JsonResponse {
        status: head.status,
        headers: head.headers,
        body: Zeroizing::new(body),
    })
}

/// Fetches a metadata document.
///
/// # Errors
/// As [`send`], and [`ErrorKind::Metadata`] if it is not there.
pub(super) async fn fetch_json<T: DeserializeOwned>(
    client: &Client,
    uri: Uri,
    label: &RequestLabel<'_>,
    limit: Duration,
) -> Result<T, Error> {
    let request = Request::get(uri)
        .header(header::ACCEPT, "application/json")
        .body(Full::default())
        .map_err(|e| {
            Error::with_source(
                ErrorKind::Metadata,
                format!("{label} has a URL that cannot be fetched"),
                e,
            )
        })?;
    let response = with_timeout(limit, label, send(client, request, label)).await?;
    match response.status {
        StatusCode::OK => response.json(label),
        status if is_transient(status) => Err(response.unavailable(label)),
        status => {
            let message = format!("{label} was not found: the answer is {}", status.as_u16());
            Err(Error::new(ErrorKind::Metadata, message))
        }
    }
}

/// Runs `doing` with a time limit.
pub(super) async fn with_timeout<T>(
    limit: Duration,
    label: &RequestLabel<'_>,
    doing: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(limit, doing).await {
        Ok(done) => done,
        Err(_) => Err(Error::new(
            ErrorKind::Unavailable,
            format!("{label} did not answer within {limit:?}"),
        )),
    }
}

/// Whether the status says nothing about the request, so that another attempt may succeed.
pub(super) fn is_transient(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
        )
}

impl JsonResponse {
    /// The body as a JSON object.
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`]. The message says where the JSON is wrong, and never quotes it.
    pub(super) fn json<T: DeserializeOwned>(&self, label: &RequestLabel<'_>) -> Result<T, Error> {
        if !self.body.trim_ascii_start().starts_with(b"{") {
            let kind = self.headers.get(header::CONTENT_TYPE);
            let kind = kind.map_or("nothing".into(), |kind| {
                printable_ascii(&String::from_utf8_lossy(kind.as_bytes()))
            });
            let message = format!(
                "{label} answered {} with something else than a JSON object (its content type \
                 says {kind})",
                self.status.as_u16()
            );
            return Err(Error::new(ErrorKind::Protocol, message));
        }
        serde_json::from_slice(&self.body).map_err(|e| {
            let wrong = if e.is_data() {
                "a JSON object with a member that has the wrong form, or occurs twice"
            } else {
                "a JSON object that is malformed"
            };
            let message = format!(
                "{label} answered with {wrong} (line {}, column {})",
                e.line(),
                e.column()
            );
            Error::new(ErrorKind::Protocol, message)
        })
    }

    /// The error for a server that cannot answer now.
    pub(super) fn unavailable(&self, label: &RequestLabel<'_>) -> Error {
        let message = format!(
            "{label} is not available: the answer is {}",
            self.status.as_u16()
        );
        Error::new(ErrorKind::Unavailable, message).with_retry_after(self.retry_after())
    }

    /// After which time the server wants another request.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        retry_after(&self.headers)
    }
}

/// Names a request in messages: what is requested, and from which URL.
pub(super) struct RequestLabel<'a> {
    pub(super) name: &'a str,
    pub(super) url: &'a str,
}

impl RequestLabel<'_> {
    /// The error for a request that the client could not carry out.
    fn failed(&self, error: bowline_http_client::Error) -> Error {
        let kind = match error.kind() {
            ClientErrorKind::Protocol => ErrorKind::Protocol,
            ClientErrorKind::Connect
            | ClientErrorKind::TlsHandshake
            | ClientErrorKind::ConnectionLost
            | ClientErrorKind::MayHaveBeenProcessed
            | ClientErrorKind::Timeout(_) => ErrorKind::Unavailable,
            _ => ErrorKind::Configuration,
        };
        Error::with_source(kind, format!("{self} could not be requested"), error)
    }

    fn too_long(&self) -> Error {
        Error::new(
            ErrorKind::Protocol,
            format!("{self} answered with more than {MAX_BYTES} bytes"),
        )
    }
}

impl std::fmt::Display for RequestLabel<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name, printable_url(self.url))
    }
}
