//! Callers beyond loopback, with mutual TLS (GW-5).

mod scene;
mod users;

use bowline_testkit::pki::{KeyKind, Leaf, LeafSpec, Pki};
use bowline_testkit::tls::Alpn;
use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use self::scene::{Scene, closed, connect, say_connect, status};
use super::intercepted::read_head;
use super::service::held;
use super::tunnels::Outer;
use crate::agents::{Service, World, request, stderr};
use crate::support::replace_file;

const RELOADED: &str = " INFO reloaded (a file has changed)";

#[tokio::test(flavor = "multi_thread")]
async fn gw_5_beyond_loopback_whoever_has_a_certificate_is_served_by_every_way() {
    let scene = Scene::new("callers-ways");
    let (origin, host, token) = (&scene.origin, &scene.host, scene.world.token());
    let service = scene
        .start(&[
            "--upstream",
            origin,
            "--intercept",
            &scene.intercept(),
            "--listen-name",
            "egress.example",
            "--listen-name",
            "egress.example:8443",
        ])
        .await;
    let log = service.log();
    assert!(
        log.contains("for callers with a certificate of --listen-client-ca"),
        "{log}"
    );
    let port = service.address.rsplit(':').next().expect("a port");
    let [own, address, any] =
        ["localhost", "127.0.0.1", "0.0.0.0"].map(|name| format!("{name}:{port}"));
    let mut served = 0;
    for (target, named, expected) in [
        // As to a proxy.
        (&*format!("http://{host}/x"), &**host, "200"),
        (&format!("http://{host}/x"), &own, "421"),
        (&format!("https://{host}/x"), host, "400"),
        ("http://other.example/x", "other.example", "403"),
        // As to a server: by its certificate's names, those that are configured, or the origin's.
        ("/x", &own, "200"),
        ("/x", &address, "200"),
        ("/x", "egress.example", "200"),
        ("/x", "egress.example:8443", "200"),
        ("/x", host, "200"),
        ("/x", "egress.example:1", "421"),
        ("/x", "localhost", "421"),
        ("/x", &any, "421"),
        ("/x", "rebound.example", "421"),
    ] {
        let request = request("GET", target, named, &token);
        let answer = scene.say(&service, Some(&scene.caller), &request).await;
        let answer = answer.expect("an answer");
        assert_eq!(status(&answer), expected, "{target} {named}: {answer}");
        served += usize::from(expected == "200");
    }

    let stream = scene
        .connect(&service, Some(&scene.caller), Alpn::Http2)
        .await;
    let stream = stream.expect("a handshake");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let http2 = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = http2.expect("HTTP/2");
    tokio::spawn(connection);
    for (url, expected) in [
        (format!("https://{own}/x"), 200),
        (format!("https://{host}/x"), 200),
        (format!("http://{host}/x"), 200),
        ("https://egress.example/x".to_owned(), 200),
        ("https://rebound.example/x".to_owned(), 421),
        (format!("ftp://{host}/x"), 400),
    ] {
        let request = Request::get(&url).header("authorization", format!("Bearer {token}"));
        let request = request.body(Empty::<Bytes>::new()).expect("a request");
        let response = sender.send_request(request).await.expect("an answer");
        assert_eq!(response.status().as_u16(), expected, "{url}");
        served += usize::from(expected == 200);
    }

    let mut inside = scene.inside(&service, &scene.caller).await;
    let answer = scene.ask(&mut inside, "/x").await;
    assert_eq!(status(&answer), "200", "{answer}");
    served += 1;
    assert_eq!(scene.world.seen.tokens().len(), served);
    assert_eq!(scene.world.server.counts().opened, 1);
    // All of them over one connection, with a line for each, also for the CONNECT.
    service.logs(" INFO request ", 13 + 6 + 2).await;
    let log = service.log();
    let mut lines = log.lines().filter(|line| line.contains(" INFO request "));
    assert!(
        lines.all(|line| line.contains(" caller=CN=caller ")),
        "{log}"
    );
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gw_5_beyond_loopback_nobody_is_served_without_a_certificate_that_verifies() {
    let scene = Scene::new("callers-none");
    let service = scene.start(&["--upstream", &scene.origin]).await;
    let request = request("GET", "/x", &scene.host, &scene.world.token());
    let expired = scene.pki.issue(&LeafSpec::client("caller").expired());
    // The authority of its own certificate has nothing to do with callers.
    for leaf in [None, Some(&scene.world.agent), Some(&expired)] {
        let answer = scene.say(&service, leaf, &request).await;
        // With TLS 1.3 the client hears of it when it reads.
        assert!(answer.is_err(), "{leaf:?}: {answer:?}");
    }
    let mut plain = TcpStream::connect(&service.address)
        .await
        .expect("a socket");
    plain.write_all(request.as_bytes()).await.expect("written");
    let mut answer = Vec::new();
    // The end may be a reset.
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/"), "{answer:?}");
    let answer = scene.say(&service, Some(&scene.caller), &request).await;
    assert_eq!(status(&answer.expect("an answer")), "200");
    assert_eq!(scene.world.seen.tokens().len(), 1);
    let log = service.end().await;
    assert!(log.contains("1 agent connections in, 1 requests;"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_callers_that_are_named_are_served_and_a_reload_counts_at_once() {
    let scene = Scene::new("callers-named");
    let file = scene.world.file("egress.toml");
    let write = |name: &str| replace_file(&file, format!("listen-client = [{name:?}]\n"));
    write("CN=caller");
    let intercept = scene.intercept();
    let mut command = scene.command(&["--upstream", &scene.origin, "--intercept", &intercept]);
    let service = scene
        .start_command(command.arg("--config").arg(&file))
        .await;
    let other = scene.pki.client("other agent", KeyKind::P256);
    let request = request("GET", "/x", &scene.host, &scene.world.token());
    let say = async |leaf: &Leaf, request: &str| {
        let answer = scene.say(&service, Some(leaf), request).await;
        answer.expect("an answer")
    };
    assert_eq!(status(&say(&scene.caller, &request).await), "200");
    let answer = say(&other, &request).await;
    assert_eq!(status(&answer), "403", "{answer}");
    assert!(
        answer.contains("CN=other agent may not use this egress: --listen-client"),
        "{answer}"
    );
    let mut stream = scene
        .connect(&service, Some(&other), Alpn::Http1)
        .await
        .expect("a handshake");
    let answer = say_connect(&mut stream, &scene.host).await;
    assert_eq!(status(&answer), "403", "{answer}");
    let mut inside = scene.inside(&service, &scene.caller).await;
    assert_eq!(status(&scene.ask(&mut inside, "/x").await), "200");
    service.logs("check=caller", 2).await;
    // One word, as each value of a line.
    service.logs(" caller=CN=other%20agent ", 2).await;

    write(&other.thumbprint().to_string());
    service.logs(RELOADED, 1).await;
    assert_eq!(status(&scene.ask(&mut inside, "/x").await), "403");
    assert_eq!(status(&say(&scene.caller, &request).await), "403");
    assert_eq!(status(&say(&other, &request).await), "200");
    assert_eq!(scene.world.seen.tokens().len(), 3);
    service.end().await;
}

/// RS-1, for all that a caller has opened.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_whose_authority_is_gone_loses_its_connections_and_tunnels() {
    let (routes, mut held) = held();
    let scene = Scene::of(World::with_routes("callers-reload", routes));
    let outer = Outer::start();
    let mut command = scene.command(&["--intercept", &scene.intercept(), "--others", "tunnel"]);
    let service = scene
        .start_command(command.env("https_proxy", outer.url()))
        .await;
    let open = async || {
        let stream = scene
            .connect(&service, Some(&scene.caller), Alpn::Http1)
            .await;
        stream.expect("a handshake")
    };
    let absolute = format!("http://{}/x", scene.host);
    let mut idle = open().await;
    assert_eq!(status(&scene.ask(&mut idle, &absolute).await), "200");
    let mut inside = scene.inside(&service, &scene.caller).await;
    assert_eq!(status(&scene.ask(&mut inside, "/x").await), "200");
    // It does not end the TLS inside, and nothing is said in it.
    let mut unused = open().await;
    connect(&mut unused, &scene.host).await;
    let mut tunnel = open().await;
    connect(&mut tunnel, "outside.invalid:443").await;
    tunnel.write_all(b"hello").await.expect("written");
    let mut echo = [0; 5];
    tunnel.read_exact(&mut echo).await.expect("the echo");
    let mut busy = open().await;
    let head = format!(
        "GET http://{0}/held HTTP/1.1\r\nHost: {0}\r\n\r\n",
        scene.host
    );
    busy.write_all(head.as_bytes()).await.expect("written");
    held.arrived.recv().await.expect("arrived");

    // Another listener's certificate alone ends nothing.
    let renewed = scene.pki.localhost();
    scene.write_listener(&renewed);
    service.logs(RELOADED, 1).await;
    let fresh = open().await;
    let shown = fresh
        .get_ref()
        .1
        .peer_certificates()
        .expect("a certificate");
    assert_eq!(&shown[0], renewed.certificate());
    assert_eq!(status(&scene.ask(&mut idle, &absolute).await), "200");
    tunnel.write_all(b"hello").await.expect("written");
    tunnel.read_exact(&mut echo).await.expect("the echo");

    let later = Pki::new();
    replace_file(&scene.world.file("callers.pem"), later.ca_pem());
    service.logs(RELOADED, 2).await;
    closed(idle).await;
    closed(inside).await;
    closed(unused).await;
    closed(tunnel).await;
    closed(fresh).await;
    // A request in flight ends before.
    held.released.add_permits(1);
    let head = read_head(&mut busy).await;
    assert_eq!(status(&head), "200", "{head}");
    assert!(head.contains("connection: close"), "{head}");
    closed(busy).await;
    let request = request("GET", &absolute, &scene.host, &scene.world.token());
    assert!(
        scene
            .say(&service, Some(&scene.caller), &request)
            .await
            .is_err()
    );
    let newcomer = later.client("newcomer", KeyKind::P256);
    let answer = scene.say(&service, Some(&newcomer), &request).await;
    assert_eq!(status(&answer.expect("an answer")), "200");

    // What cannot be used changes nothing.
    replace_file(&scene.world.file("listen.pem"), "");
    let refused =
        "not reloaded (a file has changed), the former configuration stays in use: --listen-cert: ";
    service.logs(refused, 1).await;
    let answer = scene.say(&service, Some(&newcomer), &request).await;
    assert_eq!(status(&answer.expect("an answer")), "200");
    service.end().await;
}

/// A client of the SDK calls, with the files of `bowline pki`.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_can_be_named_by_its_spiffe_id() {
    let world = World::new("callers-spiffe");
    let (pki, id) = (world.file("pki"), "spiffe://example.com/agent/7");
    for arguments in [&["init"][..], &["issue", "agent-7", "--spiffe", id]] {
        let (verb, rest) = arguments.split_first().expect("a verb");
        let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
        let made = command
            .args(["pki", verb])
            .arg(&pki)
            .args(rest)
            .output()
            .await;
        assert!(made.expect("it runs").status.success());
    }
    let mut command = world.egress(&["--upstream", &world.server.origin(), "--listen-client", id]);
    for (option, name) in [
        ("--listen-cert", "server.pem"),
        ("--listen-key", "server.key"),
        ("--listen-client-ca", "ca.pem"),
    ] {
        command.arg(option).arg(pki.join(name));
    }
    let service = Service::start(command.args(["--listen", "0.0.0.0:0"])).await;
    let port = service.address.rsplit(':').next().expect("a port");
    for (name, expected) in [("agent-7", 200), ("client", 403)] {
        let [chain, key] = ["pem", "key"].map(|kind| pki.join(format!("{name}.{kind}")));
        let client = bowline::Client::builder()
            .identity(bowline::Identity::from_pem_files(chain, key).expect("an identity"))
            .trust(bowline::Trust::from_pem_file(pki.join("ca.pem")).expect("a root"))
            .build()
            .expect("a client");
        let request = Request::get(format!("https://localhost:{port}/x"));
        let request = request.body(Empty::<Bytes>::new()).expect("a request");
        let response = client.send(request).await.expect("an answer");
        assert_eq!(response.status().as_u16(), expected, "{name}");
    }
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_whose_upgrade_was_not_granted_ends_with_close_notify() {
    let scene = Scene::new("callers-not-granted");
    let service = scene.start(&[]).await;
    let host = &scene.host;
    for (request, expected) in [
        (
            "CONNECT other.example:443 HTTP/1.1\r\nHost: other.example:443\r\nConnection: close\r\n\r\n"
                .to_owned(),
            "403",
        ),
        (
            format!(
                "GET http://{host}/x HTTP/1.1\r\nHost: {host}\r\nConnection: upgrade, close\r\nUpgrade: h2c\r\n\r\n"
            ),
            "200",
        ),
    ] {
        // rustls has an error for an end without it.
        let answer = scene.say(&service, Some(&scene.caller), &request).await;
        let answer = answer.expect("close_notify");
        assert_eq!(status(&answer), expected, "{answer}");
    }
    service.end().await;
}

/// On loopback the user counts as without TLS, and the certificate besides.
#[tokio::test(flavor = "multi_thread")]
async fn on_loopback_a_certificate_is_needed_too_if_the_listener_ends_tls() {
    let scene = Scene::new("callers-loopback");
    let file = scene.world.file("egress.toml");
    let all = |name: &str| scene.world.file(name).display().to_string();
    let config = format!(
        "listen-cert = {:?}\nlisten-key = {:?}\nlisten-client-ca = {:?}\n",
        all("listen.pem"),
        all("listen-key.pem"),
        all("callers.pem")
    );
    replace_file(&file, &config);
    let mut command = scene
        .world
        .egress(&["--upstream", &scene.origin, "--config"]);
    command.arg(&file).env("BOWLINE_LOG_LEVEL", "info");
    let service = Service::on_port(&mut command).await;
    let log = service.log();
    assert!(
        log.contains("for processes of this user with a certificate of"),
        "{log}"
    );
    let request = request("GET", "/x", &service.address, &scene.world.token());
    let is_served = async |leaf| {
        let answer = scene.say(&service, leaf, &request).await;
        answer.is_ok_and(|answer| status(&answer) == "200")
    };
    assert!(!is_served(None).await);
    assert!(is_served(Some(&scene.caller)).await);
    // It does not fall back to what needs no certificate.
    replace_file(&file, "");
    service
        .logs(
            "--listen-cert cannot be left away: the listener ends TLS",
            1,
        )
        .await;
    assert!(!is_served(None).await);
    assert!(is_served(Some(&scene.caller)).await);
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_callers_with_certificates_need_is_told() {
    let scene = Scene::new("callers-wrong");
    let file = |name: &str| scene.world.file(name).display().to_string();
    let [cert, key, ca] = ["listen.pem", "listen-key.pem", "callers.pem"].map(file);
    let expired = scene.pki.issue(&LeafSpec::server(&["localhost"]).expired());
    let folder = scene.world.file("expired");
    std::fs::create_dir(&folder).expect("a folder");
    let written = expired.write_to(&folder).expect("files");
    let [old, old_key] =
        [&written.certificate, &written.key].map(|file| file.display().to_string());
    let unix = format!("unix:{}", file("egress.sock"));
    let all = [
        "--listen-cert",
        &cert,
        "--listen-key",
        &key,
        "--listen-client-ca",
        &ca,
    ];
    let with = |more: &[&'static str]| [&all[..], more].concat();
    for (listen, options, expected) in [
        (
            "0.0.0.0:0",
            vec![],
            "give --listen-cert, --listen-key and --listen-client-ca",
        ),
        (
            "[::]:0",
            vec![],
            "beyond loopback every machine could use the key",
        ),
        (
            "0.0.0.0:0",
            all[..4].to_vec(),
            "--listen-client-ca is missing",
        ),
        ("127.0.0.1:0", all[2..].to_vec(), "--listen-cert is missing"),
        (
            &unix,
            all.to_vec(),
            "a Unix socket is for processes of this machine",
        ),
        (
            "127.0.0.1:0",
            vec!["--listen-client", "CN=a"],
            "--listen-client has no effect",
        ),
        (
            "127.0.0.1:0",
            vec!["--listen-name", "a"],
            "--listen-name has no effect",
        ),
        (
            "0.0.0.0:0",
            with(&["--listen-client", "agent"]),
            "its SPIFFE ID, or its subject",
        ),
        (
            "0.0.0.0:0",
            with(&["--listen-name", "a/b"]),
            "write HOST or HOST:PORT",
        ),
        (
            "0.0.0.0:0",
            vec![
                "--listen-cert",
                &ca,
                "--listen-key",
                &key,
                "--listen-client-ca",
                &ca,
            ],
            "does not match",
        ),
        (
            "0.0.0.0:0",
            vec![
                "--listen-cert",
                &cert,
                "--listen-key",
                &key,
                "--listen-client-ca",
                &key,
            ],
            "--listen-client-ca: ",
        ),
        (
            "0.0.0.0:0",
            vec![
                "--listen-cert",
                &old,
                "--listen-key",
                &old_key,
                "--listen-client-ca",
                &ca,
            ],
            "issue a new one",
        ),
    ] {
        for check in [true, false] {
            let mut command = scene.world.egress(&["--listen", listen]);
            command.args(check.then_some("--check"));
            let output = command.args(&options).output().await.expect("it runs");
            let text = stderr(&output);
            assert_eq!(output.status.code(), Some(2), "{options:?}: {text}");
            assert!(text.contains(expected), "{expected:?} is not in {text}");
            let secret = std::fs::read_to_string(&key).expect("a key");
            let secret = secret.lines().nth(1).expect("a line");
            assert!(!text.contains(secret), "{text}");
        }
    }
    let mut command = scene.command(&["--check", "--listen", "0.0.0.0:0"]);
    let output = command.output().await.expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}
