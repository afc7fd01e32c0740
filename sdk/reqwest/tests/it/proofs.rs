//! Proofs are made below reqwest: once per connection, and for the connection that carries them.

use bowline_client::ProofScope;
use bowline_reqwest::Transport;
use bowline_testkit::peers::{Cycle, CyclingOptions};
use bowline_testkit::tls::Alpn;
use futures_util::future::{join, join_all};
use reqwest::{Certificate, Identity, StatusCode};
use reqwest_middleware::ClientBuilder;

use crate::house::House;
use crate::middleware::Twice;

#[tokio::test]
async fn reqwest_itself_is_turned_away_for_want_of_a_proof() {
    // What makes the other tests show something: same certificate, same token.
    let house = House::new();
    let server = house.server(CyclingOptions::default());
    let pair = format!("{}{}", house.agent.chain_pem(), house.agent.key_pem());
    let reqwest = reqwest::Client::builder()
        .tls_certs_only([Certificate::from_pem(house.pki.ca_pem().as_bytes()).unwrap()])
        .identity(Identity::from_pem(pair.as_bytes()).unwrap())
        .no_proxy()
        .build()
        .unwrap();
    let url = format!("{}/nothing", server.origin());

    let refused = reqwest.execute(house.get(&url)).await.unwrap();
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    let challenge = refused.headers()["www-authenticate"].to_str().unwrap();
    assert!(challenge.contains("use_session_binding"), "{challenge}");

    let answered = house.transport().execute(house.get(&url)).await.unwrap();
    assert_eq!(answered.status(), StatusCode::NO_CONTENT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_proof_is_signed_for_a_hundred_concurrent_requests_of_either_face() {
    let house = House::new();
    let server = house.server(CyclingOptions::default());
    let client = house.client();
    let transport = Transport::new(client.clone());
    let stack = ClientBuilder::new(reqwest::Client::new())
        .with(transport.clone())
        .build();

    let url = format!("{}/nothing", server.origin());
    let direct = join_all((0..50).map(|_| transport.execute(house.get(&url))));
    let stacked = join_all((0..50).map(|_| stack.execute(house.get(&url))));
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
    let mut proofs = house.seen.proofs();
    assert_eq!(proofs.len(), 100);
    proofs.dedup();
    assert_eq!(proofs.len(), 1);
}

#[tokio::test]
async fn a_request_sent_again_on_another_connection_has_a_proof_for_that_one() {
    let house = House::new();
    let server = house.server(CyclingOptions {
        cycle: Cycle {
            max_responses: Some(1),
            ..Cycle::default()
        },
        alpn: Alpn::Http1,
        ..CyclingOptions::default()
    });
    let stack = ClientBuilder::new(reqwest::Client::new())
        .with(Twice)
        .with(house.transport())
        .build();

    let response = stack
        .execute(house.get(format!("{}/nothing", server.origin())))
        .await
        .unwrap();

    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    let seen = house.seen.all();
    assert_eq!(seen.len(), 2);
    assert_ne!(seen[0].connection, seen[1].connection);
    let proofs = house.seen.proofs();
    assert_ne!(proofs[0], proofs[1]);
}

#[tokio::test]
async fn a_proof_for_one_request_is_not_sent_again_with_it() {
    let house = House::new();
    let server = house.server(CyclingOptions::default());
    let client = house
        .builder()
        .proof_scope(ProofScope::Request)
        .build()
        .unwrap();
    let stack = ClientBuilder::new(reqwest::Client::new())
        .with(Twice)
        .with(Transport::new(client))
        .build();

    let response = stack
        .execute(house.get(format!("{}/nothing", server.origin())))
        .await
        .unwrap();

    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    let (seen, proofs) = (house.seen.all(), house.seen.proofs());
    assert_eq!(proofs.len(), 2);
    assert_eq!(seen[0].connection, seen[1].connection);
    assert_ne!(proofs[0], proofs[1]);
}
