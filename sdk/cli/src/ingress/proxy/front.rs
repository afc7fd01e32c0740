//! What is refused before anything else is looked at: requests that this server and the one behind
//! could understand differently, and what cannot be passed on.

use std::pin::Pin;
use std::task::{Context, Poll};

use http::header::HOST;
use http::request::Parts;
use http::uri::{Authority, Scheme};
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use tower::Service;

use super::answer::{self, Refused};
use super::body::Body;
use super::unread::{self, LentBody};
use crate::passing::fields::ask_for_websocket;

/// The outermost service.
#[derive(Clone)]
pub(crate) struct Front<S>(pub(crate) S);

impl<S> Service<Request<Incoming>> for Front<S>
where
    S: Service<Request<LentBody>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let (request, unread) = unread::lend(request);
        let (parts, body) = request.into_parts();
        let passed = check(&parts).map(|()| self.0.call(Request::from_parts(parts, body)));
        Box::pin(async move {
            let response = match passed {
                Ok(response) => response.await?,
                Err(refused) => answer::refusal(refused),
            };
            unread.read().await;
            Ok(response)
        })
    }
}

fn check(request: &Parts) -> Result<(), Refused> {
    let refused = |status, reason, text| Err(Refused::new(status, reason, text));
    if request.method == Method::CONNECT {
        return refused(
            StatusCode::NOT_IMPLEMENTED,
            "connect",
            "CONNECT is not supported",
        );
    }
    if ask_for_websocket(&request.headers) {
        return refused(
            StatusCode::NOT_IMPLEMENTED,
            "websocket",
            "WebSocket is not supported: nothing would verify what comes after the handshake",
        );
    }
    let is_form = match request.uri.path() {
        "*" => request.method == Method::OPTIONS,
        path => path.starts_with('/'),
    };
    if !is_form {
        return refused(
            StatusCode::BAD_REQUEST,
            "target",
            "the request target is not a path",
        );
    }
    check_host(request)
}

/// RFC 9112 section 3.2, RFC 9113 section 8.3.1: one host, and the same one wherever it stands.
fn check_host(request: &Parts) -> Result<(), Refused> {
    let refused = |text| Err(Refused::new(StatusCode::BAD_REQUEST, "host", text));
    let target = request.uri.authority();
    if request.version < Version::HTTP_2
        && request
            .uri
            .scheme()
            .is_some_and(|scheme| *scheme != Scheme::HTTPS)
    {
        return refused("the request target has another scheme");
    }
    let mut fields = request.headers.get_all(HOST).iter();
    let field = match (fields.next(), fields.next()) {
        (_, Some(_)) => return refused("more than one Host field"),
        (field, None) => field,
    };
    let field = match field {
        Some(field) => match Authority::try_from(field.as_bytes()) {
            Ok(host) => Some(host),
            Err(_) => return refused("the Host field is malformed"),
        },
        None => None,
    };
    for host in field.iter().chain(target) {
        if host.as_str().contains('@') || host.host().is_empty() {
            return refused("the host is malformed");
        }
    }
    match (&field, target) {
        (None, None) => refused("no Host field"),
        (Some(field), Some(target)) if !is_same_host(field, target) => {
            refused("the Host field names another host than the request target")
        }
        _ => Ok(()),
    }
}

fn is_same_host(one: &Authority, other: &Authority) -> bool {
    let port = |authority: &Authority| authority.port_u16().unwrap_or(443);
    one.host().eq_ignore_ascii_case(other.host()) && port(one) == port(other)
}

#[cfg(test)]
mod tests;
