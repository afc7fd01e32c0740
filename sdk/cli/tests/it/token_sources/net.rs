//! Several origins of one PKI, an authorization server, and an egress in front of them.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bowline_testkit::authority::{Authority, AuthorityOptions};
use bowline_testkit::peers::{CyclingOptions, CyclingServer};
use bowline_testkit::pki::{KeyKind, Leaf, Pki};
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use tokio::process::Command;

use crate::agents::{Scratch, Service};

pub(super) struct Net {
    pub(super) scratch: Scratch,
    pub(super) pki: Pki,
    pub(super) agent: Leaf,
    pub(super) authority: Authority,
}

/// An origin with mutual TLS that answers whatever it gets, and remembers it.
pub(super) struct Site {
    server: CyclingServer,
    state: Arc<Mutex<Memory>>,
}

#[derive(Default)]
struct Memory {
    arrived: Vec<Arrived>,
    refused: Vec<String>,
}

/// A request at an origin.
#[derive(Clone, Debug)]
pub(super) struct Arrived {
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Arrived {
    /// The access tokens in it.
    pub(super) fn tokens(&self) -> Vec<String> {
        let fields = self.headers.get_all("authorization").iter();
        let texts = fields.map(|value| value.to_str().expect("ASCII"));
        texts
            .map(|text| {
                text.split_once(' ')
                    .map_or(text, |(_, token)| token)
                    .to_owned()
            })
            .collect()
    }
}

impl Net {
    pub(super) fn new(name: &str) -> Self {
        let scratch = Scratch::new(name);
        let pki = Pki::new();
        let agent = pki.client("agent", KeyKind::P256);
        pki.write_to(&scratch.0, &[&agent]).expect("files");
        let authority = Authority::start(&pki, AuthorityOptions::default());
        Self {
            scratch,
            pki,
            agent,
            authority,
        }
    }

    pub(super) fn site(&self) -> Site {
        let state: Arc<Mutex<Memory>> = Arc::default();
        let router = Router::new()
            .fallback(any(answer))
            .with_state(state.clone());
        let server = CyclingServer::start(&self.pki, CyclingOptions::default(), router);
        Site { server, state }
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.scratch.0.join(name)
    }

    pub(super) fn write(&self, name: &str, text: &str) -> String {
        use std::os::unix::fs::PermissionsExt;
        let path = self.file(name);
        std::fs::write(&path, text).expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("its mode");
        path.display().to_string()
    }

    /// Renames another file into place.
    pub(super) fn replace(&self, name: &str, text: &str) {
        crate::support::replace_file(&self.file(name), text);
    }

    /// A command with a configuration file of these tables, behind what all of them have.
    pub(super) fn bowline(&self, subcommand: &str, tables: &str) -> Command {
        let file = |name: &str| self.file(name).display().to_string();
        let config = format!(
            "cert = {:?}\nkey = {:?}\ncacert = {:?}\n{tables}",
            file("agent.pem"),
            file("agent-key.pem"),
            file("ca.pem"),
        );
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let config = self.write(&format!("bowline-{number}.toml"), &config);
        let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
        command
            .args([subcommand, "--config", &config])
            .env("XDG_RUNTIME_DIR", &self.scratch.0)
            .env_remove("https_proxy")
            .env_remove("HTTPS_PROXY")
            .env_remove("NO_PROXY")
            .env_remove("no_proxy")
            .kill_on_drop(true);
        command
    }

    /// The name of its configuration file.
    pub(super) fn config(&self, command: &Command) -> String {
        let mut arguments = command.as_std().get_args();
        let path = arguments.find(|argument| argument.to_string_lossy().ends_with(".toml"));
        let path = std::path::Path::new(path.expect("a file"));
        path.file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned()
    }

    pub(super) async fn egress(&self, tables: &str) -> Service {
        Service::on_port(&mut self.bowline("egress", tables)).await
    }

    /// The keys of a source at this authority.
    pub(super) fn at_authority(&self) -> String {
        format!(
            "issuer = {:?}, client-id = \"agent\"",
            self.authority.issuer()
        )
    }
}

const URLS: &str = "AGENT_URLS";
const LOCATION: &str = "AGENT_LOCATION";

/// The program of an agent, or of a tool that it starts: it asks for these URLs by what its environment
/// says, follows redirects, and prints what it gets, a line for each.
pub(super) fn agent(urls: &[&str]) -> (std::ffi::OsString, [(&'static str, String); 1]) {
    let program = std::env::current_exe().expect("this program");
    (program.into(), [(URLS, urls.join(" "))])
}

/// The arguments of [`agent`].
pub(super) const AGENT: [&str; 4] = [
    "--exact",
    "token_sources::net::agent_process",
    "--ignored",
    "--nocapture",
];

/// An agent with `http_proxy`, to its end; `location` is where the first origin is to lead it.
pub(super) async fn run_agent(egress: &Service, url: &str, location: &str) -> Vec<String> {
    let (program, urls) = agent(&[url]);
    let output = Command::new(program)
        .args(AGENT)
        .envs(urls)
        .env(LOCATION, location)
        .env("http_proxy", format!("http://{}", egress.address))
        .env_remove("no_proxy")
        .env_remove("NO_PROXY")
        .output()
        .await
        .expect("it runs");
    answers(&output)
}

pub(super) fn answers(output: &std::process::Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("answer: "));
    lines.map(str::to_owned).collect()
}

#[tokio::test]
#[ignore = "it is started by other tests"]
#[allow(clippy::print_stdout, reason = "the other tests read it")]
async fn agent_process() {
    let Ok(urls) = std::env::var(URLS) else {
        return;
    };
    println!(); // after the test runner's own words
    for url in urls.split(' ') {
        let client = reqwest::Client::builder().build().expect("a client");
        let mut request = client.get(url);
        if let Some(location) = std::env::var(LOCATION).ok().filter(|text| !text.is_empty()) {
            request = request.header("x-location", location);
        }
        let response = request.send().await.expect("an answer");
        let status = response.status().as_u16();
        println!(
            "answer: {status} {}",
            response.text().await.expect("a body").trim()
        );
    }
}

/// The table of an origin.
pub(super) fn table(site: &Site, token: &str) -> String {
    format!(
        "[[origin]]\nurl = {:?}\n{}\n",
        site.origin(),
        match token {
            "" => String::new(),
            token => format!("token = {{ {token} }}"),
        }
    )
}

impl Site {
    pub(super) fn origin(&self) -> String {
        self.server.origin()
    }

    /// `HOST:PORT`.
    pub(super) fn authority(&self) -> String {
        self.origin().trim_start_matches("https://").to_owned()
    }

    pub(super) fn arrived(&self) -> Vec<Arrived> {
        self.state.lock().expect("the lock").arrived.clone()
    }

    /// All tokens that it has seen, one for each request that had one.
    pub(super) fn tokens(&self) -> Vec<String> {
        self.arrived().iter().flat_map(Arrived::tokens).collect()
    }

    /// Answers requests with this token by 401 from now on.
    pub(super) fn refuse(&self, token: &str) {
        self.state
            .lock()
            .expect("the lock")
            .refused
            .push(token.to_owned());
    }
}

async fn answer(State(state): State<Arc<Mutex<Memory>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
    let arrived = Arrived {
        headers: parts.headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    let is_refused = {
        let mut state = state.lock().expect("the lock");
        let is_refused = arrived
            .tokens()
            .iter()
            .any(|token| state.refused.contains(token));
        state.arrived.push(arrived.clone());
        is_refused
    };
    if is_refused {
        let challenge = "Bearer error=\"invalid_token\"";
        return (StatusCode::UNAUTHORIZED, [("www-authenticate", challenge)]).into_response();
    }
    // A test says where it is to redirect to.
    if let Some(location) = arrived.headers.get("x-location") {
        let mut response = StatusCode::TEMPORARY_REDIRECT.into_response();
        response.headers_mut().insert("location", location.clone());
        return response;
    }
    Response::new(Body::from("served"))
}

/// The claims of a JWT.
pub(super) fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).expect("a JWT");
    let payload = URL_SAFE_NO_PAD.decode(payload).expect("base64url");
    serde_json::from_slice(&payload).expect("claims")
}

/// An answer of the egress, or through it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) text: String,
}

/// A request in absolute form on a connection of its own; `fields` are lines.
pub(super) async fn ask(egress: &Service, method: &str, url: &str, fields: &[&str]) -> Answer {
    let target = url.replacen("https://", "http://", 1);
    let host = target
        .trim_start_matches("http://")
        .split('/')
        .next()
        .expect("a host");
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    for field in fields {
        text += &format!("{field}\r\n");
    }
    answered(&egress.say(&format!("{text}\r\n")).await)
}

pub(super) fn answered(text: &str) -> Answer {
    let status = text
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    Answer {
        status: status.unwrap_or_else(|| panic!("no answer: {text:?}")),
        text: text.to_owned(),
    }
}
