//! The authorization server fails, hangs, or is overloaded.

use std::time::Duration;

use bowline_testkit::authority::{AuthorityOptions, InjectedFault};
use bowline_token::{
    AuthorizationServer, ClientAuthentication, ErrorKind, Fault, OAuth, TokenSource,
};
use futures_util::future::join_all;

use crate::fixture::{Fixture, successor};

/// Tokens live for a minute: they are refreshed after half of it, and stale in the last five
/// seconds.
fn fixture() -> Fixture {
    Fixture::with(AuthorityOptions {
        lifetime: Duration::from_secs(60),
        ..AuthorityOptions::default()
    })
}

/// Ten seconds of the agent's clock, with 100 callers in each; waits for the requests that they
/// started.
async fn ten_seconds(
    fixture: &Fixture,
    source: &OAuth,
) -> Vec<Result<bowline_token::Token, bowline_token::Error>> {
    let mut answers = Vec::new();
    for _ in 0..10 {
        let before = source.counts();
        answers.extend(join_all((0..100).map(|_| source.token())).await);
        if source.counts().requested > before.requested {
            settled(source).await;
        }
        fixture.clock.advance(1);
    }
    answers
}

/// Waits until the requests under way have failed.
async fn settled(source: &OAuth) {
    let waiting = async {
        while source.counts().failed < source.counts().requested - 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_valid_token_is_returned_through_ten_seconds_of_outage() {
    let fixture = fixture();
    let source = fixture.source(&fixture.client()).build().unwrap();
    let first = source.token().await.unwrap();
    fixture.clock.advance(31);
    fixture.authority.set_fault(InjectedFault::Down);
    let answers = ten_seconds(&fixture, &source).await;
    assert_eq!(answers.len(), 1000);
    assert!(answers.into_iter().all(|answer| answer.unwrap() == first));
    // Attempts at 0, 1, 3 and 7 s. Each is sent twice, because the connection ended before a
    // response came.
    assert_eq!(source.counts().requested, 1 + 4);
    assert_eq!(fixture.authority.token_requests(), 1 + 4 * 2);
    fixture.authority.set_fault(InjectedFault::None);
    fixture.clock.advance(8);
    successor(&source, &first).await;
}

#[tokio::test]
async fn without_a_valid_token_ten_seconds_of_outage_give_one_error_and_few_requests() {
    let fixture = fixture();
    let source = fixture.source(&fixture.client()).build().unwrap();
    source.token().await.unwrap();
    fixture.clock.advance(61);
    fixture.authority.set_fault(InjectedFault::Down);
    let answers = ten_seconds(&fixture, &source).await;
    let errors: Vec<_> = answers
        .into_iter()
        .map(|answer| answer.unwrap_err())
        .collect();
    assert_eq!(errors.len(), 1000);
    for error in &errors {
        assert_eq!(
            (error.kind(), error.fault()),
            (ErrorKind::Unavailable, Fault::Network)
        );
        assert!(error.is_worth_another_try());
        assert_eq!(error.to_string(), errors[0].to_string());
        assert!(
            error
                .to_string()
                .contains(&fixture.authority.mtls_token_url()),
            "{error}"
        );
    }
    assert_eq!(fixture.authority.token_requests(), 1 + 4 * 2);
    fixture.authority.set_fault(InjectedFault::None);
    fixture.clock.advance(8);
    source.token().await.unwrap();
}

#[tokio::test]
async fn retry_after_of_the_authorization_server_is_waited_for() {
    let fixture = fixture();
    let source = fixture.source(&fixture.client()).build().unwrap();
    source.token().await.unwrap();
    fixture.clock.advance(61);
    fixture
        .authority
        .set_fault(InjectedFault::Unavailable { retry_after: 20 });
    let error = source.token().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.retry_after()),
        (ErrorKind::Unavailable, Some(Duration::from_secs(20)))
    );
    assert!(error.to_string().contains("503"), "{error}");
    fixture.authority.set_fault(InjectedFault::None);
    fixture.clock.advance(18);
    source.token().await.unwrap_err();
    assert_eq!(fixture.authority.token_requests(), 2);
    fixture.clock.advance(2);
    source.token().await.unwrap();
}

#[tokio::test]
async fn a_request_without_an_answer_fails_after_the_time_out() {
    let fixture = fixture();
    let settings = fixture
        .source(&fixture.client())
        .timeout(Duration::from_millis(50));
    // Discovery, then the token endpoint: both are held.
    fixture.authority.set_fault(InjectedFault::Hold);
    let source = settings.clone().build().unwrap();
    let error = source.token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("within 50ms"), "{error}");

    let endpoint = AuthorizationServer::token_endpoint(fixture.authority.mtls_token_url());
    let source = OAuth::builder(
        fixture.client(),
        endpoint,
        ClientAuthentication::tls("agent"),
    )
    .timeout(Duration::from_millis(50))
    .build()
    .unwrap();
    let error = source.token().await.unwrap_err();
    let url = fixture.authority.mtls_token_url();
    let said = format!("the authorization server ({url}) did not answer within 50ms");
    assert_eq!(error.to_string(), said);
}

#[tokio::test]
async fn an_answer_that_is_not_json_and_one_without_end_are_errors_of_the_peer() {
    let fixture = fixture();
    let source = fixture.source(&fixture.client()).build().unwrap();
    source.token().await.unwrap();
    fixture.clock.advance(61);
    for (fault, what) in [
        (InjectedFault::Garbage, "something else than a JSON object"),
        (InjectedFault::Endless, "more than"),
    ] {
        fixture.authority.set_fault(fault);
        let error = source.token().await.unwrap_err();
        assert_eq!(
            (error.kind(), error.fault()),
            (ErrorKind::Protocol, Fault::Peer)
        );
        assert!(error.to_string().contains(what), "{error}");
        fixture.clock.advance(5);
    }
}

/// An authorization server may let a subject token or an actor's token be used once: an exchange
/// that may have been processed is not sent again on the client's own account (CL-7).
#[tokio::test]
async fn an_exchange_that_may_have_been_processed_is_not_sent_again() {
    let fixture = fixture();
    let client = fixture.client();
    let subject = fixture.source(&client).build().unwrap();
    subject.token().await.unwrap();
    let settings = || {
        let endpoint = AuthorizationServer::token_endpoint(fixture.authority.mtls_token_url());
        OAuth::builder(client.clone(), endpoint, ClientAuthentication::tls("agent"))
            .exchange(subject.clone())
    };
    fixture.authority.set_fault(InjectedFault::Down);
    for exchange in [settings(), settings().actor(subject.clone())] {
        let before = fixture.authority.token_requests();
        let error = exchange.build().unwrap().token().await.unwrap_err();
        assert_eq!(fixture.authority.token_requests() - before, 1, "{error}");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(
            error.client().map(bowline_http_client::Error::kind),
            Some(bowline_http_client::ErrorKind::MayHaveBeenProcessed)
        );
    }
}
