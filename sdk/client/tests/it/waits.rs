//! Every wait ends by a limit of this client's, with an error that names it (K5). The limits are
//! short here; the times that were measured are printed, and decide nothing.

use std::time::{Duration, Instant};

use bowline_http_client::{Client, Error, ErrorKind, Step, Timeouts};
use bowline_testkit::peers::H2Wire;

use crate::fixture::raw_server::RawServer;
use crate::fixture::slow_key::soon;
use crate::fixture::{Fixture, fetch, jwt};

/// SETTINGS_MAX_CONCURRENT_STREAMS (RFC 9113 §6.5.2).
const MAX_STREAMS: u16 = 0x3;

const LIMIT: Duration = Duration::from_millis(600);

fn client(fixture: &Fixture, timeouts: Timeouts) -> Client {
    fixture.builder().timeouts(timeouts).build().unwrap()
}

/// The error of a call that must fail, and a line that says after how long it did.
async fn fails<T>(wait: &str, call: impl Future<Output = Result<T, Error>>) -> Error {
    let started = Instant::now();
    let error = soon(call).await.err().expect("nothing answers");
    println!("{wait}: ended after {:?}: {error}", started.elapsed());
    error
}

fn assert_names(error: &Error, step: Step, name: &str) {
    assert_eq!(error.kind(), ErrorKind::Timeout(step), "{error}");
    assert!(error.to_string().contains(name), "{error}");
}

/// RFC 9113 §5.1.2: 0 is not special, it allows no stream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_allows_no_streams_for_good_ends_by_the_pools_limit() {
    let fixture = Fixture::new();
    let server = RawServer::h2(&fixture.pki).await;
    let url = server.origin();
    tokio::spawn(async move {
        loop {
            let connection = server.accept().await;
            tokio::spawn(async move {
                let settings = [(MAX_STREAMS, 0)];
                let mut wire = H2Wire::accept_with(connection.0, &settings).await?;
                // What was sent before the SETTINGS came is refused.
                loop {
                    let stream = wire.request().await?;
                    wire.refuse(stream).await?;
                }
                #[allow(unreachable_code)]
                std::io::Result::Ok(())
            });
        }
    });
    let timeouts = Timeouts {
        pool: LIMIT,
        ..Timeouts::default()
    };
    // A token that needs a proof leaves the server time to show its limit before the request is
    // written: then it lies in hyper's queue.
    for token in [jwt("plain", None), fixture.token("a")] {
        let client = client(&fixture, timeouts);
        // The first finds no connection, the second one that has shown its limit.
        for wait in ["no streams, new connection", "no streams, open connection"] {
            let error = fails(wait, fetch(&client, &url, &token)).await;
            assert_names(&error, Step::Pool, "SETTINGS_MAX_CONCURRENT_STREAMS");
            assert!(!error.may_have_been_processed(), "{error}");
        }
        assert!(
            client.stats().connections_opened < 6,
            "{:?}",
            client.stats()
        );
    }
}

/// More requests than the limit, assigned before it was known. 100 is also what hyper is told to
/// assume until the peer's SETTINGS have come; 127 was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_beyond_the_limit_of_streams_get_a_second_connection() {
    for limit in [100, 127] {
        second_connection(limit).await;
    }
}

async fn second_connection(limit: u32) {
    let fixture = Fixture::new();
    let server = RawServer::h2(&fixture.pki).await;
    let client = std::sync::Arc::new(fixture.client());
    let (url, token) = (server.origin(), fixture.token("a"));
    let calls: Vec<_> = (0..limit + 3)
        .map(|_| {
            let (client, url, token) = (client.clone(), url.clone(), token.clone());
            tokio::spawn(async move { fetch(&client, &url, &token).await })
        })
        .collect();
    let settings = [(MAX_STREAMS, limit)];
    let first = soon(server.accept()).await.0;
    let mut first = H2Wire::accept_with(first, &settings).await.unwrap();
    // It answers nothing before the second connection has come.
    let reading = tokio::spawn(async move {
        let mut unanswered = Vec::new();
        while unanswered.len() + 1 < limit as usize {
            unanswered.push(first.request().await.unwrap());
        }
        (first, unanswered)
    });
    let second = soon(server.accept()).await.0;
    let mut second = H2Wire::accept_with(second, &settings).await.unwrap();
    for _ in 0..4 {
        let stream = soon(second.request()).await.unwrap();
        second.answer(stream, false).await.unwrap();
    }
    let (mut first, unanswered) = soon(reading).await.unwrap();
    for stream in unanswered {
        first.answer(stream, false).await.unwrap();
    }
    for call in calls {
        assert_eq!(soon(call).await.unwrap().unwrap().status(), 200);
    }
    assert_eq!(client.stats().connections_opened, 2);
}

/// A limit of 0 that is raised in time is only a delay, whether the request lies in hyper's queue
/// or in the pool's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_become_allowed_are_used_at_once() {
    let fixture = Fixture::new();
    let server = RawServer::h2(&fixture.pki).await;
    let client = std::sync::Arc::new(fixture.client());
    let url = server.origin();
    let call = |name: &str| {
        let (client, url, token) = (client.clone(), url.clone(), fixture.token(name));
        tokio::spawn(async move { fetch(&client, &url, &token).await })
    };
    let first = call("a");
    let settings = [(MAX_STREAMS, 0)];
    let mut wire = H2Wire::accept_with(soon(server.accept()).await.0, &settings)
        .await
        .unwrap();
    let second = call("b");
    // At most one request was sent before the limit came.
    wire.settings(&[(MAX_STREAMS, 10)]).await.unwrap();
    for _ in 0..2 {
        let stream = soon(wire.request()).await.unwrap();
        wire.answer(stream, false).await.unwrap();
    }
    for call in [first, second] {
        assert_eq!(soon(call).await.unwrap().unwrap().status(), 200);
    }
    assert!(client.stats().connections_opened <= 2);
}
