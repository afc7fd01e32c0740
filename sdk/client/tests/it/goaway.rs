//! GOAWAY (CL-7; RFC 9113 §6.8): a request that the server did not process is sent again; one that
//! it accepted and then dropped may have been processed. `tests/chaos/retirements.rs` shows it
//! under load.

use std::pin::pin;
use std::sync::Arc;

use bowline_http_client::{ErrorKind, Limits};
use bowline_testkit::peers::H2Wire;
use futures_util::future::{Either, join_all, select};

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

/// A9, CL-7: an idempotent request was written and not answered, its second sending was turned away
/// unprocessed, and its caller gives up while it waits for a third connection. The first sending may
/// have been processed all the same.
#[tokio::test]
async fn a_cancelled_request_whose_first_sending_was_not_answered_may_have_been_processed() {
    let fixture = Fixture::new();
    let server = RawServer::h2(&fixture.pki).await;
    let client = fixture.client();
    let (url, token) = (server.origin(), fixture.token("a"));
    let serve = async {
        let mut first = H2Wire::accept(server.accept().await.0).await.unwrap();
        first.request().await.unwrap();
        drop(first);
        let mut second = H2Wire::accept(server.accept().await.0).await.unwrap();
        second.request().await.unwrap();
        second.goaway(0).await.unwrap();
        drop(second);
        // The third never gets a handshake.
        server.accept_tcp().await
    };
    {
        let call = pin!(fetch(&client, &url, &token));
        match soon(select(call, pin!(serve))).await {
            Either::Left((result, _)) => panic!("nobody answers it: {result:?}"),
            Either::Right(_) => {}
        }
    }
    let totals = client.stats().totals;
    assert_eq!((totals.requests, totals.may_have_been_processed), (1, 1));
}

/// B9: a peer that answers the first stream of each connection and sends the others away lets a
/// request that is never the first lose without end, unless all losses count.
#[tokio::test]
async fn a_request_is_not_turned_away_without_end() {
    const CALLS: u32 = 160;
    let fixture = Fixture::new();
    let server = RawServer::h2(&fixture.pki).await;
    let mut limits = Limits::default();
    limits.per_origin = 1;
    let client = fixture.builder().limits(limits).build().unwrap();
    let (url, token) = (server.origin(), fixture.token("a"));
    let serve = async {
        loop {
            let mut peer = H2Wire::accept(server.accept().await.0).await.unwrap();
            let first = peer.request().await.unwrap();
            peer.answer(first, false).await.unwrap();
            let _ = peer.goaway(first).await;
            // A socket that is closed with bytes unread would take the GOAWAY along.
            tokio::spawn(async move { while peer.request().await.is_ok() {} });
        }
    };
    let calls = join_all((0..CALLS).map(|_| fetch(&client, &url, &token)));
    let results = match select(pin!(calls), pin!(serve)).await {
        Either::Left((results, _)) => results,
        Either::Right(_) => unreachable!(),
    };
    let errors: Vec<_> = results.into_iter().filter_map(Result::err).collect();
    assert!(!errors.is_empty(), "one of {CALLS} lost more than 64 times");
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::ConnectionLost, "{error}");
        assert!(error.to_string().contains("64 times"), "{error}");
        assert!(!error.may_have_been_processed());
    }
}
