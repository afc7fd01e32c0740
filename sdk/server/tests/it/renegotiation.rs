//! EX-8: the client authenticates in the handshake, and never afterwards. OpenSSL acts the client,
//! because rustls cannot ask for a renegotiation.

use std::process::Stdio;

use bowline_server::ClientAuth;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use crate::fixture::*;

struct OpenSsl {
    stdin: ChildStdin,
    stdout: ChildStdout,
    stderr: ChildStderr,
    said: Vec<u8>,
    _process: Child,
}

impl OpenSsl {
    fn connect(folder: &Folder, port: u16, options: &[&str]) -> Self {
        let mut process = Command::new("openssl")
            .args(["s_client", "-connect", &format!("127.0.0.1:{port}")])
            .args([
                "-servername",
                "localhost",
                "-alpn",
                "http/1.1",
                "-CAfile",
                "ca.pem",
            ])
            .args(options)
            .current_dir(folder.path(""))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the openssl command is missing");
        Self {
            stdin: process.stdin.take().unwrap(),
            stdout: process.stdout.take().unwrap(),
            stderr: process.stderr.take().unwrap(),
            said: Vec::new(),
            _process: process,
        }
    }

    async fn say(&mut self, line: &str) {
        self.stdin.write_all(line.as_bytes()).await.unwrap();
        self.stdin.flush().await.unwrap();
    }

    /// Reads until it says this; `false` if it ends before.
    async fn says(&mut self, text: &str) -> bool {
        loop {
            let said = String::from_utf8_lossy(&self.said).into_owned();
            if let Some(at) = said.find(text) {
                self.said = said.as_bytes()[at + text.len()..].to_vec();
                return true;
            }
            if within(self.stdout.read_buf(&mut self.said)).await.unwrap() == 0 {
                return false;
            }
        }
    }
}

#[tokio::test]
#[ignore = "needs the openssl command; `just parts` runs it"]
async fn ex_8_a_renegotiation_and_a_certificate_after_the_handshake_are_refused() {
    let fixture = Fixture::new();
    let optional = fixture.tls_with(ClientAuth::Optional(fixture.ca.roots().into()));
    let server = TestServer::start(
        fixture.listener(optional).await,
        binding_report().layer(fixture.layer().public_paths(["/"])),
        fixture.options(),
    );
    let folder = Folder::new("renegotiation");
    folder.write("ca.pem", fixture.ca.pem());
    folder.write("agent.pem", &fixture.agent.certificate_pem);
    folder.write("agent.key", fixture.agent.key.serialize_pem());
    let own = ["-cert", "agent.pem", "-key", "agent.key"];
    const REQUEST: &str = "GET / HTTP/1.1\nhost: localhost\n\n";

    // TLS 1.2: OpenSSL renegotiates at a line that begins with R.
    let options = [&["-tls1_2", "-crlf"][..], &own].concat();
    let mut client = OpenSsl::connect(&folder, server.addr.port(), &options);
    assert!(client.says("Verify return code: 0").await);
    client.say(REQUEST).await;
    assert!(client.says("HTTP/1.1 200 OK").await);
    client.say("R\n").await;
    // It takes the refusal for an error, and ends.
    assert!(!client.says("HTTP/1.1 200 OK").await);
    let mut errors = String::new();
    within(client.stderr.read_to_string(&mut errors))
        .await
        .unwrap();
    assert!(errors.contains("RENEGOTIATING"), "{errors}");
    assert!(errors.contains("no renegotiation"), "{errors}");

    // TLS 1.3: the server never asks, even a client that offers it.
    let options = [&["-tls1_3", "-crlf", "-enable_pha", "-msg"][..], &own].concat();
    let mut client = OpenSsl::connect(&folder, server.addr.port(), &options);
    assert!(client.says("Verify return code: 0").await);
    client.say(REQUEST).await;
    assert!(client.says("HTTP/1.1 200 OK").await);
    let after = String::from_utf8_lossy(&client.said).into_owned();
    assert!(!after.contains("CertificateRequest"), "{after}");
}
