//! Writes a request's head for its connection, and reads whether an HTTP/1.1 response lets the
//! connection go on.

use std::time::Duration;

use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, Version, header,
    request,
};

use crate::bind::Attachment;
use crate::body::ReplayBody;
use crate::conn::facts::HttpVersion;
use crate::conn::live::Connection;
use crate::pool::{KeepAlive, Persistence};

/// The request as this connection sends it. `authorization` is the access token that came apart from
/// the header fields.
pub(super) fn assemble(
    parts: &request::Parts,
    authorization: Option<&HeaderValue>,
    connection: &Connection,
    attached: Option<&Attachment>,
    body: ReplayBody,
) -> Request<ReplayBody> {
    let mut headers = HeaderMap::with_capacity(parts.headers.len() + MAX_ADDED);
    let mut has_host = false;
    for (name, value) in &parts.headers {
        has_host |= name == header::HOST;
        headers.append(name, value.clone());
    }
    let authorization = attached
        .and_then(|attached| attached.authorization.as_ref())
        .or(authorization);
    if let Some(authorization) = authorization {
        headers.insert(header::AUTHORIZATION, authorization.clone());
    }
    if let Some(attached) = attached {
        // `insert`: exactly one (CL-1), and never one of another connection (CL-2).
        headers.insert(attached.name.clone(), attached.value.clone());
    }
    let (uri, version, body) = match connection.facts.http() {
        HttpVersion::H1 => {
            if let Some(host) = &connection.host
                && !has_host
            {
                headers.insert(header::HOST, host.clone());
            }
            // Origin form (RFC 9112 §3.2.1).
            let path = parts.uri.path_and_query().cloned();
            let uri = path.map_or_else(|| Uri::from_static("/"), Uri::from);
            (uri, Version::HTTP_11, body)
        }
        HttpVersion::H2 => (
            parts.uri.clone(),
            Version::HTTP_2,
            body.on(&connection.wire),
        ),
    };
    let mut request = Request::new(body);
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = uri;
    *request.version_mut() = version;
    *request.headers_mut() = headers;
    if !parts.extensions.is_empty() {
        *request.extensions_mut() = parts.extensions.clone();
    }
    request
}

/// `Authorization`, a proof, and what HTTP/1.1 needs: `Host` and the body's length.
const MAX_ADDED: usize = 4;

/// What an h1 response says about its connection's future.
pub(super) fn persistence(version: Version, headers: &HeaderMap, body_sent: bool) -> Persistence {
    // Most responses have neither field: one look at each name costs less than to look up two.
    let has = |wanted: &HeaderName| headers.keys().any(|name| name == wanted);
    Persistence {
        is_last: match has(&header::CONNECTION) {
            true => says_close(version, headers),
            false => version < Version::HTTP_11,
        },
        keep_alive: match has(&KEEP_ALIVE) {
            true => keep_alive(headers),
            false => KeepAlive::default(),
        },
        body_sent,
    }
}

/// Whether an h1 response is its connection's last (RFC 9112 §9.3).
pub(super) fn says_close(version: Version, headers: &HeaderMap) -> bool {
    let says = |option: &[u8]| {
        members(headers, header::CONNECTION).any(|member| member.eq_ignore_ascii_case(option))
    };
    says(b"close") || (version < Version::HTTP_11 && !says(b"keep-alive"))
}

/// The members of a list field, of all its lines, without white space around them (RFC 9110 §5.6.1).
/// As bytes: one that is not text must not hide the others.
fn members(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(name).into_iter();
    lines
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
}

/// Whether the server says that no request came in time, and closes the connection. On one that had
/// carried requests before, that and the next request have crossed (RFC 9110 §15.5.9): another try
/// is allowed.
pub(super) fn has_waited_too_long<B>(response: &Response<B>) -> bool {
    response.status() == StatusCode::REQUEST_TIMEOUT
        && response.version() < Version::HTTP_2
        && says_close(response.version(), response.headers())
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// `Keep-Alive: timeout=N, max=M`; of the time-out one second less, so that no request is sent just
/// as the server closes.
pub(super) fn keep_alive(headers: &HeaderMap) -> KeepAlive {
    let mut said = KeepAlive::default();
    for parameter in members(headers, KEEP_ALIVE) {
        let parameter = str::from_utf8(parameter).ok();
        let Some((name, value)) = parameter.and_then(|parameter| parameter.split_once('=')) else {
            continue;
        };
        let Ok(value) = value.trim().trim_matches('"').parse::<u32>() else {
            continue;
        };
        let name = name.trim();
        if name.eq_ignore_ascii_case("timeout") {
            let timeout = Duration::from_secs(u64::from(value.saturating_sub(1)));
            said.timeout.get_or_insert(timeout);
        } else if name.eq_ignore_ascii_case("max") {
            said.max.get_or_insert(u64::from(value));
        }
    }
    said
}

#[cfg(test)]
mod tests;
