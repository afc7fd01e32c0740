//! Tunnels to other hosts, through the proxy that the machine goes out through.

use std::sync::{Arc, Mutex};

use axum::Router;
use bowline_testkit::net::{OwnedTask, accept_loop, loopback};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;

use super::intercepted::connect;
use crate::agents::{Service, World, authority, request};

/// A CONNECT proxy. It echoes what is sent to hosts that it alone knows, and connects to others.
pub(super) struct Outer {
    url: String,
    /// The head of each CONNECT.
    heads: Arc<Mutex<Vec<String>>>,
    _accepting: OwnedTask,
}

impl Outer {
    pub(super) fn start() -> Self {
        let tcp = loopback();
        let address = tcp.local_addr().expect("an address");
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = heads.clone();
        let accepting = accept_loop(tcp, move |client| serve(client, kept.clone()));
        Self {
            url: format!("http://user:secret-word@{address}"),
            heads,
            _accepting: accepting,
        }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    fn targets(&self) -> Vec<String> {
        let heads = self.heads.lock().expect("the lock");
        let target = |head: &String| head.split(' ').nth(1).expect("a target").to_owned();
        heads.iter().map(target).collect()
    }
}

async fn serve(mut client: TcpStream, heads: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = client.read_u8().await else {
            return;
        };
        head.push(byte);
    }
    let head = String::from_utf8(head).expect("UTF-8");
    let target = head.split(' ').nth(1).expect("a target").to_owned();
    heads.lock().expect("the lock").push(head);
    if target.starts_with("refused.") {
        let _ = client.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n").await;
        return;
    }
    let _ = client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
    if target.contains(".invalid:") {
        let (mut from, mut to) = client.split();
        let _ = tokio::io::copy(&mut from, &mut to).await;
        return;
    }
    if let Ok(mut server) = TcpStream::connect(target).await {
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }
}

/// GW-7: what a name is that is not known here is the outer proxy's decision; what is known here to
/// be forbidden is refused here.
#[tokio::test(flavor = "multi_thread")]
async fn gw_7_tunnels_go_through_the_outer_proxy_and_never_to_a_forbidden_address() {
    let world = World::new("tunnels-outer");
    let outer = Outer::start();
    let mut command = world.egress(&["--others", "tunnel"]);
    command
        .env("https_proxy", &outer.url)
        .env("no_proxy", "direct.invalid");
    let service = Service::on_port(&mut command).await;

    let (status, mut socket) = connect(&service.address, "outside.invalid:443").await;
    assert_eq!(status, 200);
    socket
        .write_all(b"a client speaks first")
        .await
        .expect("written");
    let mut echoed = [0; 21];
    socket.read_exact(&mut echoed).await.expect("the echo");
    assert_eq!(&echoed, b"a client speaks first");

    // The egress's own requests take the same way.
    let host = authority(&world.server.origin());
    let answer = request("GET", &format!("http://{host}/"), &host, &world.token());
    let answer = service.say(&answer).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    for (target, status) in [
        ("refused.invalid:443", 502),
        // Not through the proxy, and not known here.
        ("direct.invalid:443", 502),
        ("localhost:443", 403),
        ("127.0.0.1:443", 403),
        ("[::1]:443", 403),
        ("169.254.169.254:443", 403),
        ("10.0.0.1:443", 403),
        ("outside.invalid:22", 403),
    ] {
        assert_eq!(
            connect(&service.address, target).await.0,
            status,
            "{target}"
        );
    }
    drop(socket);
    assert_eq!(
        outer.targets(),
        ["outside.invalid:443", &*host, "refused.invalid:443"]
    );
    for head in outer.heads.lock().expect("the lock").iter() {
        assert!(head.contains("Proxy-Authorization: Basic"), "{head}");
        assert!(!head.contains("Bearer"), "{head}");
    }
    let log = service.end().await;
    assert!(log.contains("1 tunnels without a proof"), "{log}");
    assert!(!log.contains("secret-word"), "{log}");
}

/// An agent's own credentials for a proxy are not for the one behind.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_says_to_its_proxy_goes_no_further() {
    let world = World::new("tunnels-credentials");
    let outer = Outer::start();
    let (other, _) = world.another(Router::new());
    let mut command = world.egress(&["--others", "tunnel"]);
    let service = Service::on_port(command.env("https_proxy", &outer.url)).await;
    let mut socket = TcpStream::connect(&service.address)
        .await
        .expect("the egress");
    let connect = "CONNECT outside.invalid:443 HTTP/1.1\r\nHost: outside.invalid:443\r\n\
                   Proxy-Authorization: Basic YWdlbnQ6YWdlbnQ=\r\nX-Agent: agent\r\n\r\n";
    socket.write_all(connect.as_bytes()).await.expect("written");
    let head = super::intercepted::read_head(&mut socket).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let heads = outer.heads.lock().expect("the lock").clone();
    assert_eq!(heads.len(), 1);
    for never in ["YWdlbnQ6YWdlbnQ", "X-Agent", "x-agent"] {
        assert!(!heads[0].contains(never), "{never}: {}", heads[0]);
    }
    drop((other, socket));
    service.end().await;
}
