//! Bodies that flow: event streams, back-pressure, trailers, and what ends them.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bowline_testkit::tls::Alpn;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::{mpsc, oneshot};

use super::fixture::*;
use crate::ops;

type Frames = mpsc::UnboundedSender<Frame<Bytes>>;

/// A body that a test writes, one frame at a time.
struct Written(mpsc::UnboundedReceiver<Frame<Bytes>>);

impl Body for Written {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}

/// A body without an end, which counts what is taken of it.
struct Endless(Arc<AtomicUsize>);

const PIECE: usize = 64 * 1024;

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.fetch_add(PIECE, Ordering::SeqCst);
        Poll::Ready(Some(Ok(Frame::data(vec![b'x'; PIECE].into()))))
    }
}

/// A service that answers each request with a stream that the test writes.
struct Streaming {
    upstream: Upstream,
    streams: Arc<Mutex<Vec<Frames>>>,
}

impl Streaming {
    fn start(content_type: &'static str) -> Self {
        let streams: Arc<Mutex<Vec<Frames>>> = Arc::default();
        let kept = streams.clone();
        let upstream = Upstream::start(move |_: Request<Incoming>| {
            let (frames, written) = mpsc::unbounded_channel();
            kept.lock().unwrap().push(frames);
            let response = Response::builder()
                .header("content-type", content_type)
                .header("trailer", "x-sum")
                .body(Written(written).boxed());
            std::future::ready(response.unwrap())
        });
        Self { upstream, streams }
    }

    /// The stream of the only request so far. Dropping it ends it.
    fn take(&self) -> Frames {
        self.streams.lock().unwrap().pop().expect("a request")
    }
}

fn data(text: &'static str) -> Frame<Bytes> {
    Frame::data(Bytes::from_static(text.as_bytes()))
}

/// A request of the agent with a proof, and its response as it comes.
async fn open(scene: &Scene, client: &mut Http) -> Response<Incoming> {
    open_at(scene, client, "/").await
}

async fn open_at(scene: &Scene, client: &mut Http, path: &str) -> Response<Incoming> {
    let token = scene.session_bound();
    let request = client.proved(&scene.agent, &token).uri(path);
    let request = request.header("te", "trailers");
    client.send(request.body(whole("")).unwrap()).await.unwrap()
}

/// The text of the next frames, until it is as long as this one.
async fn assert_next(response: &mut Response<Incoming>, expected: &str) {
    let mut text = String::new();
    while text.len() < expected.len() {
        let frame = within(response.body_mut().frame()).await.expect("a frame");
        let data = frame.unwrap().into_data().expect("data");
        text.push_str(std::str::from_utf8(&data).unwrap());
    }
    assert_eq!(text, expected);
}

#[tokio::test]
async fn each_event_comes_at_once_and_trailers_are_kept() {
    let (scene, service) = (Scene::new(), Streaming::start("text/event-stream"));
    let ingress = scene.start(&service.upstream, &[]).await;
    for alpn in [Alpn::Http1, Alpn::Http2] {
        let mut client = scene.connect(&ingress, alpn).await;
        let mut response = open(&scene, &mut client).await;
        let frames = service.take();
        for text in ["data: 1\n\n", "data: ", "2", "\n\n"] {
            frames.send(data(text)).unwrap();
            assert_next(&mut response, text).await;
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "1".parse().unwrap());
        frames.send(Frame::trailers(trailers)).unwrap();
        let last = within(response.body_mut().frame()).await.unwrap().unwrap();
        assert_eq!(last.into_trailers().unwrap()["x-sum"], "1");
        assert!(within(response.body_mut().frame()).await.is_none());
    }
}

#[tokio::test]
async fn a_silent_event_stream_gets_comments_between_events_only() {
    let (scene, service) = (
        Scene::new(),
        Streaming::start("text/event-stream; charset=utf-8"),
    );
    let ingress = scene
        .start(&service.upstream, &["--sse-keep-alive", "50ms"])
        .await;
    let mut client = scene.connect(&ingress, Alpn::Http2).await;
    let mut response = open(&scene, &mut client).await;
    let frames = service.take();
    assert_next(&mut response, ":\n:\n").await;
    frames.send(data("data: a")).unwrap();
    // Ten intervals within an event.
    tokio::time::sleep(Duration::from_millis(500)).await;
    frames.send(data("b\n\n")).unwrap();
    let mut text = String::new();
    while !text.ends_with("b\n\n:\n") {
        let frame = within(response.body_mut().frame()).await.unwrap().unwrap();
        text.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
    }
    let event = text.trim_start_matches(":\n").trim_end_matches(":\n");
    assert_eq!(event, "data: ab\n\n");
}

#[tokio::test]
async fn other_streams_get_no_comments() {
    let (scene, service) = (Scene::new(), Streaming::start("application/json"));
    let ingress = scene
        .start(&service.upstream, &["--sse-keep-alive", "20ms"])
        .await;
    let mut client = scene.connect(&ingress, Alpn::Http2).await;
    let mut response = open(&scene, &mut client).await;
    let frames = service.take();
    tokio::time::sleep(Duration::from_millis(200)).await;
    frames.send(data("{}")).unwrap();
    drop(frames);
    let body = within(response.body_mut().collect()).await.unwrap();
    assert_eq!(body.to_bytes(), "{}");
}

/// In MCP 2026-07-28 that is how a client cancels.
#[tokio::test]
async fn a_closed_stream_closes_the_services_at_once() {
    let (scene, service) = (Scene::new(), Streaming::start("text/event-stream"));
    let ingress = scene.start(&service.upstream, &[]).await;
    let mut client = scene.connect(&ingress, Alpn::Http2).await;
    for _ in 0..3 {
        let mut response = open(&scene, &mut client).await;
        let frames = service.take();
        frames.send(data("data: 1\n\n")).unwrap();
        assert_next(&mut response, "data: 1\n\n").await;
        drop(response);
        within(frames.closed()).await;
    }
    // With HTTP/1.1 the connection is the stream.
    let mut client = scene.connect(&ingress, Alpn::Http1).await;
    let response = open(&scene, &mut client).await;
    let frames = service.take();
    drop((response, client));
    within(frames.closed()).await;
}

#[tokio::test]
async fn a_request_that_is_given_up_before_its_response_ends_at_the_service_too() {
    let scene = Scene::new();
    let given_up: Arc<Mutex<Vec<oneshot::Receiver<()>>>> = Arc::default();
    let kept = given_up.clone();
    let upstream = Upstream::start(move |_: Request<Incoming>| {
        let (alive, ended) = oneshot::channel();
        kept.lock().unwrap().push(ended);
        async move {
            let _alive: oneshot::Sender<()> = alive;
            std::future::pending().await
        }
    });
    let ingress = scene.start(&upstream, &[]).await;
    for alpn in [Alpn::Http2, Alpn::Http1] {
        let before = upstream.requests();
        let mut client = scene.connect(&ingress, alpn).await;
        let token = scene.session_bound();
        let request = client.proved(&scene.agent, &token).body(whole("")).unwrap();
        let arrived = async {
            while upstream.requests() == before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            _ = client.send(request) => panic!("no response is sent"),
            () = arrived => {}
        }
        // The future was dropped: the stream is reset, or the connection closed.
        drop(client);
        let ended = given_up.lock().unwrap().pop().unwrap();
        assert!(within(ended).await.is_err());
    }
}

/// What an ingress keeps of a response that is not read: bounded, and far below this.
const MUCH: usize = 64 * 1024 * 1024;

/// When nothing more is taken for a while.
async fn settled(taken: &AtomicUsize) -> usize {
    let mut before = usize::MAX;
    loop {
        let now = taken.load(Ordering::SeqCst);
        assert!(now < MUCH, "{now} bytes were taken");
        if now == before && now > 0 {
            return now;
        }
        before = now;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test]
async fn a_client_that_reads_nothing_holds_the_service_back() {
    let scene = Scene::new();
    for alpn in [Alpn::Http1, Alpn::Http2] {
        let taken: Arc<AtomicUsize> = Arc::default();
        let count = taken.clone();
        let upstream = Upstream::start(move |_: Request<Incoming>| {
            std::future::ready(Response::new(Endless(count.clone()).boxed()))
        });
        let ingress = scene.start(&upstream, &[]).await;
        let mut client = scene.connect(&ingress, alpn).await;
        let mut response = open(&scene, &mut client).await;
        let held = settled(&taken).await;
        // It goes on once the client reads.
        while taken.load(Ordering::SeqCst) < held + 1024 * 1024 {
            within(response.body_mut().frame()).await.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn a_service_that_reads_nothing_holds_the_client_back() {
    let scene = Scene::new();
    let upstream = Upstream::start(|request: Request<Incoming>| async move {
        let _unread = request;
        std::future::pending().await
    });
    let ingress = scene.start(&upstream, &["--max-body", "0"]).await;
    for alpn in [Alpn::Http1, Alpn::Http2] {
        let taken: Arc<AtomicUsize> = Arc::default();
        let mut client = scene.connect(&ingress, alpn).await;
        let token = scene.session_bound();
        let request = client.proved(&scene.agent, &token).method("POST");
        let request = request.body(Endless(taken.clone()).boxed()).unwrap();
        tokio::select! {
            _ = client.send(request) => panic!("no response is sent"),
            _ = settled(&taken) => {}
        }
    }
}

#[tokio::test]
async fn a_stalled_reader_is_given_up() {
    let scene = Scene::new();
    let (alive, mut ended) = mpsc::channel::<()>(1);
    let upstream = Upstream::start(move |_: Request<Incoming>| {
        let body = Endless(Arc::default()).map_frame({
            let alive = alive.clone();
            move |frame| {
                let _alive = &alive;
                frame
            }
        });
        std::future::ready(Response::new(body.boxed()))
    });
    let ingress = scene
        .start(&upstream, &["--stalled-timeout", "500ms"])
        .await;
    let mut client = scene.connect(&ingress, Alpn::Http2).await;
    let response = open(&scene, &mut client).await;
    ingress.logs("stalled_response").await;
    drop(response);
    drop(upstream);
    assert!(within(ended.recv()).await.is_none());
}

/// The service sends a part of each response and nothing more.
#[tokio::test]
async fn a_response_that_stalls_is_ended_and_an_event_stream_is_not() {
    const PART: &str = "data: 1\n\n";
    let scene = Scene::new();
    let streams: Arc<Mutex<Vec<Frames>>> = Arc::default();
    let kept = streams.clone();
    let upstream = Upstream::start(move |request: Request<Incoming>| {
        let (frames, written) = mpsc::unbounded_channel();
        frames.send(data(PART)).unwrap();
        kept.lock().unwrap().push(frames);
        let content_type = request.uri().path().trim_start_matches('/');
        let response = Response::builder().header("content-type", content_type);
        std::future::ready(response.body(Written(written).boxed()).unwrap())
    });
    let options = [
        ["--upstream-stalled-timeout", "200ms"],
        ["--sse-keep-alive", "1h"],
    ];
    let ingress = scene.start(&upstream, &options.concat()).await;
    let stream = || streams.lock().unwrap().pop().expect("a request");
    for (number, alpn) in [Alpn::Http1, Alpn::Http2].into_iter().enumerate() {
        let mut patient = scene.connect(&ingress, alpn).await;
        let mut events = open_at(&scene, &mut patient, "/text/event-stream").await;
        assert_next(&mut events, PART).await;
        let silent = stream();
        for again in 1..=2 {
            let mut client = scene.connect(&ingress, alpn).await;
            let mut response = open_at(&scene, &mut client, "/application/json").await;
            assert_next(&mut response, PART).await;
            assert!(within(response.body_mut().frame()).await.unwrap().is_err());
            within(stream().closed()).await;
            let ended = "the response was ended (--upstream-stalled-timeout)";
            ops::logs(&ingress, ended, 2 * number + again).await;
            ops::logs(
                &ingress,
                "status=200 class=session bytes=9 ",
                2 * number + again,
            )
            .await;
        }
        // It was silent for longer than they.
        silent.send(data("data: 2\n\n")).unwrap();
        assert_next(&mut events, "data: 2\n\n").await;
        drop(silent);
        let rest = within(events.body_mut().collect()).await.unwrap();
        assert_eq!(rest.to_bytes(), "");
    }
    ops::logs(&ingress, " cut=true", 4).await;
    assert_eq!(ingress.log().matches(" cut=true").count(), 4);
}
