//! Agents' connections on which nothing is asked: they end, by a limit of the egress.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use super::intercepted::{careful, read_head, tls};
use super::service::held;
use crate::agents::{AgentIo, Service, World, authority};

/// A guard against hanging, far beyond every limit here.
async fn within<T>(what: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(60);
    tokio::time::timeout(limit, what).await.expect("no limit")
}

/// All that comes until the end, which is a proper one.
async fn rest(io: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut rest = Vec::new();
    within(io.read_to_end(&mut rest)).await.expect("its end");
    rest
}

const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

/// Begins HTTP/2 and asks for nothing; the frames that come until the end. Each is its type, its flags
/// and what it holds.
async fn silent_h2(io: &mut Box<dyn AgentIo>, acknowledges: bool) -> Vec<(u8, u8, Vec<u8>)> {
    io.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .expect("written");
    let mut frames = Vec::new();
    let mut head = [0; 9];
    while io.read_exact(&mut head).await.is_ok() {
        let [a, b, c, kind, flags, ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        io.read_exact(&mut payload).await.expect("a whole frame");
        if kind == PING && flags == 0 && acknowledges {
            let ack = [&[0, 0, 8, PING, 1, 0, 0, 0, 0], &payload[..]].concat();
            io.write_all(&ack).await.expect("written");
        }
        frames.push((kind, flags, payload));
    }
    frames
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_http_2_connection_is_drained_and_one_with_a_request_is_not() {
    let (routes, mut held) = held();
    let world = World::with_routes("idle-h2", routes);
    let service = Service::on_port(&mut world.egress(&["--idle-timeout", "1s"])).await;
    let host = authority(&world.server.origin());
    let mut busy = service.h2c::<Empty<Bytes>>().await;
    let request = Request::get(format!("http://{host}/held"));
    let request = request.body(Empty::new()).expect("a request");
    let answer = tokio::spawn(busy.send_request(request));
    held.arrived.recv().await.expect("arrived");
    // It is younger, and has no request: when it has ended, the other one would have, too.
    for acknowledges in [true, false] {
        let mut idle = service.connect().await;
        let frames = within(silent_h2(&mut idle, acknowledges)).await;
        assert_eq!(frames[0].0, SETTINGS);
        let goaways = frames.iter().filter(|(kind, ..)| *kind == GOAWAY);
        // RFC 9113 section 6.8: the last stream, first none in particular; and NO_ERROR.
        let goaways: Vec<_> = goaways.map(|(_, _, payload)| &payload[..8]).collect();
        let announced: &[u8] = &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        match acknowledges {
            true => assert_eq!(goaways, [announced, &[0; 8]]),
            false => assert_eq!(goaways, [announced]),
        }
    }
    held.released.add_permits(1);
    let response = answer.await.expect("no panic").expect("an answer");
    assert_eq!(response.status(), StatusCode::OK);
    let body = response.into_body().collect().await.expect("a body");
    assert_eq!(body.to_bytes(), "ok");
    // And then its time begins.
    within(async {
        while busy.ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_http_1_connection_is_closed_whatever_was_said_on_it() {
    let world = World::new("idle-h1");
    let service = Service::on_port(&mut world.egress(&["--idle-timeout", "1s"])).await;
    let host = authority(&world.server.origin());
    let whole = format!("GET http://{host}/x HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let begun = &whole[..whole.len() - 2];
    for (said, answered) in [
        ("", false),
        ("PRI * HT", false),
        (begun, false),
        (&whole, true),
        (&format!("{whole}{begun}"), true),
    ] {
        let mut io = service.connect().await;
        io.write_all(said.as_bytes()).await.expect("written");
        let rest = String::from_utf8(rest(&mut io).await).expect("UTF-8");
        let status = if answered { "HTTP/1.1 200" } else { "" };
        assert!(rest.starts_with(status), "{said:?}: {rest}");
        assert_eq!(rest.is_empty(), !answered, "{said:?}: {rest}");
    }
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_inside_a_connect_is_closed() {
    let world = World::new("idle-inside");
    let dir = world.file("authority");
    let intercept = dir.display().to_string();
    let options = ["--idle-timeout", "1s", "--intercept", &intercept];
    let service = Service::on_port(&mut world.egress(&options)).await;
    let host = authority(&world.server.origin());
    let root = careful(&dir.join("root.pem"));
    let mut stream = tls(&service.address, &host, root, "localhost").await;
    let request = format!("GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("written");
    let head = read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    // With a close_notify: otherwise this is an error.
    rest(&mut stream).await;
    service.end().await;
}
