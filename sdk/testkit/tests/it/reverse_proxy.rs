//! The reverse proxy for servers that speak plain HTTP: the requests that reach them, and the
//! responses that come back.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bowline_proof::PROOF_HEADER;
use bowline_testkit::peers::{
    CyclingOptions, CyclingServer, PlainServer, forward, forward_with_grpc,
};
use bowline_testkit::pki::{KeyKind, Pki};
use bowline_testkit::tls::{Alpn, TlsOptions};
use bytes::Bytes;
use futures_util::stream;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, TE};
use http::{HeaderMap, HeaderValue, Version};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::sync::watch;

use crate::client::{Http, soon};

/// The last request at a server behind the reverse proxy, and whether it is still sending.
#[derive(Default)]
struct Upstream {
    seen: watch::Sender<Option<(Version, HeaderMap, Bytes)>>,
    sending: watch::Sender<bool>,
}

impl Upstream {
    fn start() -> (PlainServer, Arc<Self>) {
        let upstream = Arc::new(Self::default());
        let routes = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&upstream));
        (PlainServer::start(routes), upstream)
    }

    fn seen(&self) -> Option<(Version, HeaderMap, Bytes)> {
        self.seen.borrow().clone()
    }
}

/// One piece of data and trailers; at `/endless`, no trailers but endless data.
async fn answer(State(upstream): State<Arc<Upstream>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    upstream
        .seen
        .send_replace(Some((head.version, head.headers, body)));
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let data = Frame::data(Bytes::from_static(b"answer"));
    let response = Response::builder().header(CONTENT_TYPE, "application/grpc");
    let body = if head.uri.path() == "/endless" {
        let sending = Sending::new(upstream);
        Body::new(StreamBody::new(stream::unfold(
            sending,
            |sending| async move {
                tokio::task::yield_now().await;
                Some((
                    Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(&[0; 1024]))),
                    sending,
                ))
            },
        )))
    } else {
        let frames = [Ok::<_, std::io::Error>(data), Ok(Frame::trailers(trailers))];
        Body::new(StreamBody::new(stream::iter(frames)))
    };
    response.body(body).unwrap()
}

/// A body that reports when it is dropped.
struct Sending(Arc<Upstream>);

impl Sending {
    fn new(upstream: Arc<Upstream>) -> Self {
        upstream.sending.send_replace(true);
        Self(upstream)
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.sending.send_replace(false);
    }
}

/// Behind TLS, on HTTP/2.
async fn client(front: Router) -> (CyclingServer, Http) {
    let pki = Pki::new();
    let server = CyclingServer::start(&pki, CyclingOptions::default(), front);
    let leaf = pki.client("agent", KeyKind::P256);
    let config = TlsOptions::alpn(Alpn::Http2).client(&pki, Some(&leaf));
    let http = Http::connect(&config, server.addr()).await;
    (server, http)
}

fn post(path: &str, content_type: &str) -> http::Request<Full<Bytes>> {
    http::Request::post(format!("https://localhost{path}"))
        .header(CONTENT_TYPE, content_type)
        .header(TE, "trailers")
        .header(AUTHORIZATION, "Bearer secret")
        .header(PROOF_HEADER, "secret")
        .body(Full::from("question"))
        .unwrap()
}

#[tokio::test]
async fn grpc_is_passed_on_in_http2_and_comes_back_with_its_trailers() {
    for content_type in [
        "application/grpc",
        "application/grpc+proto",
        "application/grpc; charset=x",
    ] {
        let (plain, upstream) = Upstream::start();
        let (_server, mut http) = client(forward(plain.addr())).await;
        let response = soon(http.send(post("/some.Service/Method", content_type)))
            .await
            .unwrap();
        let collected = soon(response.into_body().collect()).await.unwrap();

        let (version, headers, body) = upstream.seen().unwrap();
        assert_eq!(version, Version::HTTP_2, "{content_type}");
        assert_eq!(headers[TE], "trailers");
        assert_eq!(body, "question");
        assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(collected.to_bytes(), "answer");
        for secret in [AUTHORIZATION, PROOF_HEADER] {
            assert!(!headers.contains_key(&secret), "{secret} ends at the front");
        }
    }
}

#[tokio::test]
async fn all_else_is_passed_on_in_http1_with_the_host_that_it_was_for() {
    for content_type in [
        "application/json",
        "application/grpc-web+proto",
        "text/event-stream",
    ] {
        let (plain, upstream) = Upstream::start();
        let (_server, mut http) = client(forward(plain.addr())).await;
        let response = soon(http.send(post("/path", content_type))).await.unwrap();
        soon(response.into_body().collect()).await.unwrap();

        let (version, headers, body) = upstream.seen().unwrap();
        assert_eq!(version, Version::HTTP_11, "{content_type}");
        assert_eq!(headers[HOST], "localhost");
        assert_eq!(body, "question");
        for secret in [AUTHORIZATION, PROOF_HEADER] {
            assert!(!headers.contains_key(&secret), "{secret} ends at the front");
        }
    }
}

#[tokio::test]
async fn grpc_may_have_a_port_of_its_own() {
    let ((plain, upstream), (grpc_plain, grpc_upstream)) = (Upstream::start(), Upstream::start());
    let (_server, mut http) = client(forward_with_grpc(plain.addr(), grpc_plain.addr())).await;
    soon(http.send(post("/some.Service/Method", "application/grpc")))
        .await
        .unwrap();
    assert!(upstream.seen().is_none() && grpc_upstream.seen().is_some());
    soon(http.send(post("/path", "application/json")))
        .await
        .unwrap();
    assert!(upstream.seen().is_some());
}

#[tokio::test]
async fn whoever_stops_reading_an_answer_in_grpc_stops_upstream_too() {
    let (plain, upstream) = Upstream::start();
    let (_server, mut http) = client(forward(plain.addr())).await;
    let mut response = soon(http.send(post("/endless", "application/grpc")))
        .await
        .unwrap();
    soon(response.body_mut().frame()).await.unwrap().unwrap();
    let mut sending = upstream.sending.subscribe();
    assert!(*sending.borrow_and_update());
    drop(response);
    soon(sending.wait_for(|sending| !sending)).await.unwrap();
}
