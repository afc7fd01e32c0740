//! A server whose places are all wanted, with regular clients that must lose nothing.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use bowline_server::{
    AcceptPolicy, Acceptor, ClientAuth, ConnectionLimits, Limit, Listener, ServerEvent,
};
use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream;
use http::Response;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::fixture::{Fixture, HttpConnection, TestServer, binding_report};

/// How often each limit was reached.
#[derive(Clone, Default)]
pub(crate) struct Reached(Arc<Mutex<Vec<Limit>>>);

impl Reached {
    pub(crate) fn count(&self, wanted: Limit) -> usize {
        let reached = self.0.lock().unwrap();
        reached.iter().filter(|limit| **limit == wanted).count()
    }
}

/// A server for at most `max` connections, with or without a client certificate. `/stream` is an
/// event stream with nothing to say, and needs no token.
pub(crate) async fn start(fixture: &Fixture, max: usize) -> (TestServer, Reached) {
    let reached = Reached::default();
    let log = reached.clone();
    let optional = ClientAuth::Optional(fixture.ca.roots().into());
    let acceptor = Acceptor::new(fixture.tls_with(optional).build().unwrap()).observer(
        move |event: &ServerEvent| {
            if let ServerEvent::LimitReached { limit, .. } = event {
                log.0.lock().unwrap().push(*limit);
            }
        },
    );
    let mut limits = ConnectionLimits::default();
    limits.max_connections = max;
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listener = Listener::with_limits(tcp, acceptor, limits).unwrap();
    let silent = async || {
        Response::new(Body::from_stream(stream::pending::<
            Result<Bytes, std::convert::Infallible>,
        >()))
    };
    let router: Router = binding_report()
        .layer(fixture.layer().policy(AcceptPolicy::Follow))
        .route("/stream", get(silent));
    (
        TestServer::start(listener, router, fixture.options()),
        reached,
    )
}

/// Clients with a connection each, which they keep, and a request now and then. They panic if one
/// fails.
pub(crate) struct Regulars {
    served: Arc<AtomicU64>,
    took: Arc<Mutex<Vec<Duration>>>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

/// Between two requests. Most of the time a connection is idle, so that it could be evicted.
const REST: Duration = Duration::from_millis(100);

impl Regulars {
    pub(crate) async fn start(fixture: &Fixture, addr: SocketAddr, number: usize) -> Self {
        let (served, took, stop) =
            <(Arc<AtomicU64>, Arc<Mutex<Vec<_>>>, Arc<AtomicBool>)>::default();
        let config = fixture.client("h2");
        let connect = |_| HttpConnection::connect(addr, &config);
        let connections = join_all((0..number).map(connect)).await;
        let tasks = connections
            .into_iter()
            .map(|mut connection| {
                let (token, key) = (fixture.token(), fixture.agent.proof_key());
                let proof = connection.proof(&key, &token);
                let (served, took, stop) = (served.clone(), took.clone(), stop.clone());
                tokio::spawn(async move {
                    while !stop.load(Ordering::SeqCst) {
                        let begun = Instant::now();
                        connection.assert_passes(&token, &proof).await;
                        took.lock().unwrap().push(begun.elapsed());
                        served.fetch_add(1, Ordering::SeqCst);
                        tokio::time::sleep(REST).await;
                    }
                })
            })
            .collect();
        Self {
            served,
            took,
            stop,
            tasks,
        }
    }

    /// Completes when they have been served this many more times each.
    pub(crate) async fn are_served(&self, times: u64) {
        let enough = self.served.load(Ordering::SeqCst) + times * self.tasks.len() as u64;
        while self.served.load(Ordering::SeqCst) < enough {
            let failed = self.tasks.iter().any(JoinHandle::is_finished);
            assert!(!failed, "a regular client has failed");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Since the last call, in microseconds: 99 % were served faster.
    pub(crate) fn p99_us(&self) -> u64 {
        let mut took = std::mem::take(&mut *self.took.lock().unwrap());
        took.sort();
        let at = (took.len() * 99).div_ceil(100).saturating_sub(1);
        took.get(at).map_or(0, |took| took.as_micros() as u64)
    }

    /// Panics if one of them ever failed.
    pub(crate) async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
        self.served.load(Ordering::SeqCst)
    }
}

/// `number` clients of one identity that arrive at once; each sends a good token. Panics if one is
/// refused.
pub(crate) async fn arrive_at_once(fixture: &Fixture, addr: SocketAddr, number: usize) {
    let config = &fixture.client("h2");
    let (token, key) = (&fixture.token(), &fixture.agent.proof_key());
    let arrive = |_| async move {
        let mut connection = HttpConnection::connect(addr, config).await;
        let proof = connection.proof(key, token);
        let answer = connection.get("/", token, Some(&proof)).await;
        answer.assert_passed("session");
        connection
    };
    drop(join_all((0..number).map(arrive)).await);
}
