//! Requests without a pause, over HTTP/2.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline_proof::{AccessToken, ExporterValue, PROOF_HEADER};
use bowline_testkit::tls::Alpn;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::JoinSet;

use crate::ingress::fixture::*;

type Sender = http2::SendRequest<TestBody>;

/// A connection of the agent, for requests at the same time.
#[derive(Clone)]
pub(super) struct H2 {
    sender: Sender,
    proof: http::HeaderValue,
    token: AccessToken,
}

/// How a request went.
pub(super) enum Went {
    Answered(StatusCode, String),
    /// The connection takes no more, and the request was not sent.
    Unsent,
    /// hyper says that the server sent GOAWAY without an error, and not whether the request was above
    /// its last stream (RFC 9113 section 6.8). The caller compares with what the upstream has seen.
    EndedByGoaway,
    Failed(String),
}

impl H2 {
    pub(super) async fn connect(scene: &Scene, ingress: &Ingress) -> Self {
        let stream = scene.tls(ingress, Some(&scene.agent), Alpn::Http2).await;
        let exporter = ExporterValue::derive(stream.get_ref().1).unwrap();
        let (sender, driver) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(async { drop(driver.await) });
        let token = scene.session_bound();
        let proof = proof(&scene.agent, &token, &exporter)
            .header_value()
            .clone();
        Self {
            sender,
            proof,
            token,
        }
    }

    pub(super) async fn get(&mut self, path: &str) -> Went {
        let request = Request::get(format!("https://localhost{path}"))
            .header("authorization", self.token.authorization())
            .header(PROOF_HEADER, &self.proof)
            .body(whole(""))
            .unwrap();
        if within(self.sender.ready()).await.is_err() {
            return Went::Unsent;
        }
        let response = match within(self.sender.try_send_request(request)).await {
            Ok(response) => response,
            Err(error) if error.message().is_some() => return Went::Unsent,
            Err(error) => {
                let error = error.into_error();
                return match is_goaway(&error) {
                    true => Went::EndedByGoaway,
                    false => Went::Failed(format!("{error:?}")),
                };
            }
        };
        let status = response.status();
        match within(response.into_body().collect()).await {
            Ok(body) => {
                let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
                Went::Answered(status, text)
            }
            Err(error) => Went::Failed(format!("{error:?}")),
        }
    }
}

fn is_goaway(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error);
    let error = source.and_then(|source| source.downcast_ref::<h2::Error>());
    error.is_some_and(|error| {
        error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR)
    })
}

/// Many of them, until it is told to stop or the server takes no more.
pub(super) struct Load {
    counts: Arc<Counts>,
    workers: JoinSet<()>,
}

#[derive(Default)]
struct Counts {
    stop: AtomicBool,
    done: AtomicUsize,
    unsent: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

impl Load {
    const CONNECTIONS: usize = 3;
    const STREAMS: usize = 3;

    pub(super) async fn start(scene: &Scene, ingress: &Ingress) -> Self {
        let (counts, mut workers) = (Arc::<Counts>::default(), JoinSet::new());
        for _ in 0..Self::CONNECTIONS {
            let connection = H2::connect(scene, ingress).await;
            for _ in 0..Self::STREAMS {
                workers.spawn(work(connection.clone(), counts.clone()));
            }
        }
        Self { counts, workers }
    }

    /// Waits for so many more answers.
    pub(super) async fn more(&self, requests: usize) {
        let until = self.counts.done.load(Ordering::SeqCst) + requests;
        within(async {
            while self.counts.done.load(Ordering::SeqCst) < until {
                self.assert_no_failure();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }

    pub(super) fn assert_no_failure(&self) {
        let failures = self.counts.failures.lock().unwrap();
        assert!(failures.is_empty(), "{failures:?}");
    }

    /// Ends it from this side; no connection was taken away.
    pub(super) async fn stop(self) {
        self.counts.stop.store(true, Ordering::SeqCst);
        let counts = self.finish().await;
        assert_eq!(counts.unsent.load(Ordering::SeqCst), 0);
    }

    /// Waits until the server has taken away every connection. Returns how many requests were
    /// answered: the upstream must have seen no others.
    pub(super) async fn until_drained(self) -> usize {
        let counts = self.finish().await;
        let unsent = counts.unsent.load(Ordering::SeqCst);
        assert_eq!(unsent, Self::CONNECTIONS * Self::STREAMS);
        counts.done.load(Ordering::SeqCst)
    }

    async fn finish(mut self) -> Arc<Counts> {
        while let Some(ended) = within(self.workers.join_next()).await {
            ended.expect("no worker panics");
        }
        self.assert_no_failure();
        self.counts
    }
}

async fn work(mut connection: H2, counts: Arc<Counts>) {
    while !counts.stop.load(Ordering::SeqCst) {
        match connection.get("/load").await {
            Went::Answered(StatusCode::OK, text) if text == "ok" => {
                counts.done.fetch_add(1, Ordering::SeqCst);
            }
            Went::Answered(status, text) => {
                let failure = format!("{status}: {text}");
                counts.failures.lock().unwrap().push(failure);
                return;
            }
            Went::Unsent | Went::EndedByGoaway => {
                counts.unsent.fetch_add(1, Ordering::SeqCst);
                return;
            }
            Went::Failed(failure) => {
                counts.failures.lock().unwrap().push(failure);
                return;
            }
        }
    }
}

/// A service that answers `ok`, and holds `/held` back until it is let go.
pub(super) fn service() -> (Upstream, Arc<Held>) {
    let held = Arc::<Held>::default();
    let gate = held.clone();
    let upstream = Upstream::start(move |request| {
        let gate = gate.clone();
        async move {
            if request.uri().path() == "/held" {
                gate.arrived.add_permits(1);
                gate.released.acquire().await.unwrap().forget();
            }
            http::Response::new(whole("ok"))
        }
    });
    (upstream, held)
}

pub(super) struct Held {
    arrived: tokio::sync::Semaphore,
    released: tokio::sync::Semaphore,
}

impl Default for Held {
    fn default() -> Self {
        Self {
            arrived: tokio::sync::Semaphore::new(0),
            released: tokio::sync::Semaphore::new(0),
        }
    }
}

impl Held {
    /// Waits until so many held requests have arrived.
    pub(super) async fn arrived(&self, requests: u32) {
        within(self.arrived.acquire_many(requests))
            .await
            .unwrap()
            .forget();
    }

    pub(super) fn release(&self, requests: usize) {
        self.released.add_permits(requests);
    }
}
