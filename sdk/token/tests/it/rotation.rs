//! Tokens that are replaced while they are used.

use bowline_client::{Cause, ProofKind};
use bowline_testkit::authority::InjectedFault;
use bowline_token::{Authorized, TokenSource};
use futures_util::future::join_all;

use crate::lab::{Lab, get_request, ok, successor};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_callers_at_expiry_cost_one_token_request() {
    let lab = Lab::new();
    let source = lab.source(&lab.client()).build().unwrap();
    let first = source.token().await.unwrap();
    assert_eq!(lab.authority.token_requests(), 1);
    // Past its end. The thousand come while the answer is being held.
    lab.hands.advance(601);
    lab.authority.set_fault(InjectedFault::Hold);
    let callers: Vec<_> = (0..1000)
        .map(|_| {
            let source = source.clone();
            tokio::spawn(async move { source.token().await })
        })
        .collect();
    lab.authority.held(1).await;
    lab.authority.set_fault(InjectedFault::None);
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
        (lab.authority.token_requests(), source.counts().requested),
        (2, 2)
    );
}

#[tokio::test]
async fn a_token_rotated_during_a_thousand_calls_costs_one_request_and_one_signature_and_no_call() {
    let lab = Lab::new();
    let resource = lab.resource();
    let client = lab.client();
    let source = lab
        .source(&client)
        .resource(resource.origin())
        .build()
        .unwrap();
    let agent = Authorized::new(client.clone(), source.clone(), &resource.origin()).unwrap();
    let url = format!("{}/things", resource.origin());
    let call = async || ok(agent.send(get_request(&url)).await.unwrap()).await;

    let first = source.token().await.unwrap();
    for batch in 0..20 {
        if batch == 10 {
            lab.hands.advance(481); // a fifth of ten minutes ahead
        }
        if batch == 19 {
            successor(&source, &first).await;
        }
        join_all((0..50).map(|_| call())).await;
    }
    let totals = client.stats().totals;
    assert_eq!(lab.authority.token_requests(), 2);
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
async fn a_due_token_is_replaced_without_anybody_waiting_for_the_authorization_server() {
    let lab = Lab::new();
    let source = lab.source(&lab.client()).build().unwrap();
    let first = source.token().await.unwrap();
    lab.hands.advance(481);
    lab.authority.set_fault(InjectedFault::Hold);
    for _ in 0..100 {
        assert_eq!(source.token().await.unwrap(), first);
    }
    lab.authority.held(1).await;
    assert_eq!(source.token().await.unwrap(), first);
    lab.authority.set_fault(InjectedFault::None);
    successor(&source, &first).await;
    assert_eq!(lab.authority.token_requests(), 2);
}

#[tokio::test]
async fn sources_that_share_an_authorization_server_share_what_was_found_out_about_it() {
    let lab = Lab::new();
    let client = lab.client();
    let settings = lab.source(&client);
    let sources: Vec<_> = (0..20)
        .map(|n| settings.clone().scope(format!("s{n}")).build().unwrap())
        .collect();
    for token in join_all(sources.iter().map(|source| source.token())).await {
        token.unwrap();
    }
    // 20 token requests, and one for the metadata.
    assert_eq!(
        (
            lab.authority.token_requests(),
            client.stats().totals.requests
        ),
        (20, 21)
    );
}
