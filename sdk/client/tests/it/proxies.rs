//! CONNECT proxies: TLS stays end to end, so a proof is valid through one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::fixture::{Fixture, fetch, ok};
use bowline_http_client::{ErrorKind, Proxies, Step, Timeouts};
use bowline_testkit::net::{OwnedTask, accept_loop, loopback};
use bowline_testkit::peers::CyclingOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;

/// A proxy that connects, or refuses.
struct Proxy {
    url: String,
    tunnels: Arc<AtomicU64>,
    _accepting: OwnedTask,
}

impl Proxy {
    fn start(refuses: bool) -> Self {
        let tcp = loopback();
        let url = format!("http://user:secret-word@{}", tcp.local_addr().unwrap());
        let tunnels = Arc::new(AtomicU64::new(0));
        let counted = tunnels.clone();
        let accepting = accept_loop(tcp, move |client| {
            counted.fetch_add(1, Ordering::SeqCst);
            tunnel(client, refuses)
        });
        Self {
            url,
            tunnels,
            _accepting: accepting,
        }
    }

    fn address(&self) -> &str {
        self.url.split('@').nth(1).unwrap()
    }
}

async fn tunnel(mut client: TcpStream, refuses: bool) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    assert!(
        head.contains("proxy-authorization: basic dxnlcjpzzwnyzxqtd29yza=="),
        "{head}"
    );
    assert!(
        !head.contains("bearer") && !head.contains("session-binding-proof"),
        "{head}"
    );
    if refuses {
        client
            .write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n")
            .await
            .unwrap();
        return;
    }
    let target = head.split(' ').nth(1).unwrap().to_owned();
    let mut server = TcpStream::connect(target).await.unwrap();
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    let _ = copy_bidirectional(&mut client, &mut server).await;
}

#[tokio::test]
async fn a_proof_is_valid_through_a_proxy() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let proxy = Proxy::start(false);
    let client = fixture
        .builder()
        .proxies(Proxies::https(&proxy.url, ""))
        .build()
        .unwrap();
    for _ in 0..3 {
        ok(&client, &server.origin(), &fixture.token("a")).await;
    }
    assert_eq!(proxy.tunnels.load(Ordering::SeqCst), 1);
    assert_eq!(client.stats().totals.signatures(), 1);
}

#[tokio::test]
async fn no_proxy_and_none_connect_directly() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let proxy = Proxy::start(true);
    for proxies in [Proxies::https(&proxy.url, "localhost"), Proxies::none()] {
        let client = fixture.builder().proxies(proxies).build().unwrap();
        ok(&client, &server.origin(), &fixture.token("a")).await;
    }
    assert_eq!(proxy.tunnels.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_tunnel_for_another_program_is_the_proxys_or_none() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let (origin, timeouts) = (server.origin().parse().unwrap(), Timeouts::default());
    let proxy = Proxy::start(false);
    let proxies = Proxies::https(&proxy.url, "");
    let tunnel = proxies.tunnel(&origin, &timeouts).await.unwrap();
    assert_eq!(
        tunnel.unwrap().peer_addr().unwrap().to_string(),
        proxy.address()
    );
    for proxies in [Proxies::https(&proxy.url, "localhost"), Proxies::none()] {
        assert!(proxies.tunnel(&origin, &timeouts).await.unwrap().is_none());
    }
    assert_eq!(proxy.tunnels.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_without_its_credentials() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let proxy = Proxy::start(true);
    let client = fixture
        .builder()
        .proxies(Proxies::https(&proxy.url, ""))
        .build()
        .unwrap();
    let error = fetch(&client, &server.origin(), &fixture.token("a"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    let message = error.to_string();
    assert!(
        message.contains("through the proxy 127.0.0.1:") && !message.contains("secret-word"),
        "{message}"
    );
    assert_eq!(server.counts().opened, 0);
}

/// K5: the wait for the proxy's answer ends by a limit of its own, which the error names.
#[tokio::test]
async fn a_proxy_that_answers_nothing_is_given_up_after_its_own_time_out() {
    let fixture = Fixture::new();
    let tcp = loopback();
    let url = format!("http://{}", tcp.local_addr().unwrap());
    let _accepting = accept_loop(tcp, |mut client: TcpStream| async move {
        let mut sent = Vec::new();
        let _ = client.read_to_end(&mut sent).await;
    });
    let mut timeouts = Timeouts::default();
    timeouts.proxy = Duration::from_millis(50);
    let client = fixture
        .builder()
        .timeouts(timeouts)
        .proxies(Proxies::https(&url, ""))
        .build()
        .unwrap();
    let error = fetch(&client, "https://h.example", &fixture.token("a"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout(Step::Proxy), "{error}");
    assert!(error.to_string().contains("CONNECT"), "{error}");
}

/// Run by the test below in several environments; by itself it shows little.
#[tokio::test]
async fn a_request_takes_the_way_that_the_environment_sets() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let client = fixture
        .builder()
        .proxies(Proxies::environment())
        .build()
        .unwrap();
    ok(&client, &server.origin(), &fixture.token("a")).await;
}

/// The environment belongs to a process, so this test runs the one above in processes of its own.
#[tokio::test]
async fn the_environments_proxy_is_used_unless_it_exempts_the_origin() {
    let proxy = Proxy::start(false);
    let run = async |variables: &[(&str, &str)]| {
        let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
        for name in ["HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
            child.env_remove(name).env_remove(name.to_lowercase());
        }
        child.args([
            "--exact",
            "proxies::a_request_takes_the_way_that_the_environment_sets",
        ]);
        let output = child
            .envs(variables.iter().copied())
            .output()
            .await
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
        proxy.tunnels.load(Ordering::SeqCst)
    };
    assert_eq!(run(&[]).await, 0);
    assert_eq!(run(&[("HTTPS_PROXY", &proxy.url)]).await, 1);
    assert_eq!(
        run(&[("https_proxy", &proxy.url), ("NO_PROXY", "localhost")]).await,
        1
    );
    assert_eq!(run(&[("ALL_PROXY", &proxy.url)]).await, 2);
}
