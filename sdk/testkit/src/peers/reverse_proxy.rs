//! A reverse proxy for a server that speaks plain HTTP: a test puts a server behind it that is not
//! ours.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use bowline_proof::PROOF_HEADER;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, TRANSFER_ENCODING, UPGRADE};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, Version};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

/// Header fields of one connection (RFC 9110 §7.6.1).
const HOP_BY_HOP: [HeaderName; 4] = [
    CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// Forwards every request to `upstream` and streams the response back. A client that stops reading
/// stops upstream too.
///
/// Requests are forwarded in HTTP/1.1; gRPC, recognised by its content type, in HTTP/2 with prior
/// knowledge, trailers included. `Host` is kept (in HTTP/2 it is upstream's); token and proof are
/// removed. It is a router: put it behind `BindingLayer` and TLS.
pub fn forward(upstream: SocketAddr) -> Router {
    forward_with_grpc(upstream, upstream)
}

/// Like [`forward`], for a server with a separate port for gRPC.
pub fn forward_with_grpc(upstream: SocketAddr, grpc: SocketAddr) -> Router {
    let http1 = Client::builder(TokioExecutor::new()).build_http::<Body>();
    let http2 = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http::<Body>();
    let forward = move |mut request: Request| async move {
        let (client, upstream, version) = if is_grpc(request.headers()) {
            (http2, grpc, Version::HTTP_2)
        } else {
            (http1, upstream, Version::HTTP_11)
        };
        if prepare(&mut request, upstream, version).is_none() {
            return StatusCode::BAD_REQUEST.into_response();
        }
        match client.request(request).await {
            Ok(response) => {
                let mut response = response.map(Body::new);
                without_hops(response.headers_mut());
                response
            }
            Err(e) => {
                tracing::debug!("the server behind the reverse proxy: {e}");
                Response::into_response(StatusCode::BAD_GATEWAY.into_response())
            }
        }
    };
    Router::new().fallback(any(forward))
}

/// `application/grpc`, bare or with a suffix or parameters; `application/grpc-web` is another
/// protocol.
fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let rest = content_type.and_then(|value| value.strip_prefix(b"application/grpc"));
    matches!(rest, Some([] | [b'+' | b';', ..]))
}

fn prepare(request: &mut Request, upstream: SocketAddr, version: Version) -> Option<()> {
    let path = request.uri().path_and_query().cloned();
    if version == Version::HTTP_2 {
        request.headers_mut().remove(HOST);
    } else if let Some(authority) = request.uri().authority() {
        // HTTP/2 has no `Host` but `:authority`.
        let host = HeaderValue::from_str(authority.as_str()).ok()?;
        request.headers_mut().insert(HOST, host);
    }
    let uri = Uri::builder()
        .scheme(Scheme::HTTP)
        .authority(upstream.to_string());
    let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = uri.path_and_query(path).build().ok()?;
    *request.version_mut() = version;
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
