//! Certificates for development.

use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use bowline::server::{
    Acceptor, ClientAuth, ConnectionFacts, Listener, ServeOptions, ServerTls, serve,
};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// A directory of this test's own, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("bowline-pki-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).expect("a directory");
        Self(dir)
    }

    fn pki(&self) -> PathBuf {
        self.0.join("pki")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn pki(arguments: &[&str], dir: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bowline"))
        .arg("pki")
        .args(arguments)
        .arg(dir)
        .args(more)
        .output()
        .expect("the command runs")
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn stderr(output: &Output, status: i32) -> String {
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

/// What the server `server` sees of the client `client` on a connection to `host`: the
/// certificate's thumbprint and SPIFFE ID.
async fn handshake(dir: &Path, server: &str, client: &str, address: &str, host: &str) -> String {
    let pem = |name: &str, kind: &str| dir.join(format!("{name}.{kind}"));
    let trust = bowline::server::Trust::from_pem_file(pem("ca", "pem")).expect("the CA");
    let identity =
        bowline::server::Identity::from_pem_files(pem(server, "pem"), pem(server, "key"))
            .expect("the server's pair");
    let tls = ServerTls::builder(identity, ClientAuth::Required(trust));
    let acceptor = Acceptor::new(tls.build().expect("TLS"));
    let listener = Listener::bind(address, acceptor).await.expect("a port");
    let port = listener.local_addr().port();
    let service = tower::service_fn(|request: Request<_>| async move {
        let facts = request.extensions().get::<Arc<ConnectionFacts>>();
        let seen = facts
            .and_then(|facts| facts.certificate())
            .expect("a certificate");
        let text = format!("{} {:?}", seen.thumbprint(), seen.spiffe_id());
        drop::<Request<hyper::body::Incoming>>(request);
        Ok::<_, Infallible>(Response::new(Full::new(bytes::Bytes::from(text))))
    });
    let server = tokio::spawn(serve(
        listener,
        service,
        ServeOptions::default(),
        std::future::pending(),
    ));
    let client = bowline::Client::builder()
        .identity(
            bowline::Identity::from_pem_files(pem(client, "pem"), pem(client, "key"))
                .expect("the client's pair"),
        )
        .trust(bowline::Trust::from_pem_file(pem("ca", "pem")).expect("the CA"))
        .build()
        .expect("a client");
    let request = http::Request::get(format!("https://{host}:{port}/"))
        .body(String::new())
        .expect("a request");
    let response = client.send(request).await.expect("a response");
    let body = response.into_body().collect().await.expect("a body");
    server.abort();
    String::from_utf8(body.to_bytes().to_vec()).expect("UTF-8")
}

#[tokio::test]
async fn server_and_client_that_init_made_shake_hands_by_each_of_the_servers_names() {
    let scratch = Scratch::new("handshake");
    let dir = scratch.pki();
    let told = stdout(&pki(&["init"], &dir, &[]));
    assert!(
        told.contains("bowline ingress --listen 127.0.0.1:8443 --cert "),
        "{told}"
    );
    for (address, host) in [
        ("127.0.0.1:0", "localhost"),
        ("127.0.0.1:0", "127.0.0.1"),
        ("[::1]:0", "[::1]"),
    ] {
        let seen = handshake(&dir, "server", "client", address, host).await;
        assert_eq!(
            seen,
            format!("{} None", thumbprint(&dir.join("client.pem"))),
            "{host}"
        );
    }
}

#[tokio::test]
async fn what_issue_made_shakes_hands_too() {
    let scratch = Scratch::new("issued");
    let dir = scratch.pki();
    stdout(&pki(&["init"], &dir, &[]));
    let id = "spiffe://example.com/agent/7";
    let told = stdout(&pki(&["issue"], &dir, &["agent-7", "--spiffe", id]));
    assert!(told.contains("a client certificate, 365 days"), "{told}");
    assert!(
        told.contains("bowline call https://localhost:8443/"),
        "{told}"
    );
    let names = [
        "api",
        "--dns",
        "localhost",
        "--dns",
        "127.0.0.1",
        "--days",
        "3",
    ];
    let told = stdout(&pki(&["issue"], &dir, &names));
    assert!(told.contains("a server certificate, 3 days"), "{told}");
    for host in ["localhost", "127.0.0.1"] {
        let seen = handshake(&dir, "api", "agent-7", "127.0.0.1:0", host).await;
        let thumbprint = thumbprint(&dir.join("agent-7.pem"));
        assert_eq!(seen, format!("{thumbprint} {:?}", Some(id)), "{host}");
    }
    // One that is both, as X.509-SVIDs are.
    let both = ["both", "--dns", "localhost", "--spiffe", id];
    let told = stdout(&pki(&["issue"], &dir, &both));
    assert!(told.contains("a server and client certificate"), "{told}");
    handshake(&dir, "both", "both", "127.0.0.1:0", "localhost").await;
}

#[test]
fn nothing_is_overwritten_and_nothing_half_written() {
    let scratch = Scratch::new("overwrite");
    let dir = scratch.pki();
    fs::create_dir(&dir).expect("a directory");
    // The last that is written: none of those before it may be there after the refusal.
    fs::write(dir.join("client.key"), "mine").expect("a file");
    let message = stderr(&pki(&["init"], &dir, &[]), 1);
    let expected = format!("{} is there already", dir.join("client.key").display());
    assert!(message.contains(&expected), "{message}");
    assert!(message.contains("remove the file first"), "{message}");
    let files: Vec<_> = fs::read_dir(&dir).expect("a directory").collect();
    assert_eq!(files.len(), 1, "{files:?}");
    assert_eq!(
        fs::read_to_string(dir.join("client.key")).expect("a file"),
        "mine"
    );

    fs::remove_file(dir.join("client.key")).expect("a file");
    stdout(&pki(&["init"], &dir, &[]));
    for name in ["ca", "server", "client"] {
        let before = fs::read(dir.join(format!("{name}.pem"))).expect("a file");
        let message = stderr(&pki(&["issue"], &dir, &[name]), 1);
        assert!(
            message.contains(&format!("{name}.pem is there already")),
            "{message}"
        );
        assert_eq!(
            fs::read(dir.join(format!("{name}.pem"))).expect("a file"),
            before
        );
    }
}

#[cfg(unix)]
#[test]
fn a_link_in_the_place_of_a_key_is_not_followed() {
    let scratch = Scratch::new("link");
    let dir = scratch.pki();
    fs::create_dir(&dir).expect("a directory");
    let elsewhere = scratch.0.join("elsewhere");
    std::os::unix::fs::symlink(&elsewhere, dir.join("ca.key")).expect("a link");
    let message = stderr(&pki(&["init"], &dir, &[]), 1);
    assert!(message.contains("ca.key is there already"), "{message}");
    assert!(!elsewhere.exists());
}

#[cfg(unix)]
#[test]
fn keys_are_for_their_owner_alone_whatever_the_umask() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new("modes");
    let dir = scratch.pki();
    let script = format!(
        "umask 000; {bin} pki init {dir} && {bin} pki issue {dir} agent",
        bin = env!("CARGO_BIN_EXE_bowline"),
        dir = dir.display()
    );
    let run = Command::new("sh").args(["-c", &script]).output();
    stdout(&run.expect("a shell"));
    for name in ["ca.key", "server.key", "client.key", "agent.key"] {
        let metadata = fs::metadata(dir.join(name)).expect("a key");
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o600, "{name}");
    }
}

#[test]
fn without_an_authority_issue_says_how_to_make_one() {
    let scratch = Scratch::new("without");
    let message = stderr(&pki(&["issue"], &scratch.0, &["agent"]), 2);
    assert!(message.contains("ca.pem: cannot be read"), "{message}");
    let hint = format!("`bowline pki init {}`", scratch.0.display());
    assert!(message.contains(&hint), "{message}");
}

#[test]
fn a_key_of_another_authority_is_refused_and_not_quoted() {
    let scratch = Scratch::new("mismatch");
    let (one, other) = (scratch.0.join("one"), scratch.0.join("other"));
    stdout(&pki(&["init"], &one, &[]));
    stdout(&pki(&["init"], &other, &[]));
    fs::copy(other.join("ca.key"), one.join("ca.key")).expect("a copy");
    let message = stderr(&pki(&["issue"], &one, &["agent"]), 2);
    assert!(message.contains("does not match"), "{message}");
    fs::write(
        one.join("ca.key"),
        "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n",
    )
    .expect("a file");
    let message = stderr(&pki(&["issue"], &one, &["agent"]), 2);
    assert!(message.contains("ca.key"), "{message}");
    assert!(!message.contains("c2VjcmV0"), "{message}");
    // A leaf issues nothing, however it is named.
    fs::copy(one.join("client.pem"), one.join("ca.pem")).expect("a copy");
    fs::copy(one.join("client.key"), one.join("ca.key")).expect("a copy");
    let message = stderr(&pki(&["issue"], &one, &["agent"]), 2);
    assert!(message.contains("no certificate authority"), "{message}");
    assert!(!one.join("agent.key").exists());
}

fn thumbprint(path: &Path) -> String {
    let certificate = CertificateDer::from_pem_file(path).expect("a certificate");
    bowline_proof::Thumbprint::from_certificate(&certificate).to_string()
}
