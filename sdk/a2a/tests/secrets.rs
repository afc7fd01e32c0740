//! No token and no proof in an error or a log of any binding (EX-7). In a process of its own: it
//! listens to every line.

#![cfg(feature = "grpc")]

#[allow(dead_code, reason = "other tests need more of it")]
#[path = "it/binding.rs"]
mod binding;
#[allow(dead_code, reason = "other tests need more of it")]
#[path = "it/fixture.rs"]
mod fixture;

use std::time::Duration;

use crate::fixture::Fixture;
use a2a::errordetails::{ERROR_INFO_TYPE, PROTOCOL_DOMAIN};
use a2a::{GetTaskRequest, Message, Part, Role, SendMessageRequest, SubscribeToTaskRequest};
use a2a_client::ServiceParams;
use binding::BINDINGS;
use bowline_a2a::{Error, Transports};
use bowline_http_client::{AccessToken, Client, DpopKey, Identity, Trust};
use bowline_testkit::a2a::card;
use bowline_testkit::log::Log;
use bowline_testkit::peers::echoes::{ECHOES, EVENTS, JSON, response};
use bowline_testkit::peers::{CyclingOptions, Echo, EchoServer};
use bowline_testkit::pki::{KeyKind, Pki};
use futures_util::StreamExt;
use serde_json::json;

/// A guard against hanging, which decides nothing.
async fn soon<F: Future>(future: F) -> F::Output {
    let soon = tokio::time::timeout(Duration::from_secs(30), future);
    soon.await.expect("done within 30 s")
}

#[tokio::test]
async fn no_token_and_no_proof_is_in_an_error_or_a_log() {
    let log = Log::for_process();
    let fixture = Fixture::open();
    let client = fixture.client();
    let [opaque, stale, theirs] = ["opaque-and-secret", "stale-and-secret", "of-an-interceptor"];
    let jwt = fixture.token("a-name-that-nobody-else-has");
    let none = ServiceParams::new();
    let credential = |token: &str| {
        ServiceParams::from([("Authorization".to_owned(), vec![format!("Bearer {token}")])])
    };
    let task = GetTaskRequest {
        id: "t".to_owned(),
        history_length: None,
        tenant: None,
    };
    let mut shown = String::new();
    let tokens = [opaque, stale].map(|token| AccessToken::new(token).unwrap());
    let tokens: Vec<_> = tokens.into_iter().chain([jwt.clone()]).collect();
    let card = card(&fixture.server.origin());
    for (binding, token) in BINDINGS
        .iter()
        .flat_map(|binding| tokens.iter().map(move |token| (binding, token)))
    {
        let transports = fixture.transports(&client).token(token.clone());
        shown += &format!("{transports:?}");
        let transport = binding.create(&transports, &card).await.unwrap();
        // A task that is not there, and two credentials.
        for params in [&none, &credential(theirs)] {
            let error = soon(transport.get_task(params, &task)).await.unwrap_err();
            shown += &format!("{error} {error:?} {:?}", Error::from_a2a(&error));
        }
        let request = SendMessageRequest {
            message: Message::new(Role::User, vec![Part::text("hold")]),
            configuration: None,
            metadata: None,
            tenant: None,
        };
        let events = soon(transport.send_streaming_message(&none, &request)).await;
        let Ok(mut events) = events else { continue };
        assert!(soon(events.next()).await.unwrap().is_ok());
        fixture.server.cut_all();
        let rest: Vec<_> = soon(events.collect()).await;
        shown += &format!("{rest:?}");
    }
    for binding in BINDINGS {
        let transport = binding
            .create(&fixture.transports(&client), &card)
            .await
            .unwrap();
        let error = soon(transport.get_task(&credential(theirs), &task))
            .await
            .unwrap_err();
        shown += &format!("{error:?}");
        let not_one = ServiceParams::from([("x-key".to_owned(), vec![format!("{theirs}\n")])]);
        let error = soon(transport.get_task(&not_one, &task)).await.unwrap_err();
        shown += &format!("{error:?}");
    }

    let logged = log.text();
    for part in [
        "TASK_NOT_FOUND",
        "stream_cut",
        "unauthorized",
        "invalid_call",
    ] {
        assert!(shown.contains(part), "no {part} was shown: {shown}");
    }
    for part in ["h2::", "hyper", "bowline_server"] {
        assert!(logged.contains(part), "nothing of {part} was logged");
    }
    let proofs = fixture.proofs();
    assert!(proofs.len() >= 7, "{}", proofs.len());
    for text in [shown, logged] {
        let jwt = jwt.secret().split('.').take(2).skip(1);
        for secret in [opaque, stale, theirs]
            .into_iter()
            .chain(jwt)
            .chain(proofs.iter().map(|proof| &**proof))
        {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
}

fn reported(echoed: &str) -> String {
    let details = json!([
        { "@type": ERROR_INFO_TYPE, "reason": "TASK_NOT_FOUND", "domain": PROTOCOL_DOMAIN,
          "metadata": { "seen": echoed } },
    ]);
    let message = format!("what is {echoed}?");
    // JSON-RPC's form and that of HTTP+JSON at once.
    let error = json!({ "code": -32001, "message": message, "data": details, "details": details });
    json!({ "jsonrpc": "2.0", "id": null, "error": error }).to_string()
}

const GRPC: (&str, &str) = ("content-type", "application/grpc");

const OF_A2A: [Echo; 7] = [
    |t| response(404, &[JSON], reported(t)),
    |t| response(200, &[JSON], reported(t)),
    |t| response(200, &[EVENTS], format!("data: {}\n\n", reported(t))),
    |t| response(200, &[EVENTS], format!("data: {t}\n\n")),
    |t| response(200, &[GRPC, ("grpc-status", "16"), ("grpc-message", t)], ""),
    |t| response(200, &[GRPC, ("grpc-status", "5"), ("grpc-message", t)], ""),
    |t| response(200, &[GRPC, ("grpc-status", t)], ""),
];

/// Agents that echo what they are sent, over mutual TLS, with the proofs that the client makes.
#[tokio::test]
async fn nothing_that_an_agent_echoes_is_shown_or_logged() {
    let log = Log::for_process();
    let pki = Pki::new();
    let leaf = pki.client("agent", KeyKind::P256);
    let key = DpopKey::generate().unwrap();
    let confirmations = EchoServer::confirmations(leaf.thumbprint(), &key.thumbprint());
    for binding in BINDINGS {
        for cnf in &confirmations {
            let logged = log.text().len();
            let server = EchoServer::start(
                &pki,
                CyclingOptions::default(),
                [&ECHOES[..], &OF_A2A].concat(),
            );
            let client = Client::builder()
                .identity(Identity::new(leaf.chain(), leaf.signing_key()).unwrap())
                .trust(Trust::from_der([pki.ca_der().clone()]).unwrap())
                .dpop_key(key.clone())
                .build()
                .unwrap();
            let token = AccessToken::new(EchoServer::token(cnf)).unwrap();
            let transports = Transports::new(client.clone(), &server.origin())
                .unwrap()
                .token(token);
            let card = card(&server.origin());
            let transport = binding.create(&transports, &card).await.unwrap();
            let mut shown = format!("{transports:?}");
            while !server.is_done() {
                let task = GetTaskRequest {
                    id: "t".to_owned(),
                    history_length: None,
                    tenant: None,
                };
                let error = soon(transport.get_task(&ServiceParams::new(), &task))
                    .await
                    .unwrap_err();
                shown += &format!("{error}\n{error:?}\n{:?}\n", Error::from_a2a(&error));
                let subscribe = SubscribeToTaskRequest {
                    id: "t".to_owned(),
                    tenant: None,
                };
                match soon(transport.subscribe_to_task(&ServiceParams::new(), &subscribe)).await {
                    Ok(events) => {
                        let events: Vec<_> = soon(events.collect()).await;
                        shown += &format!("{events:?}\n");
                    }
                    Err(error) => shown += &format!("{error}\n{error:?}\n"),
                }
            }
            shown += &format!("{client:?}{:?}", client.stats());
            assert!(server.secrets() > 1, "a token and at least one proof");
            assert_eq!(server.find_in(&shown), None, "{shown}");
            assert_eq!(server.find_in(&log.text()[logged..]), None, "in the log");
        }
    }
}
