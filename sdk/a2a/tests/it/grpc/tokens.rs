//! Tokens that are refused by a gRPC status under HTTP 200: the source's next one is sent, by the
//! rule for a 401.

use std::sync::Arc;

use a2a::{Message, Part, Role, SendMessageRequest};
use a2a_client::ServiceParams;
use bowline_a2a::ErrorKind;
use bowline_http_client::AccessToken;
use http::HeaderMap;

use super::peer::{EVENT, ScriptedPeer, Step, TASK, fields, grpc_head, message, ok};
use super::{Successive, failure, get_task, plain_transports, subscribed, transport};

const STALE: &str = "Bearer stale";

/// UNAUTHENTICATED in the head of a response that has nothing else, and in the trailers of one
/// without a message; each with these fields beside it.
fn refusals(more: &HeaderMap) -> [Vec<Step>; 2] {
    let mut status = fields([("grpc-status", "16"), ("grpc-message", "expired")]);
    status.extend(more.clone());
    let mut head = fields([("content-type", "application/grpc")]);
    head.extend(status.clone());
    [
        vec![Step::HeadOnly(200, head)],
        vec![grpc_head(), Step::Trailers(status)],
    ]
}

fn challenge(value: &str) -> HeaderMap {
    fields([("www-authenticate", value)])
}

/// A peer that refuses the stale token so, and gives any other call this message.
async fn refusing(refusal: Vec<Step>, body: &'static [u8]) -> ScriptedPeer {
    ScriptedPeer::start_script(move |head| match head.get("authorization") {
        Some(token) if token == STALE => refusal.clone(),
        _ => vec![grpc_head(), message(body), ok()],
    })
    .await
}

fn source(tokens: &[&str]) -> Arc<Successive> {
    let tokens = tokens.iter().map(|token| AccessToken::new(*token).unwrap());
    Arc::new(Successive::new(tokens.collect()))
}

fn sent(peer: &ScriptedPeer) -> Vec<String> {
    let requests = peer.seen().requests;
    let tokens = requests.iter().map(|head| head["authorization"].to_str());
    tokens.map(|token| token.unwrap().to_owned()).collect()
}

/// UNAUTHENTICATED says that the call had no valid credentials, so the agent has not acted on it:
/// what cannot be repeated is sent again too (CL-7).
#[tokio::test]
async fn a_token_refused_by_a_grpc_status_is_replaced_and_the_call_sent_again() {
    let invalid = challenge(r#"Bearer error="invalid_token""#);
    for more in [HeaderMap::new(), invalid] {
        for refusal in refusals(&more) {
            let peer = refusing(refusal.clone(), TASK).await;
            let source = source(&["stale", "fresh"]);
            let transports = plain_transports(peer.origin()).source(source.clone());
            let calls = transport(&*transports.grpc(), peer.origin()).await.unwrap();
            assert_eq!(
                get_task(&*calls, &ServiceParams::new()).await.unwrap().id,
                "t"
            );
            assert_eq!(sent(&peer), [STALE, "Bearer fresh"]);
            assert_eq!(source.refused(), 1);
            get_task(&*calls, &ServiceParams::new()).await.unwrap();
            assert_eq!(sent(&peer)[2..], ["Bearer fresh"]);

            let peer = refusing(refusal.clone(), EVENT).await;
            let transports =
                plain_transports(peer.origin()).source(self::source(&["stale", "fresh"]));
            let calls = transport(&*transports.grpc(), peer.origin()).await.unwrap();
            let events = subscribed(&*calls).await;
            assert!(matches!(&events[..], [Ok(_)]), "{events:?}");
            assert_eq!(sent(&peer), [STALE, "Bearer fresh"]);

            // Field 1 of SendMessageResponse is a task.
            let peer = refusing(refusal, &[0x0a, 3, 0x0a, 1, b't']).await;
            let transports =
                plain_transports(peer.origin()).source(self::source(&["stale", "fresh"]));
            let calls = transport(&*transports.grpc(), peer.origin()).await.unwrap();
            let request = SendMessageRequest {
                message: Message::new(Role::User, vec![Part::text("once")]),
                configuration: None,
                metadata: None,
                tenant: None,
            };
            crate::soon(calls.send_message(&ServiceParams::new(), &request))
                .await
                .unwrap();
            assert_eq!(sent(&peer), [STALE, "Bearer fresh"]);
        }
    }
}

#[tokio::test]
async fn a_grpc_status_that_does_not_refuse_the_token_replaces_none() {
    let about_the_proof = challenge(r#"Bearer error="invalid_proof""#);
    let about_the_scope = challenge(r#"Bearer error="insufficient_scope""#);
    let after_an_event = vec![
        grpc_head(),
        message(EVENT),
        Step::Trailers(fields([("grpc-status", "16")])),
    ];
    let denied = vec![grpc_head(), Step::Trailers(fields([("grpc-status", "7")]))];
    let mut cases = vec![after_an_event, denied];
    cases.extend(refusals(&about_the_proof));
    cases.extend(refusals(&about_the_scope));
    for steps in cases {
        let peer = ScriptedPeer::start(steps.clone()).await;
        let source = source(&["stale", "fresh"]);
        let transports = plain_transports(peer.origin()).source(source.clone());
        let calls = transport(&*transports.grpc(), peer.origin()).await.unwrap();
        let events = subscribed(&*calls).await;
        assert!(events.last().unwrap().is_err());
        assert_eq!(
            (sent(&peer), source.refused()),
            (vec![STALE.to_owned()], 0),
            "{steps:?}"
        );
    }
}

/// The call is sent twice at most, and the error is the agent's.
#[tokio::test]
async fn a_second_token_that_is_refused_ends_the_call() {
    for refusal in refusals(&HeaderMap::new()) {
        for (tokens, requests) in [(&["stale", "older", "fresh"][..], 2), (&["stale"], 1)] {
            let peer = ScriptedPeer::start(refusal.clone()).await;
            let source = source(tokens);
            let transports = plain_transports(peer.origin()).source(source.clone());
            let calls = transport(&*transports.grpc(), peer.origin()).await.unwrap();
            let error = get_task(&*calls, &ServiceParams::new()).await.unwrap_err();
            assert_eq!(failure(&error).kind(), ErrorKind::Unauthorized);
            assert!(error.message.contains("expired"), "{error}");
            assert_eq!(sent(&peer).len(), requests);
            assert_eq!(source.refused(), requests);
        }
    }
}
