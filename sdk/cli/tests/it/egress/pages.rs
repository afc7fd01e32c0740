//! A web page in a browser of this machine, whose requests have the right `Host` (GW-7). What it has
//! the browser send is written as browsers write it.

use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::intercepted::{careless, tls};
use crate::agents::{Running, Service, World, authority};

/// A simple request, which no preflight precedes: a form, an image, `fetch` with `no-cors`.
fn simple(method: &str, host: &str, fields: &[&str]) -> String {
    let mut request = format!("{method} /transfer HTTP/1.1\r\nHost: {host}\r\n");
    for field in fields {
        request += &format!("{field}\r\n");
    }
    let body = match method {
        "POST" => "Content-Type: text/plain\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
        _ => "Connection: close\r\n\r\n",
    };
    request + body
}

#[track_caller]
fn assert_answer(answer: &str, status: StatusCode, what: &str) {
    let line = format!("HTTP/1.1 {} ", status.as_u16());
    assert!(answer.starts_with(&line), "{what}: {answer}");
    if status == StatusCode::FORBIDDEN {
        assert!(answer.contains("server: bowline-egress\r\n"), "{answer}");
        // Nothing that would let the page go on, or read this.
        assert!(!answer.contains("access-control-"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gw_7_a_page_cannot_use_the_certificate_by_a_simple_request() {
    let world = World::new("pages-simple");
    let origin = world.server.origin();
    let service = Service::on_port(&mut world.egress(&["--upstream", &origin])).await;
    let (_, port) = service.address.rsplit_once(':').expect("a port");
    let hosts = ["localhost", "127.0.0.1"].map(|host| format!("{host}:{port}"));
    let of = |site: &str| format!("Sec-Fetch-Site: {site}");
    let (cross, same_site, same_origin, none) = (
        of("cross-site"),
        of("same-site"),
        of("same-origin"),
        of("none"),
    );
    for host in &hosts {
        let listener = format!("Origin: http://{host}");
        for (method, fields) in [
            // `fetch` with `no-cors`, a form, `navigator.sendBeacon`.
            ("POST", &["Origin: https://evil.example", &*cross][..]),
            // From a sandboxed frame, or a file.
            ("POST", &["Origin: null", &cross]),
            // A page of another port of this machine.
            ("POST", &["Origin: http://localhost:3000", &same_site]),
            // A page that another program served at this port before.
            ("POST", &[&listener, &same_origin]),
            // An image, a link.
            ("GET", &[&cross]),
            // The first page of a tab, by a redirect.
            ("GET", &[&none, "Sec-Fetch-Mode: navigate"]),
            // A browser that does not say the one or the other.
            ("POST", &["Origin: https://evil.example"]),
            // A preflight: no other request follows it.
            (
                "OPTIONS",
                &[
                    "Origin: https://evil.example",
                    "Access-Control-Request-Method: PUT",
                    "Access-Control-Request-Headers: authorization",
                ],
            ),
            // A field that would take the others out is read before it does.
            (
                "POST",
                &[
                    "Origin: https://evil.example",
                    "Connection: Origin, Sec-Fetch-Site",
                ],
            ),
        ] {
            let answer = service.say(&simple(method, host, fields)).await;
            assert_answer(&answer, StatusCode::FORBIDDEN, &format!("{fields:?}"));
        }
    }
    assert_eq!(world.server.counts().requests, 0);
    // Agents: most say nothing, Node's `fetch` a little, and some name the server that they mean.
    let [named, listener] = [&*origin, &format!("http://{}", hosts[0])].map(|origin| {
        let fields = format!("Origin: {origin}");
        simple("POST", &hosts[0], &[&fields])
    });
    let silent = simple("POST", &hosts[0], &[]);
    let node = simple("POST", &hosts[0], &["Sec-Fetch-Mode: cors"]);
    for request in [silent, node, named, listener] {
        let answer = service.say(&request).await;
        assert_answer(&answer, StatusCode::OK, &request);
    }
    assert_eq!(world.server.counts().requests, 4);
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gw_7_in_a_tunnel_only_the_origin_s_own_pages_reach_it() {
    let world = World::new("pages-tunnel");
    let running = Running::start(&mut world.run(&[])).await;
    let host = authority(&world.server.origin());
    let own = format!("Origin: {}", world.server.origin());
    let mut served = 0;
    for (method, fields, status) in [
        ("GET", &["Sec-Fetch-Site: none"][..], StatusCode::OK),
        (
            "POST",
            &["Sec-Fetch-Site: same-origin", &*own],
            StatusCode::OK,
        ),
        (
            "GET",
            &["Sec-Fetch-Site: cross-site"],
            StatusCode::FORBIDDEN,
        ),
        ("GET", &["Sec-Fetch-Site: same-site"], StatusCode::FORBIDDEN),
        (
            "POST",
            &["Sec-Fetch-Site: cross-site", "Origin: https://evil.example"],
            StatusCode::FORBIDDEN,
        ),
        ("POST", &["Origin: null"], StatusCode::FORBIDDEN),
    ] {
        let mut stream = tls(&running.proxy, &host, careless(true), "localhost").await;
        let request = simple(method, &host, fields);
        stream.write_all(request.as_bytes()).await.expect("written");
        let mut answer = Vec::new();
        // Closed without a word by some servers.
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).expect("UTF-8");
        assert_answer(&answer, status, &format!("{fields:?}"));
        served += u64::from(status == StatusCode::OK);
    }
    assert_eq!(world.server.counts().requests, served);
    running.end().await;
}

/// A service there may pass on what a browser said to it.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_unix_socket_which_no_browser_reaches_these_fields_are_passed_on() {
    let world = World::new("pages-socket");
    let origin = world.server.origin();
    let listen = format!("unix:{}", world.file("egress.sock").display());
    let arguments = ["--upstream", &*origin, "--listen", &listen];
    let service = Service::start(&mut world.egress(&arguments)).await;
    let fields = ["Origin: https://app.example", "Sec-Fetch-Site: cross-site"];
    let answer = service.say(&simple("POST", "localhost", &fields)).await;
    assert_answer(&answer, StatusCode::OK, "a socket");
    assert!(answer.contains("x-got-origin: https://app.example\r\n"));
    service.end().await;
}
