//! What goes wrong with `bowline call`: one line that says what to do, and the exit status.

use std::time::{Duration, SystemTime};

use axum::Router;
use axum::response::IntoResponse;
use bowline::server::{
    Acceptor, ClientAuth, Identity, Listener, ServeOptions, ServerTls, Trust, serve,
};
use bowline_testkit::peers::CyclingOptions;
use bowline_testkit::pki::{KeyKind, Leaf, LeafSpec, Pki};
use serde_json::json;

use crate::support::{Fixture, bowline, jwt, page, run, session_cnf};

/// A server with a certificate of the test's choice, which asks for those of `clients`.
async fn server_with(leaf: &Leaf, clients: &Pki) -> String {
    let identity = Identity::from_pem(leaf.chain_pem().as_bytes(), leaf.key_pem().as_bytes());
    let trust = Trust::from_pem(clients.ca_pem().as_bytes()).unwrap();
    let tls = ServerTls::builder(identity.unwrap(), ClientAuth::Required(trust));
    let acceptor = Acceptor::new(tls.build().unwrap());
    let listener = Listener::bind("127.0.0.1:0", acceptor).await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().port());
    let options = ServeOptions::default();
    let serving = serve(listener, page("never"), options, std::future::pending());
    // It ends with the test's runtime.
    tokio::spawn(serving);
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_and_keys_that_cannot_be_used_are_configuration_errors() {
    let fixture = Fixture::new();
    let dir = fixture.dir.path();
    let other = fixture.pki.client("other", KeyKind::P256);
    let other = other.write_to(dir).unwrap();
    let expired = fixture.pki.issue(&LeafSpec::client("old").expired());
    let expired = expired.write_to(dir).unwrap();
    let early = fixture
        .pki
        .issue(&LeafSpec::client("early").not_yet_valid());
    let early = early.write_to(dir).unwrap();
    let (cert, key) = (&fixture.files.certificate, &fixture.files.key);
    let missing = dir.join("missing.pem");
    let empty = fixture.dir.write("empty.pem", "");
    let cases = [
        (
            cert,
            &other.key,
            vec!["agent.pem", "other-key.pem", "does not fit"],
        ),
        (
            cert,
            &missing,
            vec!["cannot read", "missing.pem", "No such file"],
        ),
        (cert, &empty, vec!["empty.pem", "no private key"]),
        (key, key, vec!["agent-key.pem", "no certificate"]),
        (&dir.to_path_buf(), key, vec!["cannot read"]),
        (
            &expired.certificate,
            &expired.key,
            vec!["old.pem expired", "ago"],
        ),
        (
            &early.certificate,
            &early.key,
            vec!["early.pem is valid only in"],
        ),
    ];
    for (cert, key, expected) in cases {
        let mut command = bowline();
        command.args(["call", "https://localhost:1"]);
        command.arg("--cert").arg(cert).arg("--key").arg(key);
        run(&mut command).failed(2, &expected);
    }
    let ca = ["--cacert", empty.to_str().unwrap()];
    run(bowline().args(["call", "https://localhost:1"]).args(ca)).failed(2, &["empty.pem"]);
    let dpop = ["--dpop-key", cert.to_str().unwrap()];
    run(bowline().args(["call", "https://localhost:1"]).args(dpop))
        .failed(2, &["--dpop-key", "agent.pem", "no private key"]);
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_every_user_can_read_is_used_with_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = Fixture::new();
    let server = fixture.plain(page("ok"));
    for (mode, warned) in [(0o604, true), (0o640, false), (0o600, false)] {
        std::fs::set_permissions(&fixture.files.key, PermissionsExt::from_mode(mode)).unwrap();
        let ran = run(&mut fixture.call(&server.origin(), &[]));
        let has = ran.succeeded().stderr.contains("can be read by every user");
        assert_eq!(has, warned, "{mode:o}: {}", ran.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_in_the_handshake_says_what_to_give() {
    let fixture = Fixture::new();
    let foreign = Pki::foreign();
    let url = server_with(&fixture.pki.localhost(), &fixture.pki).await;
    let other_ca = fixture.dir.write("other-ca.pem", foreign.ca_pem());
    let cacert = ["--cacert", other_ca.to_str().unwrap()];
    run(bowline().args(["call", &url]).args(cacert)).failed(1, &["--cacert FILE"]);
    let cacert = ["--cacert", fixture.ca.to_str().unwrap()];
    for version in ["--http1.1", "--http2"] {
        let mut command = bowline();
        command.args(["call", &url, version]).args(cacert);
        run(&mut command).failed(1, &["the server demands a client certificate"]);
    }

    let url = server_with(&fixture.pki.localhost(), &foreign).await;
    run(&mut fixture.call(&url, &[])).failed(1, &["does not accept the client certificate"]);

    let expired = fixture
        .pki
        .issue(&LeafSpec::server(&["localhost"]).expired());
    let url = server_with(&expired, &fixture.pki).await;
    run(&mut fixture.call(&url, &[])).failed(1, &["the server's certificate has expired"]);

    let early = LeafSpec::server(&["localhost"]).not_yet_valid();
    let url = server_with(&fixture.pki.issue(&early), &fixture.pki).await;
    run(&mut fixture.call(&url, &[])).failed(1, &["the server's certificate is not valid yet"]);

    let other = fixture.pki.issue(&LeafSpec::server(&["other.example"]));
    let url = server_with(&other, &fixture.pki).await;
    run(&mut fixture.call(&url, &[])).failed(1, &["names another host"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_be_reached_says_where_to_look() {
    let fixture = Fixture::new();
    run(&mut fixture.call("https://127.0.0.1:1", &[])).failed(
        1,
        &["127.0.0.1:1", "refused", "check the host and the port"],
    );
    run(&mut fixture.call("https://nowhere.invalid", &[]))
        .failed(1, &["nowhere.invalid", "check the host's name"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_cannot_be_proved_say_what_is_missing() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let (url, cacert) = (server.origin(), ["--cacert", fixture.ca.to_str().unwrap()]);
    let no_cert = |token: &str| {
        run(bowline()
            .args(["call", &url, "--token", token])
            .args(cacert))
    };
    no_cert(&fixture.token()).failed(1, &["give --cert and --key"]);
    let other = fixture.pki.client("other", KeyKind::P256);
    let cases = [
        (session_cnf(other.thumbprint()), "bound to"),
        (
            json!({ "jkt": other.thumbprint().to_string() }),
            "--dpop-key",
        ),
        (json!({ "tls_exp": "another label" }), "tls_exp"),
    ];
    for (cnf, expected) in cases {
        let token = fixture.dir.write("bound", jwt(&json!({ "cnf": cnf })));
        let token = format!("@{}", token.display());
        run(&mut fixture.call(&url, &["--token", &token])).failed(1, &[expected]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_told_with_its_error_and_its_description() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let ran = run(&mut fixture.call(&server.origin(), &["--token", "opaque"]));
    // An answer is an answer, as for curl; --fail makes a failure of it.
    ran.failed(0, &["401, invalid_token: ", "bowline inspect"]);
    let ran = run(&mut fixture.call(&server.origin(), &[]));
    ran.failed(0, &["the server asks for a token (401): give --token"]);
    let ran = run(&mut fixture.call(&server.origin(), &["-s", "--token", &fixture.token()]));
    assert_eq!(ran.succeeded().stderr, "");
    let ran = run(&mut fixture.call(&server.origin(), &["-s"]));
    assert_eq!(ran.succeeded().stderr, "");
    let refused = ["--repeat", "20", "--fail", "--token", "@/dev/null"];
    run(&mut fixture.call(&server.origin(), &refused)).failed(2, &["--token"]);

    let hostile = || async {
        let challenge = b"Bearer error=\"invalid_token\", error_description=\"a\xc2\x9b31mb\"";
        let value = http::HeaderValue::from_bytes(challenge).unwrap();
        (
            http::StatusCode::UNAUTHORIZED,
            [("www-authenticate", value)],
        )
            .into_response()
    };
    let server = fixture.plain(Router::new().fallback(hostile));
    let ran = run(&mut fixture.call(&server.origin(), &["-v", "--token", &fixture.token()]));
    assert!(
        ran.succeeded()
            .stderr
            .contains("invalid_token: a\u{fffd}31mb"),
        "{}",
        ran.stderr
    );
    assert!(!ran.stderr.contains('\u{9b}'), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_is_told_where_proofs_are_refused() {
    let fixture = Fixture::new();
    let away = Duration::from_secs(630);
    for (is_ahead, expected) in [(true, "10 minutes ahead of"), (false, "10 minutes behind")] {
        let refuse = move || async move {
            let now = match is_ahead {
                true => SystemTime::now() + away,
                false => SystemTime::now() - away,
            };
            let fields = [
                ("date", httpdate::fmt_http_date(now)),
                (
                    "www-authenticate",
                    "Bearer error=\"invalid_proof\"".to_owned(),
                ),
            ];
            (http::StatusCode::UNAUTHORIZED, fields).into_response()
        };
        let server = fixture.plain(Router::new().fallback(refuse));
        let ran = run(&mut fixture.call(&server.origin(), &["--token", &fixture.token()]));
        ran.failed(0, &["401, invalid_proof", expected]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_usage_is_told_in_one_line_and_quotes_no_secret() {
    let fixture = Fixture::new();
    let spaced = fixture.dir.write("spaced", "hush hush");
    let spaced = format!("@{}", spaced.display());
    let binary = fixture.dir.write("binary", [0xff, 0xfe]);
    let binary = format!("@{}", binary.display());
    let both = fixture
        .dir
        .write("both.toml", "\"http1.1\" = true\nhttp2 = true\n");
    let cases: &[(&[&str], &str)] = &[
        (&["http s://x"], "the URL"),
        (&["https://user:hush@localhost"], "the URL"),
        (&["ftp://localhost"], "the URL"),
        (&["https://localhost", "-H", "hush"], "colon"),
        (&["https://localhost", "-H", "na me: hush"], "name"),
        (
            &["https://localhost", "-H", "name: hu\nsh"],
            "the value of name",
        ),
        (&["https://localhost", "-X", "A B"], "no method"),
        (
            &["https://localhost", "-d", "@/nowhere"],
            "/nowhere cannot be read",
        ),
        (
            &["https://localhost", "--token", "@/nowhere"],
            "/nowhere cannot be read",
        ),
        (&["https://localhost", "--token", &spaced], "b64token"),
        (&["https://localhost", "--token", &binary], "UTF-8"),
        (&["https://localhost", "--resolve", "x"], "--resolve"),
        (
            &[
                "https://localhost",
                "--token",
                &fixture.token(),
                "-H",
                "authorization: Basic x",
            ],
            "give one of them",
        ),
        (
            &["https://localhost", "--config", both.to_str().unwrap()],
            "http1.1 and http2",
        ),
    ];
    for (args, expected) in cases {
        let ran = run(bowline().arg("call").args(*args));
        ran.failed(2, &[expected]);
        let line = ran
            .stderr
            .lines()
            .find(|l| l.starts_with("bowline:"))
            .unwrap();
        assert!(!line.contains("hush"), "{line}");
    }
    for args in [
        &["https://localhost", "--http1.1", "--http2"][..],
        &["https://localhost", "--key", "x"],
        &["https://localhost", "--repeat", "0"],
        &["https://localhost", "--concurrency", "0"],
        &["https://localhost", "--max-time", "0"],
        &["https://localhost", "--max-time", "soon"],
        &["https://localhost", "--stats", "xml"],
        &[],
    ] {
        let ran = run(bowline().arg("call").args(args));
        assert_eq!(ran.code, Some(2), "{args:?}: {}", ran.stderr);
    }
}
