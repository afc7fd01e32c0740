//! What agents send to the listener itself: absolute targets, a reverse proxy, HTTP/2 without TLS,
//! over loopback and Unix sockets.

#![allow(clippy::print_stdout, reason = "the answers are there to be read")]

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::post;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Version};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use std::convert::Infallible;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;

use crate::agents::{Service, World, authority, request, stderr};

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_is_this_users_alone_and_a_reverse_proxy_for_any_host() {
    let world = World::new("direct-unix");
    let origin = world.server.origin();
    let path = world.file("egress.sock");
    // One that a killed process has left.
    drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
    let listen = format!("unix:{}", path.display());
    let mut command = world.egress(&["--listen", &listen, "--upstream", &origin]);
    let service = Service::start(&mut command).await;
    let mode = std::fs::metadata(&path)
        .expect("the socket")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    for host in ["localhost", "anything.example:1", &authority(&origin)] {
        let answer = service
            .say(&request("GET", "/a?b", host, &world.token()))
            .await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("x-path: /a\r\n"), "{answer}");
        let named = format!("x-got-host: {}\r\n", authority(&origin));
        assert!(
            !answer.contains("x-got-host") || answer.contains(&named),
            "{answer}"
        );
    }
    assert_eq!(world.seen.proofs(), (1, 3));
    service.end().await;
    assert!(!path.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_taken_is_told() {
    let world = World::new("direct-taken");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").to_string();
    let name = format!("bowline-taken-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("a name");
    let _listener = std::os::unix::net::UnixListener::bind_addr(&address).expect("a socket");
    let socket = format!("unix:@{name}");
    for listen in [&port, &socket] {
        let mut command = world.egress(&["--abstract-socket", "--listen", listen]);
        let output = command.output().await.expect("it runs");
        let told = format!("--listen {listen}: another process listens there");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(stderr(&output).contains(&told), "{output:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abstract_socket_needs_a_switch_of_its_own() {
    let world = World::new("direct-abstract");
    let origin = world.server.origin();
    let listen = format!("unix:@bowline-test-{}", std::process::id());
    let arguments = ["--listen", &listen, "--upstream", &origin];
    let output = world.egress(&arguments).output().await.expect("it runs");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(
        stderr(&output).contains("add --abstract-socket"),
        "{output:?}"
    );
    let mut command = world.egress(&arguments);
    let service = Service::start(command.arg("--abstract-socket")).await;
    assert_eq!(service.address, listen);
    let answer = service
        .say(&request("GET", "/", "any", &world.token()))
        .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    service.end().await;
}

/// As another user: connects, asks, and prints what is answered.
const STRANGER: &str = r#"
import encodings.idna, os, socket, ssl, sys
kind, where, folder = sys.argv[1:]
context = ssl.create_default_context(cafile=folder + "/ca.pem")
context.load_cert_chain(folder + "/agent.pem", folder + "/agent-key.pem")
os.setgroups([]); os.setgid(65533); os.setuid(65533)
try:
    if kind in ("tcp", "tls"):
        host, port = where.split(":")
        peer = socket.create_connection((host, int(port)))
    else:
        peer = socket.socket(socket.AF_UNIX)
        peer.connect("\0" + where if kind == "abstract" else where)
    if kind == "tls":
        peer = context.wrap_socket(peer, server_hostname="localhost")
    print("connected")
    peer.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    print("answered" if peer.recv(1000) else "closed")
except OSError as error:
    print(type(error).__name__)
"#;

/// Only root can become another user. A certificate does not make up for that on loopback.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and python3"]
async fn gw_5_another_user_reaches_no_listener() {
    let world = World::new("direct-strangers");
    let origin = world.server.origin();
    let name = format!("bowline-stranger-{}", std::process::id());
    let path = world.file("egress.sock").display().to_string();
    // Then the socket's own mode decides.
    std::fs::set_permissions(&world.scratch.0, PermissionsExt::from_mode(0o755)).expect("its mode");
    let listener = world.pki.localhost().write_to(&world.scratch.0);
    let listener = listener.expect("files");
    let folder = world.scratch.0.display().to_string();
    for (listen, kind, place, can_connect) in [
        ("127.0.0.1:0".to_owned(), "tcp", None, true),
        ("127.0.0.1:0".to_owned(), "tls", None, true),
        (format!("unix:@{name}"), "abstract", Some(name), true),
        (format!("unix:{path}"), "unix", Some(path), false),
    ] {
        let arguments = [
            "--listen",
            &listen,
            "--upstream",
            &origin,
            "--abstract-socket",
        ];
        let mut command = world.egress(&arguments);
        if kind == "tls" {
            command.arg("--listen-cert").arg(&listener.certificate);
            command.arg("--listen-key").arg(&listener.key);
            command.arg("--listen-client-ca").arg(world.file("ca.pem"));
        }
        let service = Service::start(&mut command).await;
        let place = place.unwrap_or_else(|| service.address.clone());
        let mut stranger = tokio::process::Command::new("python3");
        let output = stranger
            .args(["-c", STRANGER, kind, &place, &folder])
            .output()
            .await;
        let output = output.expect("python3 runs");
        assert!(output.status.success(), "{output:?}");
        let told = String::from_utf8(output.stdout).expect("UTF-8");
        println!("{listen}: {}", told.replace('\n', " "));
        match can_connect {
            true => {
                assert!(told.starts_with("connected\n"), "{listen}: {told}");
                assert!(!told.contains("answered"), "{listen}: {told}");
            }
            false => assert_eq!(told, "PermissionError\n", "{listen}"),
        }
        let log = service.end().await;
        assert!(log.contains("0 requests;"), "{log}");
    }
    assert_eq!(world.server.counts().requests, 0);
}

type Sent = BoxBody<Bytes, Infallible>;

/// A gRPC call in the small: messages both ways, and trailers behind both.
async fn grpc(request: axum::extract::Request) -> Response {
    assert_eq!(request.version(), Version::HTTP_2, "gRPC needs HTTP/2");
    let te = request.headers().get("te").cloned();
    let collected = request.into_body().collect().await.expect("a body");
    let sum = collected
        .trailers()
        .and_then(|found| found.get("x-sum").cloned());
    let data = Frame::data(collected.to_bytes());
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers.insert("x-sum", sum.unwrap_or(HeaderValue::from_static("none")));
    trailers.insert("x-te", te.unwrap_or(HeaderValue::from_static("none")));
    let frames = [data, Frame::trailers(trailers)].map(Ok::<_, Infallible>);
    Response::builder()
        .header("content-type", "application/grpc")
        .body(Body::new(StreamBody::new(futures_util::stream::iter(
            frames,
        ))))
        .expect("a response")
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_over_h2c_keeps_its_trailers_in_both_directions() {
    let world = World::with_routes("direct-grpc", Router::new().route("/s/M", post(grpc)));
    let origin = world.server.origin();
    let path = format!("unix:{}", world.file("egress.sock").display());
    for listen in ["127.0.0.1:0", &path] {
        let mut command = world.egress(&["--listen", listen, "--upstream", &origin]);
        let service = Service::start(&mut command).await;
        let own = match listen {
            "127.0.0.1:0" => service.address.clone(),
            // As gRPC's own clients name a socket.
            _ => "localhost".to_owned(),
        };
        let mut sender = service.h2c::<Sent>().await;
        for name in [own, authority(&origin)] {
            let mut sums = HeaderMap::new();
            sums.insert("x-sum", HeaderValue::from_static("42"));
            let frames = [
                Frame::data(Bytes::from_static(b"message")),
                Frame::trailers(sums),
            ];
            let body = StreamBody::new(futures_util::stream::iter(frames.map(Ok)));
            let request = Request::post(format!("http://{name}/s/M"))
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .header("authorization", format!("Bearer {}", world.token()))
                .body(BodyExt::boxed(body))
                .expect("a request");
            let response = sender.send_request(request).await.expect("a response");
            assert_eq!(response.status(), 200, "{listen} {name}");
            let collected = response.into_body().collect().await.expect("a body");
            let trailers = collected.trailers().expect("trailers").clone();
            assert_eq!(collected.to_bytes(), "message");
            for (field, value) in [("grpc-status", "0"), ("x-sum", "42"), ("x-te", "trailers")] {
                assert_eq!(trailers[field], value, "{listen} {name} {field}");
            }
        }
        service.end().await;
    }
    let counts = world.server.counts();
    assert_eq!((counts.opened, counts.requests), (2, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn over_h2c_the_authority_names_the_origin() {
    let [here, there] = ["h2c-here", "h2c-there"].map(World::new);
    let (own, other) = (here.server.origin(), there.server.origin());
    let table = format!(
        "{{ url = {other:?}, cert = {:?}, key = {:?}, cacert = {:?} }}",
        there.file("agent.pem"),
        there.file("agent-key.pem"),
        there.file("ca.pem")
    );
    for upstream in [None, Some(&own)] {
        let mut command = here.egress(&["--origin", &table]);
        if let Some(upstream) = upstream {
            command.args(["--upstream", upstream]);
        }
        let service = Service::on_port(&mut command).await;
        let mut sender = service.h2c::<Sent>().await;
        let mut ask = async |url: String, host: Option<&str>| {
            let mut request = Request::get(url);
            if let Some(host) = host {
                request = request.header("host", host);
            }
            let request = request.body(Empty::new().boxed()).expect("a request");
            let response = sender.send_request(request).await.expect("a response");
            response.status().as_u16()
        };
        let before = (
            here.server.counts().requests,
            there.server.counts().requests,
        );
        let (a, b) = (authority(&own), authority(&other));
        assert_eq!(ask(format!("http://{a}/"), None).await, 200);
        assert_eq!(ask(format!("http://{b}/"), None).await, 200);
        assert_eq!(ask(format!("http://{a}/"), Some(&a)).await, 200);
        assert_eq!(ask(format!("http://{a}/"), Some(&b)).await, 421);
        assert_eq!(ask(format!("https://{a}/"), None).await, 400);
        assert_eq!(ask("http://rebound.example/".to_owned(), None).await, 421);
        let served = match upstream {
            None => 421,
            Some(_) => 200,
        };
        let listener = service.address.clone();
        assert_eq!(ask(format!("http://{listener}/"), None).await, served);
        assert_eq!(
            ask(format!("http://{listener}/"), Some("rebound.example")).await,
            421
        );
        let after = (
            here.server.counts().requests,
            there.server.counts().requests,
        );
        let to_upstream = u64::from(upstream.is_some());
        assert_eq!(
            (after.0 - before.0, after.1 - before.1),
            (2 + to_upstream, 1)
        );
        service.end().await;
    }
}
