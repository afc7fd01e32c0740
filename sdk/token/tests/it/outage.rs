//! The authorization server has a bad day.

use std::time::Duration;

use bowline_testkit::authority::{AuthorityOptions, InjectedFault};
use bowline_token::{
    AuthorizationServer, ClientAuthentication, ErrorKind, Fault, OAuth, TokenSource,
};
use futures_util::future::join_all;

use crate::lab::{Lab, successor};

/// A minute of life: due after half of it, late in its last five seconds.
fn lab() -> Lab {
    Lab::with(AuthorityOptions {
        lifetime: Duration::from_secs(60),
        ..AuthorityOptions::default()
    })
}

/// Ten seconds of the agent's clock, with 100 callers in each, and all that they started brought to
/// its end.
async fn ten_seconds(
    lab: &Lab,
    source: &OAuth,
) -> Vec<Result<bowline_token::Token, bowline_token::Error>> {
    let mut answers = Vec::new();
    for _ in 0..10 {
        let before = source.counts();
        answers.extend(join_all((0..100).map(|_| source.token())).await);
        if source.counts().requested > before.requested {
            settled(source).await;
        }
        lab.hands.advance(1);
    }
    answers
}

/// Until what is under way has failed.
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
async fn ten_seconds_down_are_not_noticed_by_those_who_have_a_valid_token() {
    let lab = lab();
    let source = lab.source(&lab.client()).build().unwrap();
    let first = source.token().await.unwrap();
    lab.hands.advance(31);
    lab.authority.set_fault(InjectedFault::Down);
    let answers = ten_seconds(&lab, &source).await;
    assert_eq!(answers.len(), 1000);
    assert!(answers.into_iter().all(|answer| answer.unwrap() == first));
    // Tried at 0, 1, 3 and 7 s; each try is one request, and one more because nobody knows what
    // became of the first.
    assert_eq!(source.counts().requested, 1 + 4);
    assert_eq!(lab.authority.token_requests(), 1 + 4 * 2);
    lab.authority.set_fault(InjectedFault::None);
    lab.hands.advance(8);
    successor(&source, &first).await;
}

#[tokio::test]
async fn ten_seconds_down_are_one_precise_error_for_those_who_have_none_and_no_stampede() {
    let lab = lab();
    let source = lab.source(&lab.client()).build().unwrap();
    source.token().await.unwrap();
    lab.hands.advance(61);
    lab.authority.set_fault(InjectedFault::Down);
    let answers = ten_seconds(&lab, &source).await;
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
            error.to_string().contains(&lab.authority.mtls_token_url()),
            "{error}"
        );
    }
    assert_eq!(lab.authority.token_requests(), 1 + 4 * 2);
    lab.authority.set_fault(InjectedFault::None);
    lab.hands.advance(8);
    source.token().await.unwrap();
}

#[tokio::test]
async fn a_server_that_says_when_to_come_again_is_not_asked_before() {
    let lab = lab();
    let source = lab.source(&lab.client()).build().unwrap();
    source.token().await.unwrap();
    lab.hands.advance(61);
    lab.authority
        .set_fault(InjectedFault::Unavailable { retry_after: 20 });
    let error = source.token().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.retry_after()),
        (ErrorKind::Unavailable, Some(Duration::from_secs(20)))
    );
    assert!(error.to_string().contains("503"), "{error}");
    lab.authority.set_fault(InjectedFault::None);
    lab.hands.advance(18);
    source.token().await.unwrap_err();
    assert_eq!(lab.authority.token_requests(), 2);
    lab.hands.advance(2);
    source.token().await.unwrap();
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up_after_the_time_out() {
    let lab = lab();
    let settings = lab.source(&lab.client()).timeout(Duration::from_millis(50));
    // Discovery, then the token endpoint: both are held.
    lab.authority.set_fault(InjectedFault::Hold);
    let source = settings.clone().build().unwrap();
    let error = source.token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("within 50ms"), "{error}");

    let endpoint = AuthorizationServer::token_endpoint(lab.authority.mtls_token_url());
    let source = OAuth::builder(lab.client(), endpoint, ClientAuthentication::tls("agent"))
        .timeout(Duration::from_millis(50))
        .build()
        .unwrap();
    let error = source.token().await.unwrap_err();
    let url = lab.authority.mtls_token_url();
    let said = format!("the authorization server ({url}) did not answer within 50ms");
    assert_eq!(error.to_string(), said);
}

#[tokio::test]
async fn a_server_that_speaks_no_json_and_one_that_never_stops_are_told_from_one_that_is_down() {
    let lab = lab();
    let source = lab.source(&lab.client()).build().unwrap();
    source.token().await.unwrap();
    lab.hands.advance(61);
    for (fault, what) in [
        (InjectedFault::Garbage, "something else than a JSON object"),
        (InjectedFault::Endless, "more than"),
    ] {
        lab.authority.set_fault(fault);
        let error = source.token().await.unwrap_err();
        assert_eq!(
            (error.kind(), error.fault()),
            (ErrorKind::Protocol, Fault::Peer)
        );
        assert!(error.to_string().contains(what), "{error}");
        lab.hands.advance(5);
    }
}
