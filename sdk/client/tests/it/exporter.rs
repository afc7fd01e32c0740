//! An independent derivation of the exporter value: OpenSSL's, on TLS 1.3 (RFC 8446 §7.5) and TLS
//! 1.2 (RFC 5705).
//!
//! Needs Python with pyOpenSSL, so it belongs to the named set (`just parts`) and not to `cargo
//! test`.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::fixture::{Fixture, ok};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bowline_testkit::pki::Leaf;

/// `conformance/exporter/server.py`.
struct OpenSsl {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl OpenSsl {
    fn start(version: &str, dir: &Path, server: &Leaf, ca_pem: &str) -> Self {
        std::fs::write(dir.join("server.pem"), server.chain_pem()).unwrap();
        std::fs::write(dir.join("server-key.pem"), server.key_pem()).unwrap();
        std::fs::write(dir.join("ca.pem"), ca_pem).unwrap();
        let script =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/exporter/server.py");
        let mut child = Command::new("python3")
            .arg(script.canonicalize().unwrap())
            .args([version, "server.pem", "server-key.pem", "ca.pem"])
            .current_dir(dir)
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is missing: run `just parts`, which installs it with pyOpenSSL");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        let line = self
            .lines
            .next()
            .expect("the script ended early: is pyOpenSSL installed? see `just parts`");
        line.expect("text")
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs python3 with pyOpenSSL: run `just parts`"]
async fn the_ekm_in_a_proof_is_what_openssl_exports() {
    let fixture = Fixture::new();
    let dir = std::env::temp_dir().join(format!("bowline-exporter-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    for version in ["TLSv1.3", "TLSv1.2"] {
        let mut openssl = OpenSsl::start(
            version,
            &dir,
            &fixture.pki.localhost(),
            &fixture.pki.ca_pem(),
        );
        let url = format!("https://127.0.0.1:{}/", openssl.line());
        ok(&fixture.client(), &url, &fixture.token("a")).await;
        let (exported, proof) = (openssl.line(), openssl.line());

        let payload = URL_SAFE_NO_PAD
            .decode(proof.split('.').nth(1).unwrap())
            .unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        let ekm = URL_SAFE_NO_PAD
            .decode(claims["ekm"].as_str().unwrap())
            .unwrap();
        let ekm: String = ekm.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(ekm, exported, "{version}");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}
