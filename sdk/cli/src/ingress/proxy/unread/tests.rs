//! With a clock of its own: it moves on only when every task waits.

use std::convert::Infallible;

use futures_util::poll;
use http::{Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant, sleep};
use tower::{Service, service_fn};

use super::super::answer::{Refused, refusal};
use super::super::body;
use super::super::front::Front;
use super::*;

const BUFFER: usize = 1024 * 1024;

/// Refuses every request without having read anything of it.
async fn refuse(_: Request<LentBody>) -> Result<Response<body::Body>, Infallible> {
    Ok(refusal(Refused::new(StatusCode::FORBIDDEN, "test", "no")))
}

/// The client's end of a connection to `service` behind `Front`.
fn serve<S>(service: S, is_http2: bool) -> DuplexStream
where
    S: Service<Request<LentBody>, Response = Response<body::Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
{
    let (near, far) = duplex(BUFFER);
    let service = TowerToHyperService::new(Front(service));
    tokio::spawn(async move {
        let far = TokioIo::new(far);
        if is_http2 {
            let http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            http2.serve_connection(far, service).await
        } else {
            let http1 = hyper::server::conn::http1::Builder::new();
            http1.serve_connection(far, service).await
        }
    });
    near
}

/// The answer to these bytes of a request, and how long it took.
async fn answer_to(mut client: DuplexStream, request: &str) -> (String, Duration) {
    client.write_all(request.as_bytes()).await.unwrap();
    let began = Instant::now();
    (head(&mut client).await, began.elapsed())
}

/// Reads a response, whose body is one short line.
async fn head(client: &mut DuplexStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"no\n") {
        assert_ne!(client.read_buf(&mut bytes).await.unwrap(), 0, "closed");
    }
    String::from_utf8(bytes).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_refused_body_still_comes_is_not_reset() {
    let client = serve(service_fn(refuse), true);
    let (mut client, connection) = h2::client::handshake(client).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post("https://localhost/").body(()).unwrap();
    let (response, mut body) = client.send_request(request, false).unwrap();
    // A server that does not wait has answered by then.
    sleep(MAX_WAIT / 2).await;
    let sent = body.send_data(Bytes::from_static(b"rest"), true);
    let response = response.await.unwrap();
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    let mut text = response.into_body();
    assert_eq!(text.data().await.unwrap().unwrap(), "no\n");
    assert!(text.data().await.is_none());
    // Whatever follows the end of the answer has come.
    sleep(2 * MAX_WAIT).await;
    let reset = std::future::poll_fn(|cx| body.poll_reset(cx));
    assert!(poll!(std::pin::pin!(reset)).is_pending());
    sent.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_next_request_is_served_where_a_refused_body_still_came() {
    let mut client = serve(service_fn(refuse), false);
    let post = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n";
    for _ in 0..2 {
        client.write_all(post).await.unwrap();
        sleep(MAX_WAIT / 2).await;
        client.write_all(b"rest").await.unwrap();
        let head = head(&mut client).await;
        assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_without_an_end_delays_its_refusal_for_a_second() {
    let head = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n";
    let (answer, after) = answer_to(serve(service_fn(refuse), false), head).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert_eq!(after, MAX_WAIT);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_too_long_or_waits_to_be_asked_for_does_not_delay_its_refusal() {
    let chunk = format!("10001\r\n{}\r\n", "x".repeat(0x10001));
    for (fields, body) in [
        ("Content-Length: 65537", ""),
        ("Transfer-Encoding: chunked", &*chunk),
        ("Content-Length: 4\r\nExpect: 100-continue", ""),
    ] {
        let request = format!("POST / HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n\r\n{body}");
        let (answer, after) = answer_to(serve(service_fn(refuse), false), &request).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{fields}: {answer}");
        assert_eq!(after, Duration::ZERO, "{fields}");
    }
}

/// The service behind may answer before it has read the request.
#[tokio::test(start_paused = true)]
async fn an_answer_does_not_wait_for_a_body_that_is_still_being_read() {
    let keep = service_fn(|request| async {
        tokio::spawn(async move {
            let _body: Request<LentBody> = request;
            sleep(10 * MAX_WAIT).await;
        });
        answered()
    });
    let head = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n";
    let (_, after) = answer_to(serve(keep, false), head).await;
    assert_eq!(after, Duration::ZERO);
}

fn answered() -> Result<Response<body::Body>, Infallible> {
    Ok(Response::new(body::Body::text("no")))
}
