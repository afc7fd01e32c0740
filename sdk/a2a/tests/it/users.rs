//! A hundred users, each with their own token, over one HTTP/2 connection: a signature for each
//! user, whatever the binding and however the tokens come.

use std::time::Duration;

use a2a::{GetTaskRequest, error_code};
use a2a_client::{ServiceParams, Transport};
use bowline_a2a::Error;
use bowline_testkit::a2a::card;
use futures_util::future::join_all;

use crate::binding::Binding;
use crate::fixture::Fixture;

const USERS: usize = 100;
const CALLS: usize = 100;

/// Where a user's token is.
#[derive(Clone, Copy, Debug)]
enum Tokens {
    /// In each call's service parameters, over one transport for all.
    InCalls,
    /// In a transport of their own.
    InTransports,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_users_cost_a_hundred_signatures_for_ten_thousand_calls_over_json_rpc() {
    ten_thousand_calls(Binding::JsonRpc, Tokens::InCalls).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_users_with_transports_of_their_own_cost_a_hundred_signatures_over_json_rpc() {
    ten_thousand_calls(Binding::JsonRpc, Tokens::InTransports).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_users_cost_a_hundred_signatures_for_ten_thousand_calls_over_http_json() {
    ten_thousand_calls(Binding::HttpJson, Tokens::InCalls).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_users_cost_a_hundred_signatures_for_ten_thousand_calls_over_grpc() {
    ten_thousand_calls(Binding::Grpc, Tokens::InCalls).await;
}

async fn ten_thousand_calls(binding: Binding, tokens: Tokens) {
    let fixture = Fixture::open();
    let client = fixture.client();
    let card = card(&fixture.server.origin());
    let shared = binding
        .create(&fixture.transports(&client), &card)
        .await
        .unwrap();
    let users = (0..USERS).map(|user| {
        let (client, card, shared, fixture) = (&client, &card, &shared, &fixture);
        async move {
            let token = fixture.token(&format!("user {user}"));
            match tokens {
                Tokens::InCalls => {
                    let bearer = format!("Bearer {}", token.secret());
                    calls(
                        &**shared,
                        &ServiceParams::from([("Authorization".to_owned(), vec![bearer])]),
                    )
                    .await;
                }
                Tokens::InTransports => {
                    let transports = fixture.transports(client).token(token);
                    let transport = binding.create(&transports, card).await.unwrap();
                    calls(&*transport, &ServiceParams::new()).await;
                }
            }
        }
    });
    let all = tokio::time::timeout(Duration::from_secs(300), join_all(users));
    all.await.expect("a guard against hanging");
    let stats = client.stats();
    assert_eq!(stats.connections_opened, 1);
    assert_eq!(stats.totals.requests, (USERS * CALLS) as u64);
    assert_eq!(stats.totals.with_proof, stats.totals.requests);
    assert_eq!(stats.totals.signatures(), USERS as u64);
    assert_eq!(fixture.proofs().len(), USERS);
    assert_eq!(fixture.server.counts().requests, stats.totals.requests);
}

/// One after the other.
async fn calls(transport: &dyn Transport, params: &ServiceParams) {
    for _ in 0..CALLS {
        let request = GetTaskRequest {
            id: "t".to_owned(),
            history_length: None,
            tenant: None,
        };
        let error = transport.get_task(params, &request).await.unwrap_err();
        assert_eq!(
            (error.code, Error::from_a2a(&error)),
            (error_code::TASK_NOT_FOUND, None)
        );
    }
}
