//! Child processes, so that a count of memory, allocations or instructions includes nothing else.
//!
//! A bench starts itself again with a role in its environment and a job on stdin, one line of JSON.
//! PEM keys are passed that way and are never written to disk.
#![allow(clippy::print_stdout, reason = "a child answers on stdout")]

use std::io::{BufRead, BufReader, Read, Write, stdin};
use std::process::{ChildStdout, Command, Stdio};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::fixture::Credentials;
use super::runtime;
use super::server::{Server, Settings};

const ROLE: &str = "BOWLINE_BENCH_ROLE";
const SERVER: &str = "server";

/// A child process with a job. Dropping it ends the process.
pub(crate) struct Child {
    process: std::process::Child,
    answers: BufReader<ChildStdout>,
}

impl Child {
    /// Starts this program once more.
    pub(crate) fn start(role: &str, job: &impl Serialize) -> Self {
        Self::under(
            Command::new(std::env::current_exe().expect("the path of this program")),
            role,
            job,
        )
    }

    /// Starts a program that starts this one.
    pub(crate) fn under(mut command: Command, role: &str, job: &impl Serialize) -> Self {
        let mut process = command
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
        let job = serde_json::to_string(job).expect("JSON") + "\n";
        let stdin = process.stdin.as_mut().expect("a pipe");
        stdin.write_all(job.as_bytes()).expect("a child that reads");
        let answers = BufReader::new(process.stdout.take().expect("a pipe"));
        Self { process, answers }
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends it a line.
    pub(crate) fn tell(&mut self, line: &str) {
        let stdin = self.process.stdin.as_mut().expect("a pipe");
        writeln!(stdin, "{line}").expect("a child that reads");
    }

    /// The next line of its output.
    pub(crate) fn answer(&mut self) -> String {
        let mut line = String::new();
        let bytes = self.answers.read_line(&mut line).expect("text");
        assert!(bytes > 0, "the child ended without an answer");
        line.trim().to_owned()
    }
}

impl Child {
    /// Waits for its end, and returns what it wrote to stderr if that was piped.
    pub(crate) fn finish(mut self) -> String {
        drop(self.process.stdin.take());
        let mut report = String::new();
        if let Some(mut stderr) = self.process.stderr.take() {
            stderr.read_to_string(&mut report).expect("text");
        }
        let status = self.process.wait().expect("a child that ends");
        assert!(status.success(), "the child failed: {status}\n{report}");
        report
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // The child ends at the end of its stdin.
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// A server in a process of its own.
pub(crate) struct ServerProcess {
    pub(crate) origin: String,
    /// The first of them is `origin`.
    pub(crate) origins: Vec<String>,
    _child: Child,
}

impl ServerProcess {
    pub(crate) fn start(credentials: &Credentials, settings: Settings) -> Self {
        Self::with_origins(credentials, settings, 1)
    }

    /// A server with this many origins: a port for each.
    pub(crate) fn with_origins(
        credentials: &Credentials,
        settings: Settings,
        number: usize,
    ) -> Self {
        let mut child = Child::start(SERVER, &(credentials, settings, number));
        let origins: Vec<String> = serde_json::from_str(&child.answer()).expect("origins");
        Self {
            origin: origins.first().expect("an origin").clone(),
            origins,
            _child: child,
        }
    }
}

/// The role of this process if it was started as a child. The server's role runs here and does not
/// return.
pub(crate) fn role() -> Option<String> {
    let role = std::env::var(ROLE).ok()?;
    if role == SERVER {
        serve();
        std::process::exit(0);
    }
    Some(role)
}

/// The job of this child.
pub(crate) fn job<T: DeserializeOwned>() -> T {
    let mut line = String::new();
    stdin().read_line(&mut line).expect("text");
    serde_json::from_str(&line).expect("a job")
}

/// Waits for a line from the process that started this child.
pub(crate) fn told() -> String {
    let mut line = String::new();
    stdin().read_line(&mut line).expect("text");
    line
}

/// Sends a line to the process that started this child.
pub(crate) fn answer(line: impl std::fmt::Display) {
    println!("{line}");
}

fn serve() {
    let (credentials, settings, number): (Credentials, Settings, usize) = job();
    rlimit::increase_nofile_limit(u64::MAX).expect("file descriptors");
    let runtime = runtime();
    let _inside = runtime.enter();
    let servers: Vec<_> = (0..number)
        .map(|_| Server::start(&credentials, settings))
        .collect();
    let origins: Vec<_> = servers.iter().map(|server| &server.origin).collect();
    answer(serde_json::to_string(&origins).expect("JSON"));
    let _ = stdin().read_to_end(&mut Vec::new());
}
