//! Streams through the egress: agents that go away, events, back-pressure, many tunnels.

#![allow(clippy::print_stdout, reason = "the figures are there to be read")]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use futures_util::stream;
use http::Request;
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

use super::intercepted::{careful, connect, tls};
use crate::agents::{Service, World, authority, request};

/// Less than the minute after which a tunnel ends that is not used.
const HANG: Duration = Duration::from_secs(30);

pub(super) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(HANG, future).await.expect("hangs")
}

/// Says when it is dropped.
struct Dropped(mpsc::UnboundedSender<&'static str>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send("dropped");
    }
}

/// Tells how a body has ended, also where a reset stream ends its handler before that has looked.
struct BodyEnd(mpsc::UnboundedSender<&'static str>, &'static str);

impl BodyEnd {
    fn is(&mut self, end: &'static str) {
        self.1 = end;
    }
}

impl Drop for BodyEnd {
    fn drop(&mut self) {
        let _ = self.0.send(self.1);
    }
}

/// `/events` sends one event and then nothing; `/upload` tells how its body has ended.
fn routes(told: mpsc::UnboundedSender<&'static str>) -> Router {
    let dropped = told.clone();
    let events = move || {
        let guard = Dropped(dropped.clone());
        async move {
            let first = Frame::data(Bytes::from_static(b"data: 1\n\n"));
            let frames = stream::unfold((Some(first), guard), |(frame, guard)| async {
                match frame {
                    Some(frame) => Some((Ok::<_, Infallible>(frame), (None, guard))),
                    None => std::future::pending().await,
                }
            });
            Response::builder()
                .header("content-type", "text/event-stream")
                .body(Body::new(StreamBody::new(frames)))
                .expect("a response")
        }
    };
    let upload = move |mut body: Body| {
        let mut end = BodyEnd(told.clone(), "broken");
        async move {
            let _ = end.0.send("begun");
            while let Some(frame) = body.frame().await {
                if frame.is_err() {
                    return "broken";
                }
            }
            end.is("whole");
            "whole"
        }
    };
    Router::new()
        .route("/events", get(events))
        .route("/upload", post(upload))
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_2_an_event_comes_at_once_and_a_reset_stream_is_cancelled() {
    let (told, mut heard) = mpsc::unbounded_channel();
    let world = World::with_routes("streams-h2", routes(told));
    let dir = world.file("authority");
    let mut command = world.egress(&["--intercept", &dir.display().to_string()]);
    let service = Service::on_port(&mut command).await;
    let host = authority(&world.server.origin());
    let (_, socket) = connect(&service.address, &host).await;
    let mut config = careful(&dir.join("root.pem"));
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from("localhost").expect("a name");
    let connector = TlsConnector::from(Arc::new(config));
    let io = connector.connect(name, socket).await.expect("a handshake");
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(io));
    let (mut sender, driver) = handshake.await.expect("HTTP/2");
    tokio::spawn(driver);
    for _ in 0..3 {
        let request = Request::get(format!("https://{host}/events"));
        let request = request.body(Empty::<Bytes>::new()).expect("a request");
        let response = within(sender.send_request(request)).await.expect("a head");
        let mut body = response.into_body();
        let event = within(body.frame()).await.expect("a frame").expect("data");
        assert_eq!(event.into_data().expect("data"), "data: 1\n\n");
        drop(body);
        assert_eq!(within(heard.recv()).await, Some("dropped"));
    }
    // All of it on one connection of the agent and one to the origin.
    assert_eq!(world.server.counts().opened, 1);
    drop(sender);
    service.end().await;
}

/// What has come of the body has gone to the origin, which learns that it is not whole.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_in_the_middle_of_a_body_leaves_a_broken_one() {
    let (told, mut heard) = mpsc::unbounded_channel();
    let world = World::with_routes("streams-killed", routes(told));
    let dir = world.file("authority");
    let mut command = world.egress(&["--intercept", &dir.display().to_string()]);
    let service = Service::on_port(&mut command).await;
    let host = authority(&world.server.origin());
    let head = format!("POST /upload HTTP/1.1\r\nHost: {host}\r\n");
    for length in [
        "Content-Length: 1000000\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n3e8\r\n",
    ] {
        let config = careful(&dir.join("root.pem"));
        let mut stream = tls(&service.address, &host, config, "localhost").await;
        let begin = format!("{head}{length}{}", "x".repeat(1000));
        stream.write_all(begin.as_bytes()).await.expect("written");
        assert_eq!(within(heard.recv()).await, Some("begun"));
        // As the kernel does it for a process that is killed.
        stream.get_ref().0.set_zero_linger().expect("a socket");
        drop(stream);
        assert_eq!(within(heard.recv()).await, Some("broken"));
    }
    // Others are served as before.
    let answer = request("GET", &format!("http://{host}/"), &host, &world.token());
    let answer = service.say(&answer).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    service.end().await;
}

/// An origin that reads nothing stops the agent: the egress does not take in what it cannot pass on.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_the_origin_does_not_read_is_not_taken_in() {
    const CHUNK: usize = 64 * 1024;
    let (told, mut heard) = mpsc::unbounded_channel::<()>();
    let deaf = post(move |body: Body| {
        let told = told.clone();
        async move {
            let _ = told.send(());
            let _kept = body;
            std::future::pending::<&'static str>().await
        }
    });
    let world = World::with_routes("streams-deaf", Router::new().route("/deaf", deaf));
    let service = Service::on_port(&mut world.egress(&[])).await;
    let host = authority(&world.server.origin());
    let mut socket = TcpStream::connect(&service.address)
        .await
        .expect("the egress");
    let head = format!(
        "POST http://{host}/deaf HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000000000\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.expect("written");
    within(heard.recv()).await;
    let chunk = vec![b'x'; CHUNK];
    let mut taken = 0;
    // Sockets and windows hold some; the guard ends a test that would send all of it.
    while let Ok(sent) = tokio::time::timeout(Duration::from_secs(2), socket.write(&chunk)).await {
        taken += sent.expect("written");
        assert!(taken < 64 << 20, "{taken} bytes were taken in");
    }
    println!("{taken} bytes were taken in before the agent had to wait");
}

/// An agent that reads nothing stops the origin: the egress does not ask for what it cannot pass on.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_the_agent_does_not_read_is_not_asked_for() {
    const PIECE: usize = 64 * 1024;
    const MUCH: usize = 64 << 20;
    let taken: Arc<AtomicUsize> = Arc::default();
    let count = taken.clone();
    let endless = get(move || {
        let count = count.clone();
        let pieces = stream::repeat_with(move || {
            count.fetch_add(PIECE, Ordering::SeqCst);
            Ok::<_, Infallible>(Bytes::from(vec![b'x'; PIECE]))
        });
        std::future::ready(Body::from_stream(pieces))
    });
    let world = World::with_routes("streams-endless", Router::new().route("/endless", endless));
    let service = Service::on_port(&mut world.egress(&[])).await;
    let host = authority(&world.server.origin());
    let mut socket = TcpStream::connect(&service.address)
        .await
        .expect("the egress");
    let head = format!("GET http://{host}/endless HTTP/1.1\r\nHost: {host}\r\n\r\n");
    socket.write_all(head.as_bytes()).await.expect("written");
    let mut before = 0;
    // Until nothing more is taken for a while.
    let held = loop {
        let now = taken.load(Ordering::SeqCst);
        assert!(now < MUCH, "{now} bytes were taken");
        if now == before && now > 0 {
            break now;
        }
        before = now;
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    println!("{held} bytes were taken before the origin had to wait");
    // It goes on once the agent reads.
    let mut piece = vec![0; PIECE];
    while taken.load(Ordering::SeqCst) < held + MUCH / 64 {
        within(socket.read_exact(&mut piece)).await.expect("more");
    }
}

/// A tunnel that is never used costs a file descriptor, and nobody else a place: the egress may have
/// little more of them than there are tunnels.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_tunnels_are_held_and_another_agent_is_served() {
    const TUNNELS: usize = 1000;
    const FILES: usize = 1060;
    let world = World::new("streams-tunnels");
    let dir = world.file("authority");
    let command = world.egress(&["--intercept", &dir.display().to_string()]);
    let service = Service::on_port(&mut with_files(&command, FILES)).await;
    let host = authority(&world.server.origin());
    let mut held = Vec::new();
    for number in 0..TUNNELS {
        let (status, socket) = within(connect(&service.address, &host)).await;
        assert_eq!(status, 200, "tunnel {number}");
        held.push(socket);
    }
    for _ in 0..3 {
        let answer = request("GET", &format!("http://{host}/"), &host, &world.token());
        let answer = within(service.say(&answer)).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    println!("{TUNNELS} tunnels were held by a process that may have {FILES} files open");
    // The end does not wait for them.
    within(service.end()).await;
    drop(held);
}

/// The same command with this many file descriptors at most.
fn with_files(command: &Command, files: usize) -> Command {
    let inner = command.as_std();
    let mut limited = Command::new("sh");
    limited
        .args(["-c", &format!("ulimit -n {files}; exec \"$@\""), "sh"])
        .arg(inner.get_program())
        .args(inner.get_args())
        .kill_on_drop(true);
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited
}
