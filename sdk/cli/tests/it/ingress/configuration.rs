//! Configuration that cannot be used: one line that says what to do, and status 2.

use std::process::Command;

use bowline_testkit::pki::{KeyKind, LeafSpec};

use super::fixture::*;

/// The status and what was written to standard error.
fn outcome(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().expect("the command runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), text)
}

/// The last line says this.
fn assert_says(command: &mut Command, status: i32, expected: &str) {
    let (code, text) = outcome(command);
    assert_eq!(code, Some(status), "{expected}: {text}");
    let lines: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("bowline: "))
        .collect();
    assert_eq!(lines.len(), 1, "one line: {text}");
    assert!(lines[0].contains(expected), "{expected:?} is not in {text}");
}

struct Checked {
    scene: Scene,
}

impl Checked {
    fn command(&self, options: &[&str]) -> Command {
        let mut command = self.scene.command("unix:/run/app.sock");
        command.arg("--check").args(options);
        command
    }

    /// With JWTs.
    fn jwt(&self, options: &[&str]) -> Command {
        let mut command = self.command(options);
        command.args(self.scene.jwt_options());
        command
    }
}

#[tokio::test]
async fn check_only_checks() {
    let checked = Checked {
        scene: Scene::new(),
    };
    let (code, text) = outcome(&mut checked.jwt(&[]));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("the configuration can be used"), "{text}");
}

#[tokio::test]
async fn what_cannot_be_together_says_why() {
    let checked = Checked {
        scene: Scene::new(),
    };
    for (options, expected) in [
        (&["--dpop-nonces"][..], "they name no connection"),
        (&["--dpop-nonces"], "--policy follow or require-bound"),
        (&["--binding-only"], "give only one of them"),
        (
            &["--policy", "follow", "--ticket-keys", "keys"],
            "could use every stolen token there (T8)",
        ),
        (&["--observe", "--ticket-keys", "keys"], "require-session"),
        (
            &["--introspect", "https://as.example/i"],
            "give only one of them",
        ),
        (
            &["--introspect-id", "a"],
            "--introspect-id has no effect with --jwks",
        ),
        (&["--authority-ca", "x.pem"], "--authority-ca"),
        (&["--public", "!/a"], "--public only takes out"),
        (
            &["--request-bound", "!/a"],
            "--request-bound only takes out",
        ),
        (&["--receipt-lifetime", "2h"], "an hour at most"),
        (
            &["--trust-proxy", "gateway"],
            "its SPIFFE ID, or its subject",
        ),
        (&["--strip-field", "a b"], "is no field name"),
        (&["--max-connections", "0"], "1 at least"),
        (&["--receipt-key", "@/none"], "/none cannot be read"),
        (
            &["--resource-metadata", "/none"],
            "/none: it cannot be read",
        ),
    ] {
        assert_says(&mut checked.jwt(options), 2, expected);
    }
    for (options, expected) in [
        (&[][..], "who validates tokens?"),
        (&["--binding-only", "--policy", "follow"], "GW-4"),
        (&["--binding-only", "--policy", "require-bound"], "GW-4"),
        (
            &["--binding-only", "--audience", "a"],
            "which validates nothing",
        ),
        (
            &["--jwks", "https://as.example/jwks"],
            "--audience is missing",
        ),
        (
            &["--jwks", "https://as.example/jwks", "--audience", "a"],
            "--issuer is missing",
        ),
        (
            &[
                "--jwks",
                "http://as.example/jwks",
                "--audience",
                "a",
                "--issuer",
                "b",
            ],
            "must be https",
        ),
        (
            &["--introspect", "https://as.example/i", "--audience", "a"],
            "who asks?",
        ),
    ] {
        assert_says(&mut checked.command(options), 2, expected);
    }
}

/// clap tells what is wrong with a single value.
#[tokio::test]
async fn values_that_are_wrong_by_themselves() {
    let checked = Checked {
        scene: Scene::new(),
    };
    for (options, expected) in [
        (&["--polcy", "follow"][..], "--policy"),
        (&["--policy", "none"], "require-proof"),
        (&["--public", "a"], "a pattern is a path"),
        (&["--external-origin", "api.example.com"], "external-origin"),
        (&["--sse-keep-alive", "15"], "is no duration"),
        (&["--max-body", "1MB"], "is no size"),
    ] {
        let (code, text) = outcome(&mut checked.jwt(options));
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(expected), "{expected:?} is not in {text}");
    }
    for upstream in [
        "http://10.0.0.1:80",
        "https://127.0.0.1:80",
        "http://example.com",
    ] {
        let mut command = checked.scene.command(upstream);
        command.arg("--check");
        let (code, text) = outcome(command.args(checked.scene.jwt_options()));
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains("GW-2"), "{text}");
    }
}

#[tokio::test]
async fn certificates_and_keys_that_cannot_be_used() {
    use std::os::unix::fs::PermissionsExt;
    let checked = Checked {
        scene: Scene::new(),
    };
    let scene = &checked.scene;
    let replaced = |name: &str, content: &[u8], expected: &str| {
        let path = scene.path(name);
        let former = std::fs::read(&path).unwrap();
        std::fs::write(&path, content).unwrap();
        assert_says(&mut checked.jwt(&[]), 2, expected);
        std::fs::write(&path, former).unwrap();
    };
    let server = || LeafSpec::server(&["localhost"]);
    let pem = |spec: LeafSpec| scene.pki.issue(&spec).chain_pem().as_bytes().to_vec();
    replaced("server.pem", b"", "holds no certificate");
    replaced("server.pem", &pem(server()), "does not match");
    replaced("server.key", b"", "server.key");
    replaced("ca.pem", b"", "--client-ca");
    replaced("jwks.json", b"[]", "not a JWK set");
    // With its own key, so that the time is what is wrong.
    for (spec, expected) in [
        (server().expired(), "issue a new one"),
        (server().not_yet_valid(), "is this machine's clock right?"),
    ] {
        let leaf = scene.pki.issue(&spec);
        let key = scene.path("server.key");
        let former = std::fs::read(&key).unwrap();
        std::fs::write(&key, leaf.key_pem()).unwrap();
        replaced("server.pem", leaf.chain_pem().as_bytes(), expected);
        std::fs::write(&key, former).unwrap();
    }
    // A certificate without a name has no origin.
    let nameless = scene.pki.client("nobody", KeyKind::P256);
    let key = scene.path("server.key");
    let former = std::fs::read(&key).unwrap();
    std::fs::write(&key, nameless.key_pem()).unwrap();
    replaced(
        "server.pem",
        nameless.chain_pem().as_bytes(),
        "--external-origin is missing",
    );
    std::fs::write(&key, former).unwrap();

    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_says(&mut checked.jwt(&[]), 2, "chmod 600");
    std::fs::remove_file(&key).unwrap();
    assert_says(&mut checked.jwt(&[]), 2, "cannot be read");
}

#[tokio::test]
async fn no_error_quotes_a_key() {
    let checked = Checked {
        scene: Scene::new(),
    };
    let key = checked.scene.path("server.key");
    let text = std::fs::read_to_string(&key).unwrap();
    let line = text.lines().nth(1).unwrap();
    std::fs::write(&key, format!("-----BEGIN PRIVATE KEY-----\n{line}\n")).unwrap();
    let (code, text) = outcome(&mut checked.jwt(&[]));
    assert_eq!(code, Some(2), "{text}");
    assert!(!text.contains(line), "{text}");
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let scene = Scene::new();
    let taken = bowline_testkit::net::loopback();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = scene.command("unix:/run/app.sock");
    command
        .args(scene.jwt_options())
        .arg("--listen")
        .arg(&address);
    // The fixture names an address too; the last one counts only in the file.
    let (code, text) = outcome(&mut command);
    assert_eq!(code, Some(2), "{text}");
    let file = format!("listen = \"{address}\"\nbinding-only = true\n");
    let file = scene.write("ingress.toml", file);
    let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
    command.args([
        "ingress",
        "--config",
        &file,
        "--upstream",
        "unix:/run/app.sock",
    ]);
    for (option, name) in [
        ("--cert", "server.pem"),
        ("--key", "server.key"),
        ("--client-ca", "ca.pem"),
    ] {
        command.arg(option).arg(scene.path(name));
    }
    assert_says(&mut command, 1, "another process listens there");
}

/// A secret on the command line is used, with a warning that does not quote it.
#[tokio::test]
async fn a_secret_on_the_command_line_is_warned_about() {
    let checked = Checked {
        scene: Scene::new(),
    };
    let secret = "0123456789abcdef0123456789abcdef";
    let (code, text) = outcome(&mut checked.jwt(&["--receipt-key", secret]));
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("give @FILE") && !text.contains(secret),
        "{text}"
    );
    let mut command = checked.jwt(&[]);
    command.env("BOWLINE_RECEIPT_KEY", secret);
    let (code, text) = outcome(&mut command);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        !text.contains("give @FILE") && !text.contains(secret),
        "{text}"
    );
    assert_says(&mut checked.jwt(&["--receipt-key", "short"]), 2, "needs 32");
}
