//! Tokens that are replaced while they are in use.

use bowline_http_client::{Cause, ProofKind};
use bowline_testkit::authority::InjectedFault;
use bowline_token::{Authorized, TokenSource};
use futures_util::future::join_all;

use crate::fixture::{Fixture, get_request, ok, successor};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_callers_at_expiry_cost_one_token_request() {
    let fixture = Fixture::new();
    let source = fixture.source(&fixture.client()).build().unwrap();
    let first = source.token().await.unwrap();
    assert_eq!(fixture.authority.token_requests(), 1);
    // The token has expired. The thousand ask while the response is held.
    fixture.clock.advance(601);
    fixture.authority.set_fault(InjectedFault::Hold);
    let callers: Vec<_> = (0..1000)
        .map(|_| {
            let source = source.clone();
            tokio::spawn(async move { source.token().await })
        })
        .collect();
    fixture.authority.held(1).await;
    fixture.authority.set_fault(InjectedFault::None);
    let tokens: Vec<_> = join_all(callers)
        .await
        .into_iter()
        .map(|token| token.unwrap().unwrap())
        .collect();
    assert!(
        tokens
            .iter()
            .all(|token| *token == tokens[0] && *token != first)
    );
    assert_eq!(
        (
            fixture.authority.token_requests(),
            source.counts().requested
        ),
        (2, 2)
    );
}

#[tokio::test]
async fn a_token_replaced_during_a_thousand_calls_costs_one_request_and_one_signature() {
    let fixture = Fixture::new();
    let resource = fixture.resource();
    let client = fixture.client();
    let source = fixture.source_for(&client, resource.origin());
    let agent = Authorized::new(client.clone(), source.clone(), &resource.origin()).unwrap();
    let url = format!("{}/things", resource.origin());
    let call = async || ok(agent.send(get_request(&url)).await.unwrap()).await;

    let first = source.token().await.unwrap();
    for batch in 0..20 {
        if batch == 10 {
            fixture.clock.advance(481); // a fifth of ten minutes before the end
        }
        if batch == 19 {
            successor(&source, &first).await;
        }
        join_all((0..50).map(|_| call())).await;
    }
    let totals = client.stats().totals;
    assert_eq!(fixture.authority.token_requests(), 2);
    assert_eq!(resource.counts().opened, 1);
    assert_eq!(totals.with_proof, 1000);
    assert_eq!(
        totals.minted,
        [(ProofKind::Connection, 2)].into(),
        "one for each token and connection"
    );
    assert_eq!(totals.causes, [(Cause::First, 1), (Cause::Token, 1)].into());
    assert_eq!(
        (
            totals.failed,
            totals.may_have_been_processed,
            totals.refused
        ),
        (0, 0, 0)
    );
}

#[tokio::test]
async fn a_token_is_refreshed_without_a_caller_waiting_for_the_authorization_server() {
    let fixture = Fixture::new();
    let source = fixture.source(&fixture.client()).build().unwrap();
    let first = source.token().await.unwrap();
    fixture.clock.advance(481);
    fixture.authority.set_fault(InjectedFault::Hold);
    for _ in 0..100 {
        assert_eq!(source.token().await.unwrap(), first);
    }
    fixture.authority.held(1).await;
    assert_eq!(source.token().await.unwrap(), first);
    fixture.authority.set_fault(InjectedFault::None);
    successor(&source, &first).await;
    assert_eq!(fixture.authority.token_requests(), 2);
}

#[tokio::test]
async fn sources_that_share_an_authorization_server_share_its_metadata() {
    let fixture = Fixture::new();
    let client = fixture.client();
    let settings = fixture.source(&client);
    let sources: Vec<_> = (0..20)
        .map(|n| settings.clone().scope(format!("s{n}")).build().unwrap())
        .collect();
    for token in join_all(sources.iter().map(|source| source.token())).await {
        token.unwrap();
    }
    // 20 token requests, and one for the metadata.
    assert_eq!(
        (
            fixture.authority.token_requests(),
            client.stats().totals.requests
        ),
        (20, 21)
    );
}
