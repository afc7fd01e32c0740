//! `bowline run`: one command, and everything that it is given and that is taken from it.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::agents::{Running, World, exists, stderr};

/// How many connections the agent opens.
const AGENT_CONNECTIONS: u64 = 40;
const URL: &str = "AGENT_URL";
const TOKEN: &str = "AGENT_TOKEN";

/// An agent with reqwest, which heeds the environment: a client, and a connection, for each
/// exchange. Other tests start it with `bowline run` in front.
#[tokio::test]
#[ignore = "it is started by other tests"]
async fn agent() {
    let (Ok(url), Ok(token)) = (std::env::var(URL), std::env::var(TOKEN)) else {
        return;
    };
    for number in 0..AGENT_CONNECTIONS {
        let builder = reqwest::Client::builder();
        let builder = match number % 2 {
            0 => builder.http1_only(),
            _ => builder,
        };
        let client = builder.build().expect("a client");
        let body = format!("call {number} ").repeat(10_000);
        let request = client.post(&url).bearer_auth(&token).body(body.clone());
        let response = request.send().await.expect("a response");
        assert_eq!(response.status(), 200);
        assert!(!response.headers().contains_key("alt-svc"));
        assert_eq!(response.text().await.expect("a body"), body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_connections_in_one_connection_and_one_signature_out() {
    let world = World::new("run-agent");
    let agent = std::env::current_exe().expect("this program");
    let output = world
        .run(&[])
        .arg(agent)
        .args(["--exact", "run::agent", "--ignored", "--nocapture"])
        .env(URL, format!("{}/mcp", world.server.origin()))
        .env(TOKEN, world.token())
        .output()
        .await
        .expect("the command runs");
    let told = stderr(&output);
    assert!(output.status.success(), "{output:?}");
    let expected = format!(
        "{AGENT_CONNECTIONS} agent connections in, {AGENT_CONNECTIONS} requests; 1 connections \
         out, 1 signatures (first 1); 0 tunnels without a proof, 0 requests refused"
    );
    assert!(told.contains(&expected), "{told}");
    let counts = world.server.counts();
    assert_eq!((counts.opened, counts.requests), (1, AGENT_CONNECTIONS));
    assert_eq!(world.seen.proofs(), (1, AGENT_CONNECTIONS));
    assert_eq!(world.private_directories().len(), 0);
}

#[tokio::test]
async fn the_exit_status_is_the_commands() {
    let world = World::new("run-status");
    for (script, code) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("kill -TERM $$", 143),
        ("kill -9 $$", 137),
    ] {
        let output = world.run(&[]).args(["sh", "-c", script]).output().await;
        let output = output.expect("the command runs");
        assert_eq!(output.status.code(), Some(code), "{script}");
        let told = stderr(&output);
        assert!(
            told.contains("no request to an allowed origin came through"),
            "{told}"
        );
        assert!(told.contains("this is no sandbox"), "{told}");
    }
    for (command, code) in [("no-such-command-anywhere", 127), ("/etc/passwd", 126)] {
        let output = world
            .run(&[])
            .arg(command)
            .output()
            .await
            .expect("the command runs");
        assert_eq!(output.status.code(), Some(code), "{command}");
        let told = stderr(&output);
        assert!(
            told.contains(&format!("{command} cannot be started")),
            "{told}"
        );
    }
    assert_eq!(world.private_directories().len(), 0);
}

#[tokio::test]
async fn wrong_configuration_starts_nothing() {
    let world = World::new("run-wrong");
    for (arguments, message) in [
        (
            vec!["--allow", "https://127.0.0.1:8443"],
            "an IP address cannot be intercepted",
        ),
        (
            vec!["--allow", "http://tools.example"],
            "begins with https://",
        ),
        (
            vec!["--allow", "https://a.example", "--key", "/nowhere"],
            "/nowhere",
        ),
    ] {
        let mut command = world.bowline("run");
        if arguments.contains(&"--key") {
            command = tokio::process::Command::new(env!("CARGO_BIN_EXE_bowline"));
            command.args(["run", "--cert", "/nowhere"]);
        }
        let output = command
            .args(&arguments)
            .args(["--", "touch"])
            .arg(world.scratch.0.join("started"))
            .output()
            .await
            .expect("the command runs");
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(stderr(&output).contains(message), "{output:?}");
        assert!(!exists(world.scratch.0.join("started")));
    }
}

#[tokio::test]
async fn signals_reach_the_command() {
    let world = World::new("run-signals");
    let script = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done";
    let mut child = world
        .run(&[])
        .args(["sh", "-c", script])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the command runs");
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    stdout.read_line(&mut line).await.expect("a line");
    assert_eq!(line, "ready\n");
    let pid = i32::try_from(child.id().expect("it runs")).expect("a process id");
    kill_process(Pid::from_raw(pid).expect("a process id"), Signal::TERM).expect("a signal");
    assert_eq!(child.wait().await.expect("it ends").code(), Some(3));
}

/// Also what has left the command's process group and session.
#[tokio::test]
async fn a_killed_run_leaves_no_process_and_its_directory_goes_at_the_next_start() {
    let world = World::new("run-killed");
    let running =
        Running::start_script(&mut world.run(&[]), "setsid sleep 1000 & sleep 1000 &").await;
    assert_eq!(world.private_directories().len(), 1);
    // Returns when every process that has inherited standard output is gone.
    tokio::time::timeout(Duration::from_secs(60), running.kill())
        .await
        .expect("all ended");
    assert_eq!(world.private_directories().len(), 1, "left by SIGKILL");
    let next = world
        .run(&[])
        .arg("true")
        .output()
        .await
        .expect("the command runs");
    assert!(next.status.success());
    assert_eq!(world.private_directories().len(), 0);
}

#[tokio::test]
async fn what_a_command_leaves_behind_ends_with_it() {
    let world = World::new("run-left");
    let script = "setsid sleep 1000 & sleep 1000 & exit 5";
    let run = world.run(&[]).args(["sh", "-c", script]).output();
    // `output` waits for everything that holds the pipes.
    let output = tokio::time::timeout(Duration::from_secs(60), run)
        .await
        .expect("all ended");
    assert_eq!(output.expect("the command runs").status.code(), Some(5));
}

#[tokio::test]
async fn nothing_in_the_command_leads_to_the_key() {
    let world = World::new("run-key");
    // The variable names the key, as the option would.
    let key = world.scratch.0.join("agent-key.pem");
    let script = "env; echo; ls -l /proc/self/fd; tr '\\0' ' ' < /proc/$PPID/environ; \
                  tr '\\0' ' ' < /proc/$PPID/cmdline; ls -la \"${DENO_CERT%/*}\"; \
                  cat \"${DENO_CERT%/*}\"/*";
    let output = world
        .run(&[])
        .args(["sh", "-c", script])
        .env("BOWLINE_KEY", &key)
        .output()
        .await
        .expect("the command runs");
    assert!(output.status.success(), "{output:?}");
    let told = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(told.contains("HTTPS_PROXY=http://127.0.0.1:"), "{told}");
    for never in ["agent-key.pem", "BOWLINE_", "PRIVATE KEY"] {
        assert!(!told.contains(never), "{never}: {told}");
    }
    assert!(told.contains("drwx------"), "{told}");
}
