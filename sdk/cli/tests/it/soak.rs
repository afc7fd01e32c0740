//! Agents behind one egress, and four ingress processes behind HAProxy that are restarted one after
//! the other, while certificates are replaced at both ends.
//!
//! `just soak` has 200,000 requests, and writes a summary.

#![allow(clippy::print_stdout, reason = "the figures are there to be read")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bowline_testkit::authority::TokenRequest;
use bowline_testkit::net::free_address;
use bowline_testkit::peers::HaProxy;
use bowline_testkit::pki::{KeyKind, Leaf};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::agents::Service;
use crate::ingress::fixture::*;
use crate::support::replace_file;

const AGENTS: usize = 20;
const INGRESSES: usize = 4;
/// An agent opens a new connection to the egress after so many requests, as scripts do.
const PER_CONNECTION: usize = 50;
/// No line for each request.
const LOG: &str = "info,bowline::access=off";

/// What the agents share.
struct Shared {
    /// What is left to send.
    left: AtomicUsize,
    done: AtomicUsize,
    stop: AtomicBool,
    token: Mutex<String>,
    failures: Mutex<Vec<String>>,
}

impl Shared {
    fn new(scene: &Scene, requests: usize) -> Arc<Self> {
        let shared = Self {
            left: AtomicUsize::new(requests),
            done: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            token: Mutex::default(),
            failures: Mutex::default(),
        };
        shared.use_token_of(scene, &scene.agent);
        Arc::new(shared)
    }

    fn use_token_of(&self, scene: &Scene, agent: &Leaf) {
        let request = TokenRequest::session_bound("agent", agent.thumbprint());
        *self.token.lock().unwrap() = scene.authority.issue(&request);
    }

    fn takes_one(&self) -> bool {
        let taken = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            });
        taken.is_ok() && !self.stop.load(Ordering::SeqCst)
    }

    fn fail(&self, failure: String) {
        self.failures.lock().unwrap().push(failure);
    }
}

/// Sends requests one after the other: with the token that is current, half of them such that may
/// not be sent twice.
async fn agent(number: usize, egress: SocketAddr, origin: String, shared: Arc<Shared>) {
    loop {
        let socket = TcpStream::connect(egress).await.unwrap();
        let (mut sender, driver) = http1::handshake(TokioIo::new(socket)).await.unwrap();
        let driver = tokio::spawn(driver);
        for sent in 0..PER_CONNECTION {
            if !shared.takes_one() {
                return;
            }
            let method = match (number + sent) % 2 {
                0 => Method::GET,
                _ => Method::POST,
            };
            let token = shared.token.lock().unwrap().clone();
            let request = Request::builder()
                .method(method.clone())
                .uri(format!("http://{origin}/tool"))
                .header("host", &origin)
                .header("authorization", format!("Bearer {token}"))
                .body(whole("0123456789"))
                .unwrap();
            let response = match within(sender.send_request(request)).await {
                Ok(response) => response,
                Err(error) => {
                    shared.fail(format!("{method}: the egress: {error}"));
                    break;
                }
            };
            let status = response.status();
            match within(response.into_body().collect()).await {
                Ok(_) if status == StatusCode::OK => {
                    shared.done.fetch_add(1, Ordering::SeqCst);
                }
                Ok(body) => {
                    let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
                    shared.fail(format!("{method}: {status}: {text}"));
                }
                Err(error) => shared.fail(format!("{method}: {status}, then {error}")),
            }
        }
        drop(sender);
        drop(driver.await);
    }
}

async fn ingress(scene: &Scene, upstream: &Upstream, at: SocketAddr) -> Ingress {
    let mut command = scene.command_without_listen(&upstream.url());
    command
        .args(["--listen", &at.to_string()])
        .args(scene.jwt_options());
    within(Ingress::spawn_logging(command, LOG)).await
}

/// Resident memory of the egress, with the number of requests that were answered before.
#[derive(Default)]
struct Memory(Vec<(usize, u64)>);

impl Memory {
    fn look(&mut self, egress: &Service, shared: &Shared) {
        let done = shared.done.load(Ordering::SeqCst);
        self.0.push((done, egress.resident_kib()));
    }

    /// Ten of the values, spread over the run.
    fn curve(&self) -> String {
        let step = self.0.len().div_ceil(10).max(1);
        let values = self.0.iter().step_by(step);
        let values: Vec<_> = values
            .map(|(done, kib)| format!("{done}: {:.1}", *kib as f64 / 1024.0))
            .collect();
        values.join(", ")
    }

    /// The mean of the last quarter over that of the second.
    fn growth(&self) -> f64 {
        let quarter = self.0.len() / 4;
        let mean = |from: usize, to: usize| {
            let values = &self.0[from..to];
            values.iter().map(|(_, kib)| *kib as f64).sum::<f64>() / values.len().max(1) as f64
        };
        mean(self.0.len() - quarter, self.0.len()) / mean(quarter, 2 * quarter)
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs haproxy"]
async fn ingresses_are_restarted_and_certificates_replaced_under_load_and_no_request_fails() {
    let requests = std::env::var("TEST_REQUESTS").map_or(4000, |text| text.parse().unwrap());
    let scene = Scene::new();
    scene
        .pki
        .write_to(&scene.path(""), &[&scene.agent])
        .unwrap();
    let upstream = Upstream::start(|request: Request<hyper::body::Incoming>| async move {
        request.into_body().collect().await.expect("a body");
        http::Response::new(whole("ok"))
    });
    let places: Vec<_> = (0..INGRESSES).map(|_| free_address()).collect();
    let mut ingresses = Vec::new();
    for at in &places {
        ingresses.push(ingress(&scene, &upstream, *at).await);
    }
    let front = HaProxy::in_front_of_all(&places);
    let origin = front.origin().replace("https://", "");
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_bowline"));
    command
        .args(["egress", "--allow", &front.origin(), "--log-level", LOG])
        .arg("--cert")
        .arg(scene.path("agent.pem"))
        .arg("--key")
        .arg(scene.path("agent-key.pem"))
        .arg("--cacert")
        .arg(scene.path("ca.pem"))
        .kill_on_drop(true);
    let egress = Service::on_port(&mut command).await;
    let address = egress.address.parse().unwrap();

    let shared = Shared::new(&scene, requests);
    let (started, mut agents) = (Instant::now(), JoinSet::new());
    for number in 0..AGENTS {
        agents.spawn(agent(number, address, origin.clone(), shared.clone()));
    }
    let (mut memory, mut restarts, mut certificates) = (Memory::default(), 0, 0);
    while !agents.is_empty() {
        let index = restarts % INGRESSES;
        ingresses[index].signal("TERM");
        assert_eq!(ingresses[index].ended().await, Some(0), "{index}");
        memory.look(&egress, &shared);
        ingresses[index] = ingress(&scene, &upstream, places[index]).await;
        restarts += 1;
        if restarts % 3 == 0 {
            // The old one may still be in use while the new one is read: its tokens stay valid.
            let agent = scene.pki.client("agent", KeyKind::P256);
            replace_file(&scene.path("agent-key.pem"), agent.key_pem());
            replace_file(&scene.path("agent.pem"), agent.chain_pem());
            let server = scene.pki.server(&["localhost"]);
            replace_file(&scene.path("server.key"), server.key_pem());
            replace_file(&scene.path("server.pem"), server.chain_pem());
            certificates += 1;
            egress
                .logs("reloaded (a file has changed)", certificates)
                .await;
            shared.use_token_of(&scene, &agent);
        }
        if !shared.failures.lock().unwrap().is_empty() {
            shared.stop.store(true, Ordering::SeqCst);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        while agents.try_join_next().is_some() {}
    }
    let failures = shared.failures.lock().unwrap().clone();
    let log = egress.log();
    assert!(failures.is_empty(), "{failures:?}\n{log}");
    assert_eq!(shared.done.load(Ordering::SeqCst), requests);
    assert_eq!(
        upstream.requests(),
        requests,
        "none is lost, none came twice"
    );
    let growth = memory.growth();
    let curve = memory.curve();
    let log = egress.end().await;
    let stats = log
        .lines()
        .find(|line| line.contains("agent connections in"));
    let summary = format!(
        "{requests} requests of {AGENTS} agents in {} s; {restarts} restarts of {INGRESSES} ingress \
         processes, {certificates} times new certificates at both ends; 0 failures, each request \
         arrived once.\n\nThe egress: {}\n\nIts resident memory in MiB, by the number of requests: \
         {curve}; last quarter over second: {growth:.2}.\n",
        started.elapsed().as_secs(),
        stats.unwrap_or_default(),
    );
    println!("{summary}");
    if let Ok(path) = std::env::var("BOWLINE_SOAK_SUMMARY") {
        std::fs::write(path, summary).unwrap();
        // Short runs have hardly begun to fill tables.
        assert!(growth < 1.25, "{growth}");
    }
}
