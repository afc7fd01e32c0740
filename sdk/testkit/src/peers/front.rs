//! A front for a server that speaks plain HTTP: what stands behind it in a test is not ours.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use bowline_proof::PROOF_HEADER;
use http::header::{AUTHORIZATION, CONNECTION, HOST, TRANSFER_ENCODING, UPGRADE};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, Version};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

/// What belongs to one connection (RFC 9110 §7.6.1).
const HOP_BY_HOP: [HeaderName; 4] = [
    CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// Passes every request on to `upstream`, and its answer back, both as they come. Whoever stops reading stops upstream too.
///
/// `Host` stays what it was; token and proof end here. A router: put it behind `BindingLayer` and TLS.
pub fn forward(upstream: SocketAddr) -> Router {
    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    let pass = move |mut request: Request| async move {
        if prepare(&mut request, upstream).is_none() {
            return StatusCode::BAD_REQUEST.into_response();
        }
        match client.request(request).await {
            Ok(response) => {
                let mut response = response.map(Body::new);
                without_hops(response.headers_mut());
                response
            }
            Err(e) => {
                tracing::debug!("the server behind the front: {e}");
                Response::into_response(StatusCode::BAD_GATEWAY.into_response())
            }
        }
    };
    Router::new().fallback(any(pass))
}

fn prepare(request: &mut Request, upstream: SocketAddr) -> Option<()> {
    let path = request.uri().path_and_query().cloned();
    // HTTP/2 has no `Host` but `:authority`.
    if let Some(authority) = request.uri().authority() {
        let host = HeaderValue::from_str(authority.as_str()).ok()?;
        request.headers_mut().insert(HOST, host);
    }
    let uri = Uri::builder().scheme(Scheme::HTTP).authority(upstream.to_string());
    let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = uri.path_and_query(path).build().ok()?;
    *request.version_mut() = Version::HTTP_11;
    without_hops(request.headers_mut());
    request.headers_mut().remove(AUTHORIZATION);
    request.headers_mut().remove(PROOF_HEADER);
    Some(())
}

fn without_hops(headers: &mut HeaderMap) {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}
