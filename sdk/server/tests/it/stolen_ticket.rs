//! T7 with a ticket that is used from another process: OpenSSL's, because it can write a session to
//! a file and take it from there, which rustls cannot.

use std::path::Path;
use std::process::Stdio;

use bowline_proof::{AccessToken, EXPORTER_LABEL, ExporterValue, Proof, ProofClaims, ProofKey};
use bowline_server::AcceptPolicy;
use rustls_pki_types::UnixTime;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::fixture::*;

/// A process of `openssl s_client` on one connection.
struct OpenSsl {
    stdin: ChildStdin,
    stdout: ChildStdout,
    /// Its output so far, and how much of it has been consumed.
    said: Vec<u8>,
    read: usize,
    resumed: bool,
    exporter: ExporterValue,
    process: Child,
}

impl OpenSsl {
    /// Connects with TLS 1.3: on 1.2 `-keymatexport` omits the context, which gives another value
    /// (EX-2).
    async fn connect(folder: &Folder, port: u16, options: &[&str]) -> Self {
        let mut process = Command::new("openssl")
            .args([
                "s_client",
                "-connect",
                &format!("127.0.0.1:{port}"),
                "-servername",
                "localhost",
            ])
            .args([
                "-tls1_3",
                "-alpn",
                "http/1.1",
                "-verify_return_error",
                "-CAfile",
                "ca.pem",
            ])
            .args(["-keymatexport", EXPORTER_LABEL, "-keymatexportlen", "32"])
            .args(options)
            .current_dir(folder.path(""))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the openssl command is missing");
        let mut client = Self {
            stdin: process.stdin.take().unwrap(),
            stdout: process.stdout.take().unwrap(),
            said: Vec::new(),
            read: 0,
            resumed: false,
            exporter: ExporterValue::from_bytes([0; 32]),
            process,
        };
        let summary = client
            .until("Keying material: ", |rest| rest.find('\n'))
            .await;
        client.exporter = ExporterValue::from_bytes(hex(summary.trim()));
        client.resumed = String::from_utf8_lossy(&client.said).contains("Reused, TLSv1.3");
        client
    }

    /// What follows `start`, up to where `end` says.
    async fn until(&mut self, start: &str, end: impl Fn(&str) -> Option<usize>) -> String {
        loop {
            let unread = String::from_utf8_lossy(&self.said[self.read..]).into_owned();
            if let Some(begins) = unread.find(start).map(|at| at + start.len())
                && let Some(length) = end(&unread[begins..])
            {
                self.read += begins + length;
                return unread[begins..begins + length].to_owned();
            }
            let mut bytes = vec![0; 4096];
            let read = within(self.stdout.read(&mut bytes)).await.unwrap();
            assert!(
                read > 0,
                "openssl ended: {}",
                String::from_utf8_lossy(&self.said)
            );
            self.said.extend_from_slice(&bytes[..read]);
        }
    }

    /// Status, head and body of the answer.
    async fn get(&mut self, token: &AccessToken, proof: Option<&str>) -> (u16, String, Value) {
        let proof = proof
            .map(|proof| format!("session-binding-proof: {proof}\r\n"))
            .unwrap_or_default();
        let token = token.secret();
        let request = format!(
            "GET / HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n{proof}\r\n"
        );
        self.stdin.write_all(request.as_bytes()).await.unwrap();
        self.stdin.flush().await.unwrap();
        let head = self
            .until("HTTP/1.1 ", |rest| rest.find("\r\n\r\n").map(|at| at + 4))
            .await;
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.parse().unwrap());
        let body = self
            .until("", |rest| (rest.len() >= length).then_some(length))
            .await;
        let status = head[..3].parse().unwrap();
        (
            status,
            head,
            serde_json::from_str(&body).unwrap_or_default(),
        )
    }

    fn proof(&self, key: &ProofKey, token: &AccessToken) -> Proof {
        let claims = ProofClaims {
            token: token.hash(),
            exporter: &self.exporter,
            issued_at: UnixTime::now(),
            request: None,
        };
        key.mint(&claims).unwrap()
    }

    /// Closes the connection properly, so that `-sess_out` is written completely.
    async fn close(mut self) {
        drop(self.stdin);
        within(self.process.wait()).await.unwrap();
    }
}

fn hex(text: &str) -> [u8; 32] {
    assert_eq!(
        text.len(),
        64,
        "{} characters of keying material",
        text.len()
    );
    let byte = |index: usize| u8::from_str_radix(&text[2 * index..2 * index + 2], 16).unwrap();
    std::array::from_fn(byte)
}

fn assert_refused(answer: &(u16, String, Value), id: &str) {
    assert_eq!(answer.0, 401, "{answer:?}");
    assert!(
        answer.1.contains(&format!("error_description=\"{id}: ")),
        "{answer:?}"
    );
}

#[tokio::test]
#[ignore = "needs the openssl command; `just parts` runs it"]
async fn t7_a_ticket_stolen_and_used_from_another_process_satisfies_rfc_8705_and_not_session_binding()
 {
    let fixture = Fixture::new();
    let router = binding_report().layer(fixture.layer().policy(AcceptPolicy::Follow));
    let server = TestServer::start(
        fixture.listener(fixture.tls()).await,
        router,
        fixture.options(),
    );
    let folder = Folder::new("stolen-ticket");
    folder.write("ca.pem", fixture.ca.pem());
    folder.write("agent.pem", &fixture.agent.certificate_pem);
    folder.write("agent.key", fixture.agent.key.serialize_pem());
    let ticket = folder.path("ticket.pem");

    let mut claims = crate::authority::Authority::claims();
    claims["cnf"] = json!({ "x5t#S256": fixture.agent.thumbprint() });
    let certificate_bound = fixture.authority.sign(&fixture.authority.header(), &claims);
    let session_bound = fixture.token();

    let own = [
        "-cert",
        "agent.pem",
        "-key",
        "agent.key",
        "-sess_out",
        "ticket.pem",
    ];
    let mut victim = OpenSsl::connect(&folder, server.addr.port(), &own).await;
    let proof = victim.proof(&fixture.agent.proof_key(), &session_bound);
    let answer = victim.get(&session_bound, Some(proof.as_str())).await;
    assert_eq!(
        (answer.0, &answer.2["class"]),
        (200, &json!("session")),
        "{answer:?}"
    );
    victim.close().await;
    assert!(Path::new(&ticket).exists(), "the session was not written");

    // The thief has the ticket, the tokens and the proof, but no key.
    std::fs::remove_file(folder.path("agent.key")).unwrap();
    std::fs::remove_file(folder.path("agent.pem")).unwrap();
    let mut thief =
        OpenSsl::connect(&folder, server.addr.port(), &["-sess_in", "ticket.pem"]).await;
    assert!(thief.resumed, "the session was not resumed");

    // RFC 8705: the session still has the victim's certificate (RS-3 holds), and RFC 8705 requires
    // nothing else.
    let answer = thief.get(&certificate_bound, None).await;
    assert_eq!(
        (answer.0, &answer.2["class"]),
        (200, &json!("certificate")),
        "{answer:?}"
    );
    assert_eq!(answer.2["resumed"], true);

    // Session binding requires more than the ticket.
    assert_refused(&thief.get(&session_bound, None).await, "RS-4");
    assert_refused(
        &thief.get(&session_bound, Some(proof.as_str())).await,
        "RS-6",
    );
    // The thief knows the exporter value of their own connection, but has no key to sign a proof of
    // it.
    let thief_key = fixture.ca.client("thief").proof_key();
    let own = thief.proof(&thief_key, &session_bound);
    assert_refused(&thief.get(&session_bound, Some(own.as_str())).await, "RS-5");
    let (victims_header, _) = proof.as_str().split_once('.').unwrap();
    let (_, thiefs_rest) = own.as_str().split_once('.').unwrap();
    let dressed_up = format!("{victims_header}.{thiefs_rest}");
    assert_refused(&thief.get(&session_bound, Some(&dressed_up)).await, "RS-5");

    // Only the key was missing: with it, the same connection passes.
    let genuine = thief.proof(&fixture.agent.proof_key(), &session_bound);
    let answer = thief.get(&session_bound, Some(genuine.as_str())).await;
    assert_eq!(
        (answer.0, &answer.2["class"]),
        (200, &json!("session")),
        "{answer:?}"
    );
    thief.close().await;
}
