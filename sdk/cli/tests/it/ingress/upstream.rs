//! A service that is down, slow, or odd.

use std::sync::{Arc, Mutex};

use bowline_testkit::authority::TokenRequest;
use bowline_testkit::net::{ClosedPort, loopback};
use bowline_testkit::tls::Alpn;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::fixture::*;

async fn get(scene: &Scene, ingress: &Ingress) -> Answer {
    let mut client = scene.connect(ingress, Alpn::Http2).await;
    let token = scene.session_bound();
    let request = client.proved(&scene.agent, &token);
    client.get(request).await
}

async fn start(scene: &Scene, upstream: &str, options: &[&str]) -> Ingress {
    let jwt = scene.jwt_options();
    let options: Vec<_> = jwt
        .iter()
        .map(String::as_str)
        .chain(options.iter().copied())
        .collect();
    scene.start_with(upstream, &options).await
}

#[tokio::test]
async fn a_service_that_is_down_is_a_502_and_the_log_says_where() {
    let scene = Scene::new();
    let port = ClosedPort::new();
    let socket = format!("unix:{}", scene.path("none.sock").display());
    for (upstream, why) in [
        (format!("http://{}", port.addr()), "Connection refused"),
        (socket, "No such file"),
    ] {
        for h2c in [&[][..], &["--upstream-h2c"]] {
            let ingress = start(&scene, &upstream, h2c).await;
            assert_eq!(get(&scene, &ingress).await.status, StatusCode::BAD_GATEWAY);
            ingress.logs("cannot be connected").await;
            let log = ingress.log();
            let line = log
                .lines()
                .find(|line| line.contains("cannot be connected"));
            let line = line.unwrap_or_else(|| panic!("{log}"));
            assert!(line.contains(&upstream) && line.contains(why), "{line}");
            assert!(line.contains("502"), "{line}");
        }
    }
}

#[tokio::test]
async fn it_is_served_once_the_service_is_there() {
    let scene = Scene::new();
    let socket = scene.path("app.sock");
    let upstream = format!("unix:{}", socket.display());
    let ingress = start(&scene, &upstream, &[]).await;
    assert_eq!(get(&scene, &ingress).await.status, 502);
    let _upstream = Upstream::echo_unix(&scene);
    get(&scene, &ingress).await.arrived();
}

#[tokio::test]
async fn a_service_that_does_not_answer_is_a_504() {
    let scene = Scene::new();
    let upstream = Upstream::start(|_: Request<Incoming>| std::future::pending());
    let ingress = scene
        .start(&upstream, &["--upstream-timeout", "200ms"])
        .await;
    assert_eq!(
        get(&scene, &ingress).await.status,
        StatusCode::GATEWAY_TIMEOUT
    );
    ingress
        .logs("it did not answer within 200ms; answered 504")
        .await;
    assert_eq!(upstream.requests(), 1, "it is not sent again");
}

#[tokio::test]
async fn nonsense_from_the_service_is_a_502() {
    let scene = Scene::new();
    for answer in [
        "nonsense\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "",
    ] {
        let listener = loopback();
        let upstream = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut tcp, _)) = listener.accept().await {
                let _ = tcp.read(&mut [0; 1024]).await;
                let _ = tcp.write_all(answer.as_bytes()).await;
            }
        });
        let ingress = start(&scene, &upstream, &[]).await;
        let status = get(&scene, &ingress).await.status;
        assert_eq!(status, StatusCode::BAD_GATEWAY, "{answer:?}");
    }
}

/// The next request on a connection, whose body is `x` or empty: its path.
async fn next_path(tcp: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let is_whole = |bytes: &[u8]| match bytes.starts_with(b"POST") {
        true => bytes.ends_with(b"\r\n\r\nx"),
        false => bytes.ends_with(b"\r\n\r\n"),
    };
    while !is_whole(&bytes) {
        bytes.push(tcp.read_u8().await.ok()?);
    }
    let text = String::from_utf8(bytes).expect("text");
    text.split(' ').nth(1).map(str::to_owned)
}

/// A service closes a kept connection just when the next request is sent on it. Whether one is kept by
/// then is the pool's to say, so requests are sent until that has happened.
#[tokio::test]
async fn a_get_on_a_connection_that_the_service_closed_is_sent_again() {
    let scene = Scene::new();
    let listener = loopback();
    let upstream = format!("http://{}", listener.local_addr().unwrap());
    let arrived: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = arrived.clone();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let arrived = kept.clone();
            tokio::spawn(async move {
                let mut is_first = true;
                while let Some(path) = next_path(&mut tcp).await {
                    let is_again = arrived.lock().unwrap().contains(&path);
                    arrived.lock().unwrap().push(path);
                    // The first request of a connection is answered, and one that is sent again.
                    if !is_first && !is_again {
                        return;
                    }
                    is_first = false;
                    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                    let _ = tcp.write_all(answer.as_bytes()).await;
                }
            });
        }
    });
    let ingress = start(&scene, &upstream, &[]).await;
    let mut client = scene.connect(&ingress, Alpn::Http2).await;
    let token = scene.session_bound();
    let times = |path: &str| {
        let arrived = arrived.lock().unwrap();
        arrived.iter().filter(|found| *found == path).count()
    };
    within(async {
        let (mut number, mut sent_again) = (0, 0);
        while sent_again < 3 {
            let path = format!("/get/{number}");
            let request = client.proved(&scene.agent, &token).uri(&path);
            assert_eq!(client.get(request).await.text, "ok");
            assert!((1..=2).contains(&times(&path)), "{path}");
            sent_again += times(&path) - 1;
            number += 1;
        }
        // A request that may have been processed is not.
        for number in 0.. {
            let path = format!("/post/{number}");
            let request = client.proved(&scene.agent, &token).uri(&path);
            let status = client.post(request, "x").await.status;
            assert_eq!(times(&path), 1, "{path}: {status}");
            if status == StatusCode::BAD_GATEWAY {
                return;
            }
            assert_eq!(status, StatusCode::OK);
        }
    })
    .await;
}

#[tokio::test]
async fn a_kept_connection_is_closed_when_it_was_idle_for_the_limit() {
    let scene = Scene::new();
    let listener = loopback();
    let upstream = format!("http://{}", listener.local_addr().unwrap());
    let (ended, mut ends) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let ended = ended.clone();
            tokio::spawn(async move {
                next_path(&mut tcp).await;
                let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                let _ = tcp.write_all(answer.as_bytes()).await;
                let _ = ended.send(next_path(&mut tcp).await);
            });
        }
    });
    let idle = ["--upstream-idle-timeout", "100ms"];
    let ingress = start(&scene, &upstream, &idle).await;
    for _ in 0..2 {
        assert_eq!(get(&scene, &ingress).await.text, "ok");
        assert_eq!(within(ends.recv()).await, Some(None), "no other request");
    }
}

#[tokio::test]
async fn at_the_limit_of_requests_further_ones_are_503() {
    let scene = Scene::new();
    let upstream = Upstream::start(|_: Request<Incoming>| std::future::pending());
    let ingress = scene.start(&upstream, &["--max-requests", "1"]).await;
    let mut first = scene.connect(&ingress, Alpn::Http2).await;
    let token = scene.session_bound();
    let request = first.proved(&scene.agent, &token).body(whole("")).unwrap();
    let first = tokio::spawn(async move { first.send(request).await });
    while upstream.requests() == 0 {
        tokio::task::yield_now().await;
    }
    // Of another client, so that it is not the first one's share that is used up.
    let bound = TokenRequest::session_bound("thief", scene.thief.thumbprint());
    let token = scene.token(&bound);
    let thief = Some(&scene.thief);
    let mut second = scene.connect_as(&ingress, thief, Alpn::Http2).await;
    let second = second.get(second.proved(&scene.thief, &token)).await;
    assert_eq!(second.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(second.headers.contains_key("retry-after"));
    first.abort();
}

#[tokio::test]
async fn responses_without_a_body_and_expectations() {
    let scene = Scene::new();
    let upstream = Upstream::start(|request: Request<Incoming>| async move {
        let response = Response::builder();
        let path = request.uri().path().to_owned();
        if path == "/read" {
            // Without this it answers before it has asked for the body, which is as good an answer.
            request.into_body().collect().await.expect("a body");
        }
        match path.as_str() {
            "/204" => response.status(204).body(whole("")),
            "/304" => response.status(304).header("etag", "a").body(whole("")),
            "/head" => response.header("content-length", "1000").body(whole("")),
            _ => response
                .header("connection", "x-hop")
                .header("x-hop", "1")
                .body(whole("ok")),
        }
        .unwrap()
    });
    let ingress = scene.start(&upstream, &[]).await;
    for alpn in [Alpn::Http1, Alpn::Http2] {
        let mut client = scene.connect(&ingress, alpn).await;
        let token = scene.session_bound();
        for (method, path, status) in [
            ("GET", "/204", 204),
            ("GET", "/304", 304),
            ("HEAD", "/head", 200),
            ("GET", "/", 200),
        ] {
            let request = client.proved(&scene.agent, &token).method(method).uri(path);
            let answer = client.get(request).await;
            assert_eq!(answer.status, status, "{path}");
            assert!(!answer.headers.contains_key("x-hop"));
            if method == "HEAD" {
                assert_eq!(answer.headers["content-length"], "1000");
            }
        }
    }
    let mut raw = scene.raw(&ingress).await;
    let credentials = scene.credentials(&raw);
    raw.write(format!(
        "POST /read HTTP/1.1\r\nHost: localhost\r\n{credentials}Content-Length: 2\r\n\
         Expect: 100-continue\r\n\r\n"
    ))
    .await;
    assert_eq!(raw.response().await.unwrap().0, 100);
    raw.write("hi").await;
    assert_eq!(raw.response().await.unwrap().0, 200);
    // On a connection of its own: the upstream answers before it has read the body, and what is then
    // left of it may end the first one.
    let mut raw = scene.raw(&ingress).await;
    let credentials = scene.credentials(&raw);
    raw.write(format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\n{credentials}Content-Length: 2\r\n\
         Expect: miracles\r\n\r\nhi"
    ))
    .await;
    assert_eq!(raw.response().await.unwrap().0, 417);
}
