//! More access tokens than something is kept of: the bounds of [`Limits`], and what one more costs.

use crate::fixture::{Fixture, ok, text};
use bowline_http_client::{AccessToken, Client, Limits};
use bowline_testkit::peers::CyclingOptions;
use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::Full;

fn limited(fixture: &Fixture, set: impl FnOnce(&mut Limits)) -> Client {
    let mut limits = Limits::default();
    set(&mut limits);
    let client = fixture.builder().limits(limits).build();
    client.expect("a usable configuration")
}

fn tokens(fixture: &Fixture, number: usize) -> Vec<AccessToken> {
    (0..number).map(|n| fixture.token(&n.to_string())).collect()
}

/// Sends a request with each token, in turn.
async fn all(client: &Client, url: &str, tokens: &[AccessToken]) {
    for some in tokens.chunks(20) {
        join_all(some.iter().map(|token| ok(client, url, token))).await;
    }
}

/// With the least recently used proof dropped, each request would need a signature.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_token_more_than_the_default_bound_in_turn_signs_for_one_request_in_a_hundred_at_most()
{
    let fixture = Fixture::new();
    let server = fixture.unprotected(CyclingOptions::default());
    let (client, url) = (fixture.client(), server.origin());
    let tokens = tokens(&fixture, Limits::default().proofs_per_connection + 1);
    assert_eq!(tokens.len(), 10_001);
    all(&client, &url, &tokens).await;
    assert_eq!(client.stats().totals.signatures(), 10_001);

    all(&client, &url, &tokens).await;

    let signed = client.stats().totals.signatures() - 10_001;
    assert!(signed <= 100, "{signed} signatures for 10,001 requests");
    // What left as bytes says the same.
    assert_eq!(fixture.requests.all().len(), 20_002);
    let proofs = fixture.requests.proofs().len() as u64;
    assert_eq!(proofs, client.stats().totals.signatures());
    assert_eq!(server.counts().opened, 1);
}

#[tokio::test]
async fn how_many_proofs_a_connection_keeps_is_a_setting() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    for (bound, signatures) in [(0, 8), (1, 8), (2, 2)] {
        let client = limited(&fixture, |limits| limits.proofs_per_connection = bound);
        for token in tokens(&fixture, 2).iter().cycle().take(8) {
            ok(&client, &server.origin(), token).await;
        }
        let signed = client.stats().totals.signatures();
        assert_eq!(signed, signatures, "a bound of {bound}");
    }
}

#[tokio::test]
async fn of_how_many_tokens_an_origin_remembers_a_challenge_is_a_setting() {
    for (bound, sent) in [(1, 16), (2, 10)] {
        let fixture = Fixture::new();
        let server = fixture.server(CyclingOptions::default());
        let client = limited(&fixture, |limits| limits.tokens_per_origin = bound);
        let opaque = ["one", "two"].map(|token| AccessToken::new(token).unwrap());
        for token in opaque.iter().cycle().take(8) {
            ok(&client, &server.origin(), token).await;
        }
        // One that is forgotten is refused and sent once more.
        let received = fixture.requests.all().len();
        assert_eq!(received, sent, "a bound of {bound}");
    }
}

#[tokio::test]
async fn tokens_in_fields_take_turns_beyond_any_bound_and_each_goes_with_its_own_proof() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    for bound in [0, 1, 3, 100] {
        let client = limited(&fixture, |limits| limits.recent_tokens = bound);
        for token in tokens(&fixture, 5).iter().cycle().take(20) {
            let request = http::Request::get(server.origin())
                .header("authorization", format!("bearer {}", token.secret()))
                .body(Full::new(Bytes::new()))
                .unwrap();
            let response = client.send(request).await.unwrap();
            assert_eq!(response.status(), 200);
            assert_eq!(text(response).await, "ok:");
        }
        assert_eq!(client.stats().totals.signatures(), 5, "a bound of {bound}");
    }
}
