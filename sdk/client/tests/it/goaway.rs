//! GOAWAY (CL-7; RFC 9113 §6.8): a request that the server did not process is sent again; one that
//! it accepted and then dropped may have been processed. `tests/chaos/retirements.rs` shows it
//! under load.

use std::sync::Arc;

use bowline_http_client::{ErrorKind, Limits};
use bowline_testkit::peers::H2Wire;
use futures_util::future::join_all;

use crate::fixture::raw_server::RawServer;
use crate::fixture::slow_key::soon;
use crate::fixture::{Fixture, fetch, post, text};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_above_goaways_last_id_is_sent_again_and_one_below_may_have_been_processed() {
    let fixture = Fixture::new();
    let server = RawServer::h2(&fixture.pki).await;
    // One connection at a time, so that the second request shares it with the first.
    let mut limits = Limits::default();
    limits.per_origin = 1;
    let client = Arc::new(fixture.builder().limits(limits).build().unwrap());
    let (url, token) = (server.origin(), fixture.token("a"));
    let call = |body: &'static str| {
        let (client, url, token) = (client.clone(), url.clone(), token.clone());
        tokio::spawn(async move { post(&client, &url, &token, body).await })
    };

    let accepted = call("accepted");
    let mut first = H2Wire::accept(server.accept().await.0).await.unwrap();
    let last = first.request().await.unwrap();
    let above = call("not accepted");
    assert!(first.request().await.unwrap() > last);
    first.goaway(last).await.unwrap();

    let mut second = H2Wire::accept(soon(server.accept()).await.0).await.unwrap();
    let stream = second.request().await.unwrap();
    second.answer(stream, false).await.unwrap();
    let answer = soon(above).await.unwrap().expect("it was sent again");
    assert_eq!(text(answer).await, "");

    assert!(!accepted.is_finished(), "the server may still answer it");
    drop(first);
    let error = soon(accepted).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MayHaveBeenProcessed, "{error}");
    let totals = client.stats().totals;
    assert_eq!((totals.answered, totals.may_have_been_processed), (1, 1));
    assert_eq!(totals.signatures(), 2, "one for each connection");
}

/// A9: a request is abandoned after one attempt that may have been processed, and another that was
/// not. The first decides how it is counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abandoned_request_is_counted_by_its_first_unanswered_attempt() {
    let fixture = Fixture::new();
    let server = RawServer::h2(&fixture.pki).await;
    let client = Arc::new(fixture.client());
    let (url, token) = (server.origin(), fixture.token("a"));
    let call = {
        let client = client.clone();
        tokio::spawn(async move { fetch(&client, &url, &token).await })
    };

    let mut unanswered = H2Wire::accept(server.accept().await.0).await.unwrap();
    unanswered.request().await.unwrap();
    drop(unanswered);

    let mut turned_away = H2Wire::accept(soon(server.accept()).await.0).await.unwrap();
    turned_away.request().await.unwrap();
    turned_away.goaway(0).await.unwrap();

    // The third attempt waits for a connection, whose handshake nothing answers.
    let third = soon(server.accept_tcp()).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    drop((turned_away, third));
    let totals = client.stats().totals;
    assert_eq!((totals.may_have_been_processed, totals.failed), (1, 0));
}

/// B9: a server that answers the first stream of each connection and turns all others away. A
/// request that is never the first ends all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_always_turned_away_from_used_connections_fails_in_the_end() {
    const CALLS: usize = 64;
    let fixture = Fixture::new();
    let server = RawServer::h2(&fixture.pki).await;
    let mut limits = Limits::default();
    limits.per_origin = 1;
    let client = fixture.builder().limits(limits).build().unwrap();
    let (url, token) = (server.origin(), fixture.token("a"));
    let calls = join_all((0..CALLS).map(|_| fetch(&client, &url, &token)));
    let serve = async {
        // Held, since the close of a socket with unread requests would reset the connection.
        let mut peers = Vec::new();
        loop {
            let mut peer = H2Wire::accept(server.accept().await.0).await.unwrap();
            let first = peer.request().await.unwrap();
            peer.goaway(first).await.unwrap();
            peer.answer(first, false).await.unwrap();
            peers.push(peer);
        }
    };
    let results = tokio::select! {
        results = soon(calls) => results,
        () = serve => unreachable!("it serves for ever"),
    };
    let errors: Vec<_> = results.into_iter().filter_map(Result::err).collect();
    assert!(
        errors.iter().all(|e| e.kind() == ErrorKind::ConnectionLost),
        "{errors:?}"
    );
    // Fewer calls are answered than there were rounds, and one of the others was in all of them.
    assert!(
        errors.iter().any(|e| e.to_string().contains("32 times")),
        "{errors:?}"
    );
}
