//! `bowline call` against TLS servers on loopback: what it sends, writes, shows and counts.

use bowline_testkit::peers::{Cycle, CyclingOptions};
use serde_json::{Value, json};

use crate::support::{Fixture, page, run};

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_requests_are_signed_once_a_connection() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let token = fixture.token();
    let args = [
        "--repeat",
        "1000",
        "--http1.1",
        "--stats",
        "json",
        "--token",
        &token,
    ];
    let ran = run(&mut fixture.call(&server.origin(), &args));
    let stats = ran.succeeded().stats();
    assert_eq!(stats["requests"], 1000);
    assert_eq!(stats["errors"], 0);
    assert_eq!(stats["by_status"], json!({ "200": 1000 }));
    assert_eq!(stats["connections_opened"], 1);
    assert_eq!(stats["signatures"], 1);
    assert_eq!(stats["proofs_reused"], 999);
    assert_eq!(stats["causes"], json!({ "first": 1 }));
    for quantile in ["p50", "p99"] {
        assert!(
            stats["latency_ms"][quantile].as_f64() > Some(0.0),
            "{stats}"
        );
    }
    // Bodies are discarded: the object is all that there is.
    assert_eq!(ran.stdout.lines().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_connection_costs_one_signature_and_resumption_is_counted() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions {
        cycle: Cycle::max_responses(10),
        ..CyclingOptions::default()
    });
    let token = fixture.token();
    let args = [
        "--repeat",
        "100",
        "--http1.1",
        "--stats",
        "json",
        "--token",
        &token,
    ];
    let stats = run(&mut fixture.call(&server.origin(), &args))
        .succeeded()
        .stats();
    assert_eq!(stats["connections_opened"], 10);
    assert_eq!(stats["connections_resumed"], 9);
    assert_eq!(stats["signatures"], 10);
    assert_eq!(stats["causes"], json!({ "first": 1, "reconnect": 9 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_requests_share_a_connection_of_http2() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let token = fixture.token();
    let args = [
        "--repeat",
        "200",
        "--concurrency",
        "20",
        "--http2",
        "--stats",
        "json",
        "--token",
        &token,
    ];
    let stats = run(&mut fixture.call(&server.origin(), &args))
        .succeeded()
        .stats();
    assert_eq!(stats["requests"], 200);
    assert_eq!(stats["connections_opened"], 1);
    assert_eq!(stats["signatures"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_of_requests_signs_each() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let token = fixture.token();
    for (scope, signatures) in [("request", 5), ("adaptive", 2), ("connection", 1)] {
        let args = [
            "--repeat",
            "5",
            "--proof-scope",
            scope,
            "--stats",
            "json",
            "--token",
            &token,
        ];
        let stats = run(&mut fixture.call(&server.origin(), &args))
            .succeeded()
            .stats();
        assert_eq!(stats["signatures"], signatures, "{scope}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verbose_shows_the_connection_the_class_and_the_proof_of_each_request() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions {
        cycle: Cycle::max_responses(2),
        ..CyclingOptions::default()
    });
    let token = fixture.token();
    let args = ["--repeat", "3", "--http1.1", "-v", "--token", &token];
    let ran = run(&mut fixture.call(&server.origin(), &args));
    let shown: Vec<&str> = ran
        .succeeded()
        .stderr
        .lines()
        .filter(|l| l.starts_with("* "))
        .collect();
    let expected: [&[&str]; 3] = [
        &[
            "connection c1 new (h1, TLS 1.3, client certificate presented",
            "class session; proof minted (cause first",
        ],
        &["connection c1 reused", "class session; proof reused"],
        &[
            "connection c2 resumed (h1",
            "class session; proof minted (cause reconnect after connection_close",
        ],
    ];
    assert_eq!(shown.len(), 3, "{}", ran.stderr);
    for (line, parts) in shown.iter().zip(expected) {
        for part in parts {
            assert!(line.contains(part), "`{part}` is not in {line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verbose_names_a_token_by_its_hash_and_shows_no_secret() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let token = fixture.token();
    let secret = std::fs::read_to_string(&token[1..]).unwrap();
    let headers = fixture
        .dir
        .write("headers", "cookie: session=hush-hush\nx-open: seen\n");
    let headers = format!("@{}", headers.display());
    let mut command = fixture.call(&server.origin(), &["-v", "-i", "-H", &headers]);
    // The variable, not the command line: no warning.
    let ran = run(command.env("BOWLINE_TOKEN", &secret));
    let hash: String = bowline::AccessToken::new(secret.clone())
        .unwrap()
        .hash()
        .as_bytes()[..4]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let shown = format!("{}{}", ran.succeeded().stdout, ran.stderr);
    assert!(
        shown.contains(&format!("> authorization: Bearer sha256:{hash}")),
        "{shown}"
    );
    assert!(
        shown.contains("> x-open: seen") && shown.contains("> cookie: (not shown)"),
        "{shown}"
    );
    assert!(shown.contains("< HTTP/2.0 200 OK"), "{shown}");
    for hidden in [
        &secret[..],
        &secret[..20],
        "hush-hush",
        "session-binding-proof: ",
    ] {
        assert!(!shown.contains(hidden), "{hidden} is in {shown}");
    }
    assert!(!shown.contains("WARN"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_on_the_command_line_is_used_with_a_warning() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let secret = std::fs::read_to_string(&fixture.token()[1..]).unwrap();
    let field = format!("authorization: Bearer {secret}");
    let (joined, attached) = (format!("--token={secret}"), format!("-H{field}"));
    for args in [
        &["--token", &secret][..],
        &[&joined],
        &["-H", &field],
        &[&attached],
    ] {
        let ran = run(&mut fixture.call(&server.origin(), args));
        ran.succeeded();
        assert!(
            ran.stderr.contains("a secret on the command line"),
            "{}",
            ran.stderr
        );
        assert!(!ran.stderr.contains(&secret), "{}", ran.stderr);
    }
    let ran = run(&mut fixture.call(&server.origin(), &["--token", &fixture.token()]));
    assert!(!ran.succeeded().stderr.contains("WARN"), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_body_comes_from_the_command_line_a_file_or_standard_input() {
    use std::io::Write;
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let token = fixture.token();
    let file = fixture.dir.write("body", "two\nlines\n");
    let file = format!("@{}", file.display());
    let args = ["-d", "one", "-d", &file, "-d", "@-", "--token", &token];
    let mut command = fixture.call(&server.origin(), &args);
    let mut child = command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"three").unwrap();
    let output = tokio::task::block_in_place(|| child.wait_with_output()).unwrap();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "ok:one&two\nlines\n&three"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn output_and_include_write_where_curl_would() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let token = fixture.token();
    let file = fixture.dir.path().join("out");
    let path = file.to_str().unwrap();
    let ran = run(&mut fixture.call(&server.origin(), &["-o", path, "--token", &token]));
    assert_eq!(ran.succeeded().stdout, "");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "ok:");
    let args = [
        "-o",
        path,
        "-d",
        "x",
        "--repeat",
        "3",
        "--concurrency",
        "3",
        "--token",
        &token,
    ];
    run(&mut fixture.call(&server.origin(), &args)).succeeded();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "ok:xok:xok:x");
    let args = ["-i", "--http1.1", "--token", &token, "--stats", "json"];
    let ran = run(&mut fixture.call(&server.origin(), &args));
    let stdout = &ran.succeeded().stdout;
    assert!(stdout.starts_with("HTTP/1.1 200 OK\r\n"), "{stdout}");
    assert!(stdout.contains("\r\n\r\nok:\n{"), "{stdout}");
    assert_eq!(ran.stats()["requests"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn fail_makes_an_error_status_a_failure_and_leaves_the_body_out() {
    let fixture = Fixture::new();
    let server = fixture.plain(page("never"));
    let args = ["-X", "DELETE", "-d", "x"];
    let ran = run(&mut fixture.call(&server.origin(), &args));
    ran.succeeded();
    let ran = run(&mut fixture.call(&server.origin(), &[&args[..], &["--fail"]].concat()));
    ran.failed(1, &["405 Method Not Allowed"]);
    let many = [&args[..], &["-f", "--repeat", "3", "--stats", "json"]].concat();
    let ran = run(&mut fixture.call(&server.origin(), &many));
    ran.failed(1, &["3 x the server answered 405"]);
    assert_eq!(ran.stats()["by_status"], json!({ "405": 3 }));
    assert_eq!(ran.stats()["errors"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn resolve_and_connect_to_change_where_it_connects_and_nothing_else() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let port = server.addr().port();
    let token = fixture.token();
    // The certificate is for localhost and 127.0.0.1.
    let connect_to = format!("localhost:9:127.0.0.1:{port}");
    let args = ["--connect-to", &connect_to, "--token", &token, "-v"];
    // `Origin` of the server names the real port, so a proof for one request would not match.
    let ran = run(&mut fixture.call("https://localhost:9/", &args));
    assert_eq!(ran.succeeded().stdout, "ok:");
    let resolve = format!("other.invalid:{port}:127.0.0.1");
    let args = ["--resolve", &resolve, "--token", &token];
    let ran = run(&mut fixture.call(&format!("https://other.invalid:{port}"), &args));
    ran.failed(1, &["names another host"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_of_the_environment_is_used_as_curl_uses_it() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let token = fixture.token();
    let mut command = fixture.call(&server.origin(), &["--token", &token]);
    let ran = run(command.env("https_proxy", "http://127.0.0.1:1"));
    ran.failed(1, &["cannot connect to the proxy 127.0.0.1:1"]);
    run(command.env("no_proxy", "localhost")).succeeded();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_bound_to_a_dpop_key_goes_with_dpop_proofs() {
    let fixture = Fixture::new();
    // The agent's own key will do for this one.
    let key = &fixture.files.key;
    let server = fixture.plain(
        axum::Router::new().fallback(async |headers: http::HeaderMap| {
            let has = |name| headers.contains_key(name);
            let scheme = headers["authorization"]
                .to_str()
                .unwrap()
                .split(' ')
                .next()
                .unwrap()
                .to_owned();
            format!("{scheme} {} {}", has("dpop"), has("session-binding-proof"))
        }),
    );
    let args = [
        "--token",
        "opaque",
        "--dpop-key",
        key.to_str().unwrap(),
        "-v",
    ];
    let ran = run(&mut fixture.call(&server.origin(), &args));
    assert_eq!(ran.succeeded().stdout, "DPoP true false");
    assert!(
        ran.stderr.contains("class dpop; proof minted (cause"),
        "{}",
        ran.stderr
    );
    // Without the key it is a bearer token.
    let ran = run(&mut fixture.call(&server.origin(), &["--token", "opaque", "-v"]));
    assert_eq!(ran.succeeded().stdout, "Bearer false false");
    assert!(
        ran.stderr.contains("class none; proof none"),
        "{}",
        ran.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_written_as_it_comes() {
    use std::io::Read;
    let fixture = Fixture::new();
    let endless = async || {
        let first = [Ok::<_, std::io::Error>("data: 1\n\n")];
        let body = futures_util::StreamExt::chain(
            futures_util::stream::iter(first),
            futures_util::stream::pending(),
        );
        axum::body::Body::from_stream(body)
    };
    let server = fixture.plain(axum::Router::new().fallback(endless));
    let mut command = fixture.call(&server.origin(), &[]);
    let mut child = command
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut event = [0; 9];
    let mut stdout = child.stdout.take().unwrap();
    tokio::task::block_in_place(|| stdout.read_exact(&mut event)).unwrap();
    assert_eq!(&event, b"data: 1\n\n");
    child.kill().unwrap();
    tokio::task::block_in_place(|| child.wait()).unwrap();
    let ran = run(&mut fixture.call(&server.origin(), &["--max-time", "0.5"]));
    ran.failed(1, &["within 500ms (--max-time)"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn plaintext_goes_to_loopback_only_and_carries_no_proof() {
    let fixture = Fixture::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(axum::serve(listener, page("plain")).into_future());
    let ran = run(&mut fixture.call(&url, &[]));
    assert_eq!(ran.succeeded().stdout, "plain");
    serving.abort();
    run(&mut fixture.call("http://example.com", &[])).failed(1, &["plaintext"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_counted_by_their_message() {
    let fixture = Fixture::new();
    let ran = run(&mut fixture.call(
        "https://127.0.0.1:1",
        &["--repeat", "4", "--concurrency", "2", "--stats", "json"],
    ));
    ran.failed(1, &["4 x cannot connect to https://127.0.0.1:1"]);
    let stats: Value = ran.stats();
    assert_eq!(stats["errors"], 4);
    assert_eq!(stats["by_status"], json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_log_level_shows_a_secret() {
    let fixture = Fixture::new();
    let proofs = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = proofs.clone();
    let app = axum::Router::new().fallback(move |headers: http::HeaderMap| {
        let proof = headers["session-binding-proof"].to_str().unwrap();
        seen.lock().unwrap().push(proof.to_owned());
        async { "ok" }
    });
    let server = fixture.plain(app);
    let token = fixture.token();
    let secret = std::fs::read_to_string(&token[1..]).unwrap();
    for version in ["--http1.1", "--http2"] {
        let args = [version, "-v", "--log-level", "trace", "--token", &token];
        let ran = run(&mut fixture.call(&server.origin(), &args));
        assert!(
            ran.succeeded().stderr.contains("TRACE"),
            "nothing is logged"
        );
        let proof = proofs.lock().unwrap().pop().expect("a proof");
        for hidden in [&secret, &proof] {
            assert!(
                !ran.stderr.contains(hidden.as_str()),
                "{version}: {}",
                ran.stderr
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_concurrent_requests_are_written_one_after_another() {
    let fixture = Fixture::new();
    let both = std::sync::Arc::new(tokio::sync::Barrier::new(2));
    // Neither body ends before both have begun.
    let app = axum::Router::new().fallback(async move || {
        let parts = futures_util::stream::unfold(0, move |part| {
            let both = both.clone();
            async move {
                if part == 1 {
                    both.wait().await;
                }
                let text = ["<", ">"].get(part)?;
                Some((Ok::<_, std::io::Error>(*text), part + 1))
            }
        });
        axum::body::Body::from_stream(parts)
    });
    let server = fixture.plain(app);
    // A third request could be written before the second, and would wait for a fourth.
    let args = ["--repeat", "2", "--concurrency", "2", "-o", "-"];
    for _ in 0..10 {
        let ran = run(&mut fixture.call(&server.origin(), &args));
        assert_eq!(ran.succeeded().stdout, "<><>");
    }
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn an_argument_that_is_not_utf8_may_stand_beside_a_secret() {
    use std::os::unix::ffi::OsStrExt;
    let fixture = Fixture::new();
    let server = fixture.plain(page("ok"));
    let file = fixture
        .dir
        .path()
        .join(std::ffi::OsStr::from_bytes(b"out-\xff"));
    let mut command = fixture.call(&server.origin(), &["--token", "opaque", "-o"]);
    run(command.arg(&file)).succeeded();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "ok");
}
