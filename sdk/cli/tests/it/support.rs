//! A protected server, the files of an agent, and the command as its users run it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use axum::Router;
use axum::routing::{any, get};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bowline::AccessToken;
use bowline::client::Thumbprint;
use bowline::server::{BindingLayer, TokenError, TokenValidator, ValidToken};
use bowline_testkit::peers::{CyclingOptions, CyclingServer};
use bowline_testkit::pki::{Leaf, LeafFiles, Pki};
use bytes::Bytes;
use serde_json::{Value, json};

/// `bowline` without any option of the environment that the tests run in.
pub(crate) fn bowline() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
    for (name, _) in std::env::vars() {
        if name.starts_with("BOWLINE_") || name.to_lowercase().ends_with("_proxy") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// What a run wrote, and its exit status.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs it to its end, while the servers of the test go on.
pub(crate) fn run(command: &mut Command) -> Ran {
    ran(tokio::task::block_in_place(|| command.output()).expect("the command runs"))
}

pub(crate) fn ran(output: Output) -> Ran {
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Ran {
    /// Fails unless it ended with `code`, wrote one line of error, and that has all of `parts`.
    #[track_caller]
    pub(crate) fn failed(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        let lines: Vec<&str> = self
            .stderr
            .lines()
            .filter(|line| line.starts_with("bowline:"))
            .collect();
        assert_eq!(lines.len(), 1, "{}", self.stderr);
        for part in parts {
            assert!(lines[0].contains(part), "`{part}` is not in: {}", lines[0]);
        }
    }

    #[track_caller]
    pub(crate) fn succeeded(&self) -> &Self {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self
    }

    /// The last line of standard output, as JSON.
    #[track_caller]
    pub(crate) fn stats(&self) -> Value {
        let line = self.stdout.lines().last().expect("a line");
        serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))
    }
}

/// A directory of its own, which goes with it.
pub(crate) struct Dir(PathBuf);

impl Dir {
    pub(crate) fn new() -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("bowline-cli-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory for the test");
        Self(dir)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).expect("the file is written");
        path
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Accepts every JWT without checking its signature.
#[derive(Clone)]
struct TrustingValidator;

impl TokenValidator for TrustingValidator {
    async fn validate(&self, token: &AccessToken) -> Result<ValidToken, TokenError> {
        let payload = token.secret().split('.').nth(1).unwrap_or_default();
        let bytes = URL_SAFE_NO_PAD.decode(payload).unwrap_or_default();
        match serde_json::from_slice(&bytes) {
            Ok(claims) => Ok(ValidToken::new(claims)),
            Err(_) => Err(TokenError::invalid("not a JWT")),
        }
    }
}

/// An agent's certificate, and what is needed to call servers with it.
pub(crate) struct Fixture {
    pub(crate) pki: Pki,
    pub(crate) agent: Leaf,
    pub(crate) files: LeafFiles,
    pub(crate) ca: PathBuf,
    pub(crate) dir: Dir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let (pki, agent) = Pki::with_agent();
        let dir = Dir::new();
        Self {
            files: agent.write_to(dir.path()).expect("the agent's files"),
            ca: dir.write("ca.pem", pki.ca_pem()),
            pki,
            agent,
            dir,
        }
    }

    /// `/` answers any method with its request's body behind `ok:`.
    pub(crate) fn server(&self, options: CyclingOptions) -> CyclingServer {
        CyclingServer::start_with(&self.pki, options, |origin| {
            let origin = origin.parse().expect("an origin");
            let echo = any(async |body: Bytes| [b"ok:", &body[..]].concat());
            Router::new()
                .fallback(echo)
                .layer(BindingLayer::new(TrustingValidator).origins([origin]))
        })
    }

    /// A server that knows nothing of tokens.
    pub(crate) fn plain(&self, app: Router) -> CyclingServer {
        CyclingServer::start(&self.pki, CyclingOptions::default(), app)
    }

    /// A session-bound token, in a file, as `@FILE`.
    pub(crate) fn token(&self) -> String {
        let token = jwt(&json!({ "sub": "agent", "cnf": session_cnf(self.agent.thumbprint()) }));
        format!("@{}", self.dir.write("token", token).display())
    }

    /// `bowline call URL` with the agent's certificate.
    pub(crate) fn call(&self, url: &str, args: &[&str]) -> Command {
        let mut command = bowline();
        command
            .args(["call", url])
            .arg("--cert")
            .arg(&self.files.certificate)
            .arg("--key")
            .arg(&self.files.key)
            .arg("--cacert")
            .arg(&self.ca)
            .args(args);
        command
    }
}

pub(crate) fn session_cnf(certificate: Thumbprint) -> Value {
    json!({ "x5t#S256": certificate.to_string(), "tls_exp": bowline_proof::EXPORTER_LABEL })
}

/// A JWT with these claims and no good signature.
pub(crate) fn jwt(claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = json!({ "alg": "ES256", "typ": "at+jwt" });
    format!("{}.{}.c2ln", encode(&header), encode(claims))
}

/// A page that answers `text`.
pub(crate) fn page(text: &'static str) -> Router {
    Router::new().fallback(get(async move || text))
}

/// Puts a file in the place of another one in one step, and only this user can read it.
pub(crate) fn replace_file(path: &Path, content: impl AsRef<[u8]>) {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let new = path.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    let file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new);
    file.expect("a file")
        .write_all(content.as_ref())
        .expect("written");
    std::fs::rename(new, path).expect("renamed");
}

/// The resident memory of a process.
#[cfg(target_os = "linux")]
pub(crate) fn resident_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    kib.expect("a number of KiB")
}
