//! GOAWAY (CL-7; RFC 9113 §6.8): a request that the server did not process is sent again; one that
//! it accepted and then dropped may have been processed. `tests/chaos/retirements.rs` shows it
//! under load.

use std::sync::Arc;

use bowline_http_client::{ErrorKind, Limits};
use bowline_testkit::peers::H2Wire;

use crate::fixture::raw_server::RawServer;
use crate::fixture::slow_key::soon;
use crate::fixture::{Fixture, post, text};

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
