//! Legal HTTP/1.1 that few servers send.

use bowline_http_client::{Client, Error, Repeatable};
use bowline_testkit::tls::Alpn;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use tokio::io::AsyncWriteExt;

use crate::fixture::raw_server::{RawConnection, RawServer};
use crate::fixture::slow_key::soon;
use crate::fixture::{Fixture, text};

async fn send(connection: &mut RawConnection, response: &str) {
    connection.0.write_all(response.as_bytes()).await.unwrap();
    connection.0.flush().await.unwrap();
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// RFC 9112 §5.2: a user agent replaces each received obs-fold with spaces.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folded_field_of_a_response_is_read_as_one_line() {
    let fixture = Fixture::new();
    let server = RawServer::alpn(&fixture.pki, Alpn::Http1).await;
    let url = server.origin();
    let serving = tokio::spawn(async move {
        let mut connection = server.accept().await;
        for fold in ["\r\n ", "\r\n\t", " \r\n  "] {
            connection.read().await;
            let response =
                format!("HTTP/1.1 200 OK\r\nx-folded: one{fold}two\r\ncontent-length: 2\r\n\r\nok");
            send(&mut connection, &response).await;
        }
    });
    let client = fixture.client();
    for _ in 0..3 {
        let request = Request::get(&url).body(Full::<Bytes>::default()).unwrap();
        let response = soon(client.send(request)).await.unwrap();
        let folded = response.headers()["x-folded"].to_str().unwrap().to_owned();
        let words: Vec<_> = folded.split_whitespace().collect();
        assert_eq!(words, ["one", "two"]);
        assert!(!folded.contains(['\r', '\n']), "{folded:?}");
        assert_eq!(text(response).await, "ok");
    }
    serving.await.unwrap();
    assert_eq!(client.stats().connections_opened, 1);
}

/// A server that gives up waiting for the next request on a connection, just as that leaves, has
/// not received it (RFC 9110 §15.5.9). What the client reads is the same as in this test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_408_on_a_kept_connection_is_tried_once_more_if_the_request_may_be_repeated() {
    for (method, is_marked, is_kept, status, connections) in [
        (Method::GET, false, true, StatusCode::OK, 2),
        (Method::POST, true, true, StatusCode::OK, 2),
        (Method::POST, false, true, StatusCode::REQUEST_TIMEOUT, 1),
        // Nothing had been waiting on this one.
        (Method::GET, false, false, StatusCode::REQUEST_TIMEOUT, 1),
    ] {
        let fixture = Fixture::new();
        let server = RawServer::alpn(&fixture.pki, Alpn::Http1).await;
        let url = server.origin();
        let serving = tokio::spawn(async move {
            let mut first = server.accept().await;
            first.read().await;
            if is_kept {
                send(&mut first, OK).await;
                first.read().await;
            }
            let late =
                "HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
            send(&mut first, late).await;
            drop(first);
            let mut second = server.accept().await;
            second.read().await;
            send(&mut second, OK).await;
        });
        let client = fixture.client();
        if is_kept {
            let first = soon(call(&client, &url, Method::GET, false)).await.unwrap();
            assert_eq!(text(first).await, "ok");
        }
        let response = soon(call(&client, &url, method.clone(), is_marked)).await;
        let response = response.unwrap();
        assert_eq!(response.status(), status, "{method} {is_marked} {is_kept}");
        assert_eq!(client.stats().connections_opened, connections);
        serving.abort();
    }
}

async fn call(
    client: &Client,
    url: &str,
    method: Method,
    is_repeatable: bool,
) -> Result<Response<bowline_http_client::Body>, Error> {
    let mut request = Request::builder().method(method).uri(url);
    if is_repeatable {
        request = request.extension(Repeatable);
    }
    client
        .send(request.body(Full::<Bytes>::default()).unwrap())
        .await
}
