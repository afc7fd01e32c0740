//! Proofs are made below reqwest, once per connection and for that connection.

use bowline_http_client::ProofScope;
use bowline_reqwest::Transport;
use bowline_testkit::peers::{Cycle, CyclingOptions, CyclingServer};
use bowline_testkit::tls::Alpn;
use futures_util::future::{join, join_all};
use reqwest::{Certificate, Identity, StatusCode};
use reqwest_middleware::ClientBuilder;

use crate::fixture::Fixture;
use crate::middleware::twice;

#[tokio::test]
async fn reqwest_itself_is_refused_without_a_proof() {
    // The control for the other tests: same certificate, same token.
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let pair = format!("{}{}", fixture.agent.chain_pem(), fixture.agent.key_pem());
    let reqwest = reqwest::Client::builder()
        .tls_certs_only([Certificate::from_pem(fixture.pki.ca_pem().as_bytes()).unwrap()])
        .identity(Identity::from_pem(pair.as_bytes()).unwrap())
        .no_proxy()
        .build()
        .unwrap();
    let url = format!("{}/nothing", server.origin());

    let refused = reqwest.execute(fixture.get(&url)).await.unwrap();
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    let challenge = refused.headers()["www-authenticate"].to_str().unwrap();
    assert!(challenge.contains("use_session_binding"), "{challenge}");

    let answered = fixture
        .transport()
        .execute(fixture.get(&url))
        .await
        .unwrap();
    assert_eq!(answered.status(), StatusCode::NO_CONTENT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_proof_is_signed_for_a_hundred_concurrent_requests_direct_and_through_a_stack() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let client = fixture.client();
    let transport = Transport::new(client.clone());
    let stack = ClientBuilder::new(reqwest::Client::new())
        .with(transport.clone())
        .build();

    let url = format!("{}/nothing", server.origin());
    let direct = join_all((0..50).map(|_| transport.execute(fixture.get(&url))));
    let stacked = join_all((0..50).map(|_| stack.execute(fixture.get(&url))));
    let (direct, stacked) = join(direct, stacked).await;

    let mut responses: Vec<_> = direct.into_iter().map(Result::unwrap).collect();
    responses.extend(stacked.into_iter().map(Result::unwrap));
    assert!(
        responses
            .iter()
            .all(|response| response.status() == StatusCode::NO_CONTENT)
    );
    let totals = client.stats().totals;
    assert_eq!(
        (totals.requests, totals.with_proof, totals.signatures()),
        (100, 100, 1)
    );
    let mut proofs = fixture.log.proofs();
    assert_eq!(proofs.len(), 100);
    proofs.dedup();
    assert_eq!(proofs.len(), 1);
}

#[tokio::test]
async fn a_request_sent_again_on_another_connection_has_a_proof_for_that_one() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions {
        cycle: Cycle {
            max_responses: Some(1),
            ..Cycle::default()
        },
        alpn: Alpn::Http1,
        ..CyclingOptions::default()
    });

    get_twice(&fixture, fixture.transport(), &server).await;

    let seen = fixture.log.all();
    assert_eq!(seen.len(), 2);
    assert_ne!(seen[0].connection, seen[1].connection);
    let proofs = fixture.log.proofs();
    assert_ne!(proofs[0], proofs[1]);
}

#[tokio::test]
async fn a_proof_for_one_request_is_not_sent_again_with_it() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let transport = fixture.transport_with(|builder| builder.proof_scope(ProofScope::Request));

    get_twice(&fixture, transport, &server).await;

    let (seen, proofs) = (fixture.log.all(), fixture.log.proofs());
    assert_eq!(proofs.len(), 2);
    assert_eq!(seen[0].connection, seen[1].connection);
    assert_ne!(proofs[0], proofs[1]);
}

/// Sends one request through a stack that sends it twice.
async fn get_twice(fixture: &Fixture, transport: Transport, server: &CyclingServer) {
    let stack = ClientBuilder::new(reqwest::Client::new())
        .with(twice)
        .with(transport)
        .build();
    let url = format!("{}/nothing", server.origin());
    let response = stack.execute(fixture.get(url)).await.unwrap();
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
}
