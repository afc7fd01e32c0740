//! Requests and responses without a failure.

use std::future::Future;
use std::pin::Pin;

use bowline_http_client::bind::BindingRefusal;
use bowline_http_client::{Cause, Operation, Protocol};
use bowline_reqwest::{Error, Transport};
use bowline_testkit::peers::CyclingOptions;
use futures_util::StreamExt;
use reqwest::{Body, Method, Request, Response, Version};
use serde_json::{Value, json};
use tower_service::Service;

use crate::fixture::{A_MINUTE, BOTH, Fixture, upload, within};

#[tokio::test]
async fn a_get_and_a_json_post_are_answered() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let transport = fixture.transport();

    let url = format!("{}/mirror?a=1&b=%20#part", server.origin());
    let response = transport.execute(fixture.get(&url)).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.version(), Version::HTTP_2);
    assert_eq!(response.url().as_str(), url);
    assert_eq!(response.headers()["content-type"], "application/json");
    assert!(response.content_length().is_some());
    assert_eq!(response.remote_addr(), None, "the documentation says so");
    let mirrored: Value = response.json().await.unwrap();
    assert_eq!(mirrored["method"], "GET");
    assert_eq!(mirrored["target"], "/mirror?a=1&b=%20");

    let request = fixture
        .request(Method::POST, &url)
        .header("x-one", "1")
        .json(&json!({ "a": [1, 2] }));
    let response = transport.execute(request.build().unwrap()).await.unwrap();
    let mirrored: Value = response.error_for_status().unwrap().json().await.unwrap();
    assert_eq!(mirrored["method"], "POST");
    assert_eq!(mirrored["body"], r#"{"a":[1,2]}"#);
    assert_eq!(
        mirrored["headers"]["content-type"],
        json!(["application/json"])
    );
    assert_eq!(mirrored["headers"]["content-length"], json!(["11"]));
    assert_eq!(mirrored["headers"]["x-one"], json!(["1"]));
}

#[tokio::test]
async fn bodies_stream_both_ways_at_once() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    for http in BOTH {
        let (chunks, body) = upload();
        let request = fixture
            .request(Method::POST, format!("{}/stream", server.origin()))
            .body(body);
        let transport = fixture.transport_over(http);
        let mut response = within(A_MINUTE, transport.execute(request.build().unwrap()))
            .await
            .unwrap();
        // Each chunk comes back before the next one exists: nothing waits for the whole body.
        for n in 0..5 {
            let chunk = format!("chunk {n}");
            chunks.send(Ok(chunk.clone())).unwrap();
            assert_eq!(
                within(A_MINUTE, response.chunk()).await.unwrap().unwrap(),
                chunk,
                "{http:?}"
            );
        }
        drop(chunks);
        assert_eq!(
            within(A_MINUTE, response.bytes()).await.unwrap(),
            "",
            "{http:?}"
        );
    }
}

#[tokio::test]
async fn bodies_larger_than_every_buffer_arrive_whole() {
    const CHUNKS: usize = 256;
    const CHUNK: &[u8] = &[b'x'; 32 * 1024];
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    for http in BOTH {
        let chunks = futures_util::stream::iter((0..CHUNKS).map(|_| Ok::<_, Error>(CHUNK)));
        let request = fixture
            .request(Method::PUT, format!("{}/stream", server.origin()))
            .body(Body::wrap_stream(chunks));
        let response = fixture
            .transport_over(http)
            .execute(request.build().unwrap())
            .await
            .unwrap();
        let bytes = response
            .bytes_stream()
            .fold(0, async |bytes, chunk| bytes + chunk.unwrap().len());
        assert_eq!(bytes.await, CHUNKS * CHUNK.len(), "{http:?}");
    }
}

#[tokio::test]
async fn a_redirect_is_the_callers_to_follow() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let url = format!("{}/redirect", server.origin());
    let response = fixture
        .transport()
        .execute(fixture.get(&url))
        .await
        .unwrap();
    assert_eq!(response.status(), 303);
    assert_eq!(response.headers()["location"], "/mirror");
    assert_eq!(response.url().as_str(), url);
    assert_eq!(fixture.log.all().len(), 1);
}

#[tokio::test]
async fn an_error_status_is_a_response_that_knows_its_url() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let url = format!("{}/teapot", server.origin());
    let response = fixture
        .transport()
        .execute(fixture.get(&url))
        .await
        .unwrap();
    let error = response.error_for_status().unwrap_err();
    assert_eq!(error.status().unwrap(), 418);
    assert_eq!(error.url().unwrap().as_str(), url);
}

#[tokio::test]
async fn extensions_go_out_with_the_request_and_come_back_with_the_response() {
    const THINGS: Operation = Operation::new(Protocol::HTTP, "things");
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let client = fixture.client();
    let request = http::Request::get(format!("{}/refuse", server.origin()))
        .extension(fixture.token("in an extension"))
        .extension(THINGS)
        .body("")
        .unwrap();

    let transport = Transport::from(client.clone());
    let response = transport
        .execute(Request::try_from(request).unwrap())
        .await
        .unwrap();

    let refusal: &BindingRefusal = response
        .extensions()
        .get()
        .expect("a fresh proof was refused twice");
    assert_eq!(refusal.error, "invalid_proof");
    let row = &client.stats().operations[&THINGS];
    assert_eq!(
        row.causes,
        [(Cause::First, 1), (Cause::Challenge, 1)].into()
    );
}

/// A tower service as a trait object, which a stack of layers may be built on.
type Sending = Pin<Box<dyn Future<Output = Result<Response, Error>> + Send>>;
type AnyService =
    Box<dyn Service<Request, Response = Response, Error = Error, Future = Sending> + Send>;

#[tokio::test]
async fn it_is_a_tower_service_and_can_be_a_trait_object() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let mut service: AnyService = Box::new(fixture.transport());
    std::future::poll_fn(|cx| service.poll_ready(cx))
        .await
        .unwrap();
    // Spawned: a request's future may move between threads.
    let call = service.call(fixture.get(format!("{}/nothing", server.origin())));
    let response = tokio::spawn(call).await.unwrap().unwrap();
    assert_eq!(response.status(), 204);
    let body = http::Response::<Body>::from(response).into_body();
    assert!(
        http_body::Body::is_end_stream(&body),
        "there is nothing to wait for"
    );
}
