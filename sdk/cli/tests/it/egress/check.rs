//! `bowline egress --check`: what the start would refuse is told, and nothing is opened or made.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use tokio::process::Command;

use crate::agents::{Service, World, stderr};

/// The status, and what was written to standard error.
async fn outcome(command: &mut Command) -> (Option<i32>, String) {
    let command = command.env("BOWLINE_LOG_LEVEL", "info");
    let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await;
    let output = output.expect("it serves").expect("the command runs");
    (output.status.code(), stderr(&output))
}

async fn assert_can_be_used(command: &mut Command) -> String {
    let (code, text) = outcome(command).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("the configuration can be used"), "{text}");
    text
}

/// The one line of error says this.
async fn assert_refused(command: &mut Command, expected: &str) {
    let (code, text) = outcome(command).await;
    assert_eq!(code, Some(2), "{expected}: {text}");
    let lines = text.lines().filter(|line| line.starts_with("bowline: "));
    let lines: Vec<&str> = lines.collect();
    assert_eq!(lines.len(), 1, "{text}");
    assert!(lines[0].contains(expected), "{expected:?} is not in {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_opens_and_makes_nothing() {
    let world = World::new("check-nothing");
    let [socket, dir] = ["egress.sock", "authority"].map(|name| world.file(name));
    let listen = format!("unix:{}", socket.display());
    let intercept = dir.display().to_string();
    let command = || world.egress(&["--check", "--listen", &listen, "--intercept", &intercept]);
    assert_can_be_used(&mut command()).await;
    assert!(!socket.exists() && !dir.exists());

    // As before a reload: where another one serves, with the same directory.
    let options = ["--listen", &listen, "--intercept", &intercept];
    let service = Service::start(&mut world.egress(&options)).await;
    let names = |dir: &std::path::Path| {
        let entries = std::fs::read_dir(dir).expect("the directory");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    };
    let before = names(&dir);
    let mut other = command();
    // Another name needs another authority, and that is not made.
    other.args(["--allow", "https://other.example"]);
    assert_can_be_used(&mut other).await;
    assert_eq!(names(&dir), before);
    assert!(socket.exists());
    service.end().await;
    assert_eq!(world.server.counts().opened, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_start_would_refuse_is_told() {
    let world = World::new("check-refused");
    let command = |options: &[&str]| {
        let mut command = world.egress(&["--check", "--listen", "127.0.0.1:0"]);
        command.args(options);
        command
    };
    let open = world.file("open");
    std::fs::create_dir(&open).expect("a directory");
    let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(&open, mode(0o777)).expect("its mode");
    let open = open.display().to_string();
    let missing = world.file("none/authority").display().to_string();
    let wrong = world.file("wrong.toml");
    std::fs::write(
        &wrong,
        "[[origin]]\nurl = \"https://a.example\"\nsauce = 1\n",
    )
    .expect("a file");
    let receipt = "{ url = \"https://a.example\", token = { source = \"exchange\", issuer = \
                   \"https://as.example\", client-id = \"a\", receipt-key = \"@/none\" } }";
    let stranger = rustix::process::geteuid().as_raw() + 1;
    let stranger = format!("{{ url = \"https://a.example\", callers = [\"uid:{stranger}\"] }}");
    for (options, expected) in [
        (
            &["--upstream", "https://other.example"][..],
            "it must be allowed, too",
        ),
        (&["--allow", "http://a.example"], "begins with https://"),
        (
            &["--config", &wrong.display().to_string()],
            "unknown key `sauce`",
        ),
        (&["--origin", receipt], "/none cannot be read"),
        (
            &["--token-source", "https://b.example=file:x"],
            "is not allowed",
        ),
        (
            &["--allow", "https://127.0.0.1:1", "--intercept", "x"],
            "cannot be intercepted",
        ),
        (&["--origin", &stranger], "may not use this proxy at all"),
        (
            &["--origin", &stranger, "--callers", "uid:4242"],
            "only uid:4242 may",
        ),
        (&["--intercept", &open], "in which no other can write"),
        (&["--intercept", &missing], "is no directory"),
    ] {
        assert_refused(&mut command(options), expected).await;
    }
    let listen = ["--check", "--listen", "unix:@bowline-check"];
    assert_refused(&mut world.egress(&listen), "add --abstract-socket").await;

    let key = world.file("agent-key.pem");
    std::fs::set_permissions(&key, mode(0o644)).expect("its mode");
    assert_refused(&mut command(&[]), "chmod 600").await;
    std::fs::set_permissions(&key, mode(0o600)).expect("its mode");
    for name in ["agent.pem", "ca.pem"] {
        let file = world.file(name);
        let kept = std::fs::read(&file).expect("a file");
        std::fs::write(&file, "nothing").expect("written");
        assert_refused(&mut command(&[]), name).await;
        std::fs::write(&file, kept).expect("written");
    }
    assert_can_be_used(&mut command(&[])).await;
}

/// They may come later: the start does not read them either.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_there_yet_is_told_and_no_error() {
    let world = World::new("check-token");
    let token = world.file("token");
    let source = format!("file:{}", token.display());
    let options = [
        "--check",
        "--listen",
        "127.0.0.1:0",
        "--token-source",
        &source,
    ];
    let told = format!("{} cannot be read now", token.display());
    let text = assert_can_be_used(&mut world.egress(&options)).await;
    assert!(text.contains("WARN") && text.contains(&told), "{text}");
    std::fs::write(&token, "hidden").expect("written");
    std::fs::set_permissions(&token, PermissionsExt::from_mode(0o600)).expect("its mode");
    let text = assert_can_be_used(&mut world.egress(&options)).await;
    assert!(!text.contains("WARN") && !text.contains("hidden"), "{text}");
}
