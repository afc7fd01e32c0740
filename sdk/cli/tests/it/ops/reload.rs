//! What happens when a file changes, and on SIGHUP.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use bowline_testkit::pki::{KeyKind, Leaf, Pki};
use bowline_testkit::tls::{Alpn, TlsOptions};
use http::StatusCode;
use rustls::{ClientConfig, HandshakeKind};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::load::{Load, service};
use super::{logs, tail};
use crate::ingress::fixture::*;

const RELOADED: &str = "reloaded (a file has changed)";
const REFUSED: &str = "not reloaded (a file has changed), the former configuration stays in use";

/// How often each has been logged. `REFUSED` does not contain `RELOADED` with its `INFO`.
async fn reloaded(ingress: &Ingress, times: usize) {
    logs(ingress, &format!(" INFO {RELOADED}"), times).await;
}

/// Puts a file in the place of another one in one step.
fn replace(scene: &Scene, name: &str, content: impl AsRef<[u8]>) {
    crate::support::replace_file(&scene.path(name), content);
}

async fn presented(scene: &Scene, ingress: &Ingress) -> CertificateDer<'static> {
    let stream = scene.tls(ingress, Some(&scene.agent), Alpn::Http2).await;
    let chain = stream.get_ref().1.peer_certificates().unwrap();
    chain[0].clone().into_owned()
}

/// Whether a request of this client passes on a new connection.
async fn passes(scene: &Scene, ingress: &Ingress, leaf: &Leaf) -> bool {
    let mut client = scene.connect_as(ingress, Some(leaf), Alpn::Http2).await;
    let token = scene.token(&bowline_testkit::authority::TokenRequest::session_bound(
        "agent",
        leaf.thumbprint(),
    ));
    let request = client.proved(leaf, &token).body(whole("")).unwrap();
    let response = client.send(request).await;
    response.is_ok_and(|response| response.status() == StatusCode::OK)
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_ca_and_jwks_are_replaced_under_load_and_no_request_fails() {
    let scene = Scene::new();
    let (upstream, _) = service();
    let ingress = scene.start(&upstream, &[]).await;
    let load = Load::start(&scene, &ingress).await;
    load.more(50).await;

    // A key of the authorization server that was not in the set.
    scene.authority.rotate_key();
    replace(&scene, "jwks.json", scene.authority.jwks().to_string());
    reloaded(&ingress, 1).await;
    assert!(passes(&scene, &ingress, &scene.agent).await);
    load.more(50).await;

    // Client certificates of a second authority too.
    let second = Pki::foreign();
    let agent = second.client("agent", KeyKind::P256);
    let both = format!("{}{}", scene.pki.ca_pem(), second.ca_pem());
    replace(&scene, "ca.pem", both);
    reloaded(&ingress, 2).await;
    assert!(passes(&scene, &ingress, &agent).await);
    load.more(50).await;

    // The server's certificate and key, one after the other as most tools write them: what is read
    // in between does not fit together, and is not used.
    let renewed = scene.pki.localhost();
    replace(&scene, "server.key", renewed.key_pem());
    replace(&scene, "server.pem", renewed.chain_pem());
    reloaded(&ingress, 3).await;
    assert_eq!(presented(&scene, &ingress).await, *renewed.certificate());
    load.more(50).await;

    load.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_changes_nothing_and_is_named() {
    let scene = Scene::new();
    let (upstream, _) = service();
    let ingress = scene.start(&upstream, &[]).await;
    let before = presented(&scene, &ingress).await;
    let load = Load::start(&scene, &ingress).await;
    let good = |name: &str| std::fs::read(scene.path(name)).unwrap();
    let foreign = Pki::foreign().localhost();
    let expired = scene
        .pki
        .issue(&bowline_testkit::pki::LeafSpec::server(&["localhost"]).expired());
    let cases = [
        (
            "server.pem",
            "no certificate".to_owned(),
            "holds no certificate",
        ),
        (
            "server.pem",
            foreign.chain_pem().to_owned(),
            "does not match",
        ),
        ("server.pem", expired.chain_pem().to_owned(), "not match"),
        ("server.key", "no key".to_owned(), "server.key"),
        ("ca.pem", String::new(), "ca.pem: there is no certificate"),
        ("jwks.json", "{\"keys\":".to_owned(), "is not a JWK set"),
    ];
    for (number, (name, content, reason)) in cases.into_iter().enumerate() {
        let kept = good(name);
        replace(&scene, name, content);
        logs(&ingress, REFUSED, number + 1).await;
        let log = ingress.log();
        let line = log.lines().rfind(|line| line.contains(REFUSED)).unwrap();
        assert!(line.contains(name) && line.contains(reason), "{line}");
        assert!(line.contains("ERROR"), "{line}");
        assert_eq!(presented(&scene, &ingress).await, before);
        assert!(passes(&scene, &ingress, &scene.agent).await, "{name}");
        load.more(10).await;
        replace(&scene, name, kept);
        reloaded(&ingress, number + 1).await;
    }
    load.stop().await;
}

#[tokio::test]
async fn a_certificate_behind_swapped_links_is_seen() {
    let scene = Scene::new();
    let mount = scene.path("mount");
    let version = |name: &str, leaf: &Leaf| {
        let folder = mount.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("tls.crt"), leaf.chain_pem()).unwrap();
        std::fs::write(folder.join("tls.key"), leaf.key_pem()).unwrap();
        let owner = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(folder.join("tls.key"), owner).unwrap();
    };
    // As the kubelet does it: `..data` is swapped, and then the former folder goes.
    let swap = |name: &str| {
        symlink(name, mount.join("..data_tmp")).unwrap();
        std::fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
    };
    let leaves: Vec<Leaf> = (0..3).map(|_| scene.pki.localhost()).collect();
    version("..0", &leaves[0]);
    swap("..0");
    for name in ["tls.crt", "tls.key"] {
        symlink(Path::new("..data").join(name), mount.join(name)).unwrap();
    }
    let (crt, key) = (mount.join("tls.crt"), mount.join("tls.key"));
    let upstream = Upstream::echo();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bowline"));
    command
        .args([
            "ingress",
            "--listen",
            "127.0.0.1:0",
            "--upstream",
            &upstream.url(),
        ])
        .arg("--cert")
        .arg(crt)
        .arg("--key")
        .arg(key)
        .arg("--client-ca")
        .arg(scene.path("ca.pem"))
        .args(scene.jwt_options());
    let ingress = within(Ingress::spawn(command)).await;
    assert_eq!(presented(&scene, &ingress).await, *leaves[0].certificate());
    for (number, leaf) in leaves.iter().enumerate().skip(1) {
        version(&format!("..{number}"), leaf);
        swap(&format!("..{number}"));
        std::fs::remove_dir_all(mount.join(format!("..{}", number - 1))).unwrap();
        reloaded(&ingress, number).await;
        assert_eq!(presented(&scene, &ingress).await, *leaf.certificate());
    }
    assert!(!ingress.log().contains(REFUSED), "{}", tail(&ingress));
}

#[tokio::test]
async fn rs_1_who_is_no_longer_trusted_loses_the_connection() {
    let scene = Scene::new();
    let upstream = Upstream::echo();
    let ingress = scene.start(&upstream, &[]).await;
    let second = Pki::foreign();
    let other = second.client("other", KeyKind::P256);
    let both = format!("{}{}", scene.pki.ca_pem(), second.ca_pem());
    replace(&scene, "ca.pem", &both);
    reloaded(&ingress, 1).await;
    let mut idle = scene.raw(&ingress).await;
    let credentials = scene.credentials(&idle);
    let request = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{credentials}\r\n");
    idle.write(&request).await;
    let head = idle.until("\r\n\r\n").await.unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    idle.until("}").await.unwrap();
    let mut stays = scene.connect_as(&ingress, Some(&other), Alpn::Http2).await;

    replace(&scene, "ca.pem", second.ca_pem());
    reloaded(&ingress, 2).await;
    // It is closed, although it did nothing wrong since.
    assert_eq!(idle.until("HTTP/1.1").await, None);
    let token = scene.token(&bowline_testkit::authority::TokenRequest::session_bound(
        "agent",
        other.thumbprint(),
    ));
    let request = stays.proved(&other, &token);
    assert_eq!(stays.get(request).await.status, StatusCode::OK);
    assert!(passes(&scene, &ingress, &other).await);
    // In TLS 1.3 the client learns of its refusal with the first response.
    assert!(!handshake_succeeds(&scene, &ingress, &scene.agent).await);
}

async fn handshake_succeeds(scene: &Scene, ingress: &Ingress, leaf: &Leaf) -> bool {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = scene.tls(ingress, Some(leaf), Alpn::Http1).await;
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let written = within(stream.write_all(request)).await;
    let mut first = [0; 1];
    written.is_ok() && within(stream.read_exact(&mut first)).await.is_ok()
}

#[tokio::test]
async fn enforcing_after_observing_refuses_the_same_proof_on_the_same_connection() {
    let scene = Scene::new();
    let config = scene.write("ingress.toml", "observe = true\n");
    let upstream = Upstream::echo();
    let ingress = scene.start(&upstream, &["--config", &config]).await;
    let mut client = scene.connect(&ingress, Alpn::Http2).await;
    let elsewhere = scene.connect(&ingress, Alpn::Http2).await;
    let token = scene.session_bound();
    // The proof is for another connection.
    let request = || elsewhere.proved(&scene.agent, &token);
    let arrived = client.get(request()).await.arrived();
    assert!(arrived.one("session-binding-observed").contains("RS-6"));
    let good = client.proved(&scene.agent, &token);
    assert_eq!(client.get(good).await.status, StatusCode::OK);

    // What is unknown is refused, and named; it observes as before.
    replace(&scene, "ingress.toml", "obsreve = true\n");
    logs(&ingress, REFUSED, 1).await;
    let log = ingress.log();
    let line = log.lines().find(|line| line.contains(REFUSED)).unwrap();
    assert!(
        line.contains("ingress.toml: unknown key `obsreve`"),
        "{line}"
    );
    assert_eq!(client.get(request()).await.status, StatusCode::OK);

    replace(&scene, "ingress.toml", "observe = false\n");
    reloaded(&ingress, 1).await;
    client.get(request()).await.assert_refused("RS-6");
    let good = client.proved(&scene.agent, &token);
    assert_eq!(client.get(good).await.status, StatusCode::OK);
}

#[tokio::test]
async fn sighup_reads_everything_anew_and_says_what_needs_a_restart() {
    let scene = Scene::new();
    let config = scene.write("ingress.toml", "max-streams = 10\n");
    let upstream = Upstream::echo();
    let ingress = scene.start(&upstream, &["--config", &config]).await;
    ingress.signal("HUP");
    logs(&ingress, " INFO reloaded (SIGHUP)", 1).await;
    assert!(!ingress.log().contains("a restart is needed"));
    replace(&scene, "ingress.toml", "max-streams = 20\n");
    reloaded(&ingress, 1).await;
    logs(
        &ingress,
        "a limit of connections changed: a restart is needed for that",
        1,
    )
    .await;
    assert!(passes(&scene, &ingress, &scene.agent).await);
}

#[tokio::test]
async fn what_did_not_change_is_not_made_anew() {
    let scene = Scene::new();
    let upstream = Upstream::echo();
    let config = scene.write("ingress.toml", "sse-keep-alive = \"15s\"\n");
    let roots = scene.write("authority.pem", scene.authority.ca_pem());
    let ingress = scene
        .start_with(
            &upstream.url(),
            &[
                "--config",
                &config,
                "--jwks",
                &scene.authority.jwks_url(),
                "--authority-ca",
                &roots,
                "--issuer",
                scene.authority.issuer(),
                "--audience",
                AUDIENCE,
            ],
        )
        .await;
    let tls = TlsOptions::alpn(Alpn::Http2).client(&scene.pki, Some(&scene.agent));
    assert_eq!(kind(&scene, &ingress, &tls).await, HandshakeKind::Full);
    assert_eq!(kind(&scene, &ingress, &tls).await, HandshakeKind::Resumed);
    let fetches = scene.authority.jwks_fetches();
    assert!(fetches > 0);

    // Neither TLS sessions nor the key set are lost by it.
    replace(&scene, "ingress.toml", "sse-keep-alive = \"20s\"\n");
    reloaded(&ingress, 1).await;
    assert_eq!(kind(&scene, &ingress, &tls).await, HandshakeKind::Resumed);
    assert_eq!(scene.authority.jwks_fetches(), fetches);

    // By this the sessions are: its roots may be others.
    let again = format!("{}\n", scene.pki.ca_pem());
    replace(&scene, "ca.pem", again);
    reloaded(&ingress, 2).await;
    assert_eq!(kind(&scene, &ingress, &tls).await, HandshakeKind::Full);
    assert_eq!(scene.authority.jwks_fetches(), fetches);

    // And this is another validator.
    replace(&scene, "ingress.toml", "any-jwt-type = true\n");
    reloaded(&ingress, 3).await;
    assert_eq!(kind(&scene, &ingress, &tls).await, HandshakeKind::Resumed);
    assert_eq!(scene.authority.jwks_fetches(), fetches + 1);
}

/// How a connection of the agent begins over which a request then passes.
async fn kind(scene: &Scene, ingress: &Ingress, tls: &Arc<ClientConfig>) -> HandshakeKind {
    let tcp = TcpStream::connect(ingress.addr).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let connect = TlsConnector::from(tls.clone()).connect(name, tcp);
    let stream = within(connect).await.unwrap();
    let kind = stream.get_ref().1.handshake_kind().unwrap();
    let mut client = Http::over(stream).await;
    let request = client.proved(&scene.agent, &scene.session_bound());
    assert_eq!(client.get(request).await.status, StatusCode::OK);
    kind
}
