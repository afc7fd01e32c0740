//! Agents that echo the access token, or a proof, into what becomes an error: no error shows it
//! (EX-7).

use std::sync::{Arc, Mutex};

use a2a::errordetails::{BAD_REQUEST_TYPE, ERROR_INFO_TYPE, PROTOCOL_DOMAIN};
use a2a::{A2AError, error_code};
use a2a_client::{ServiceParams, Transport};
use bowline_a2a::Transports;
use bowline_http_client::AccessToken;
use bowline_testkit::peers::echoes::{ECHOED_PROOF, ECHOED_TOKENS, assert_hidden, echoed_pieces};
use http::HeaderMap;
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::binding::Binding;
use crate::fixture::transport;
use crate::grpc::peer::{EVENT, ScriptedPeer, Step, fields, grpc_head, message};
use crate::http::scripted::{Answer, EVENTS, JSON, Scripted, SeenRequest, TEXT, Then};
use crate::{grpc, http as plain_http};

/// Fails if an error shows eight characters of the token, or of the proof, in a row: in its
/// `Display`, its `Debug`, its fields, or those of its sources.
fn assert_error_hides(error: &A2AError, token: &str, context: &str) {
    let ours = bowline_a2a::Error::from_a2a(error);
    let mut shown = format!(
        "{ours:?}\n{}\n",
        serde_json::to_string(&error.details).unwrap()
    );
    shown.extend(ours.iter().map(|ours| ours.www_authenticate().concat()));
    shown.extend(ours.map(|ours| format!("\n{ours}")));
    let mut next: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = next {
        shown += &format!("\n{error}\n{error:?}");
        next = error.source();
    }
    assert_hidden(&shown, token, context);
}

/// The token in the transport itself, and in the service parameters of the call.
fn both_ways(transports: Transports, token: &str) -> [(Transports, ServiceParams); 2] {
    let own = transports.clone().token(AccessToken::new(token).unwrap());
    let authorization = ("authorization".to_owned(), vec![format!("bearer {token}")]);
    [
        (own, ServiceParams::new()),
        (transports, ServiceParams::from([authorization])),
    ]
}

/// The error of a call and that of a subscription.
async fn errors(transport: &dyn Transport, params: &ServiceParams) -> [A2AError; 2] {
    let call = plain_http::get_task(transport, params).await.unwrap_err();
    let mut events = plain_http::subscribed_with(transport, params).await;
    let last = events.pop().unwrap().unwrap_err();
    [call, last]
}

type Echo = fn(Binding, &SeenRequest, &str) -> Answer;

fn challenge(status: u16, error: &str, token: &str) -> Answer {
    let value = format!(r#"Bearer error="{error}", error_description="what is {token}?""#);
    Answer::new(status, &[("www-authenticate", &value), TEXT], token)
}

fn redirect(status: u16, location: &str) -> Answer {
    Answer::new(status, &[("location", location)], location)
}

/// An error in A2A's own form, with the token wherever text may be.
fn a2a_error(binding: Binding, seen: &SeenRequest, token: &str) -> Value {
    let details = json!([
        { "@type": ERROR_INFO_TYPE, "reason": "TASK_NOT_FOUND", "domain": PROTOCOL_DOMAIN,
          "metadata": { "authorization": format!("Bearer {token}"), token: ECHOED_PROOF } },
        { "@type": BAD_REQUEST_TYPE,
          "fieldViolations": [{ "field": token, "description": format!("'{token}' is wrong") }] },
        { "@type": format!("type.example/{token}"), "seen": [[token]] },
    ]);
    let text = format!("{token}? {ECHOED_PROOF}");
    seen.error(binding, error_code::TASK_NOT_FOUND, &text, details)
}

/// The same shape, as gateways write it.
fn gateway_error(token: &str) -> Value {
    json!({ "error": { "code": 400, "message": format!("what is {token}?"), "details": [token] } })
}

fn event_stream(event: &Value) -> Answer {
    Answer::stream(EVENTS, format!("data: {event}\n\n"), Then::Keep)
}

const ECHOES: &[(&str, Echo)] = &[
    ("a text", |_, _, t| {
        Answer::new(500, &[TEXT], format!("what is {t:?}, or {ECHOED_PROOF}?"))
    }),
    ("a long text", |_, _, t| {
        Answer::new(500, &[TEXT], format!("{}{t}", "so it is; ".repeat(19)))
    }),
    ("a status line", |_, _, t| {
        let head = format!("HTTP/1.1 500 {t}\r\ncontent-length: 0\r\n\r\n");
        Answer::raw(head, Then::Keep)
    }),
    ("fields", |_, _, t| {
        let fields = [
            "server",
            "set-cookie",
            "dpop-nonce",
            "a2a-version",
            "etag",
            "date",
        ];
        Answer::new(500, &fields.map(|name| (name, t)), "")
    }),
    ("a text with pieces of the token", |_, _, t| {
        let length = t.len().min(20);
        let pieces = format!("{} or {}", &t[..length], &t[t.len() - length..]);
        Answer::new(500, &[TEXT], pieces)
    }),
    ("401 with a text", |_, _, t| Answer::new(401, &[TEXT], t)),
    ("404 with JSON that is not A2A", |_, _, t| {
        Answer::json(404, &json!({ "token": t }))
    }),
    ("JSON that escapes slashes", |_, _, t| {
        let body = json!({ "token": t }).to_string();
        Answer::new(400, &[JSON], body.replace('/', "\\/"))
    }),
    ("problem details", |_, _, t| {
        let problem = json!({ "type": "about:blank", "title": t, "detail": format!("<{t}>") });
        let problem_json = ("content-type", "application/problem+json");
        Answer::new(400, &[problem_json], problem.to_string())
    }),
    ("a media type", |_, _, t| {
        Answer::new(400, &[("content-type", &format!("text/{t}"))], "no")
    }),
    ("Retry-After", |_, _, t| {
        Answer::new(503, &[("retry-after", t), TEXT], t)
    }),
    ("an A2A error", |binding, seen, t| {
        Answer::json(404, &a2a_error(binding, seen, t))
    }),
    ("an A2A error with escapes", |binding, seen, t| {
        let body = a2a_error(binding, seen, t).to_string();
        Answer::new(404, &[JSON], body.replace('/', "\\/"))
    }),
    ("an A2A error with 200", |binding, seen, t| {
        Answer::json(200, &a2a_error(binding, seen, t))
    }),
    ("an A2A error with 401", |binding, seen, t| {
        Answer::json(401, &a2a_error(binding, seen, t))
    }),
    ("an A2A error with 503", |binding, seen, t| {
        Answer::json(503, &a2a_error(binding, seen, t))
    }),
    ("an error of a gateway", |_, _, t| {
        Answer::json(400, &gateway_error(t))
    }),
    ("200 with a text", |_, _, t| Answer::new(200, &[TEXT], t)),
    ("200 with JSON that is not A2A", |_, _, t| {
        Answer::json(200, &json!({ t: t }))
    }),
    ("a result of another kind", |binding, seen, t| {
        let task = json!({ "id": t, "contextId": 5, "status": { "state": t } });
        Answer::json(200, &seen.result(binding, task))
    }),
    ("401 invalid_token", |_, _, t| {
        challenge(401, "invalid_token", t)
    }),
    ("401 use_session_binding", |_, _, t| {
        challenge(401, "use_session_binding", t)
    }),
    ("401 with the token as its error", |_, _, t| {
        challenge(401, t, t)
    }),
    ("403 insufficient_scope", |_, _, t| {
        challenge(403, "insufficient_scope", t)
    }),
    ("a redirect to a path", |_, _, t| {
        redirect(307, &format!("/{t}"))
    }),
    ("a redirect with a query", |_, _, t| {
        redirect(308, &format!("/?token={t}#{t}"))
    }),
    ("a redirect to another origin", |_, _, t| {
        redirect(302, &format!("https://agent.example.com/{t}"))
    }),
    ("a redirect with user information", |_, _, t| {
        redirect(307, &format!("https://{t}@agent.example.com/"))
    }),
    ("a line that is no event", |_, _, t| {
        Answer::stream(EVENTS, format!("{t}\n\n"), Then::Keep)
    }),
    ("an event that is not A2A", |_, _, t| {
        event_stream(&json!({ t: t }))
    }),
    ("an event that is not JSON", |_, _, t| {
        Answer::stream(EVENTS, format!("data: {t}\n\n"), Then::Keep)
    }),
    ("an event with an A2A error", |binding, seen, t| {
        event_stream(&a2a_error(binding, seen, t))
    }),
    ("an error in place of events", |binding, seen, t| {
        let error = a2a_error(binding, seen, t).to_string();
        Answer::stream(EVENTS, error, Then::Keep)
    }),
];

#[tokio::test]
async fn no_error_over_http_shows_a_token_or_a_proof_that_the_agent_echoes() {
    for (name, echo) in ECHOES {
        for binding in plain_http::BOTH {
            let echoed = Arc::new(Mutex::new(""));
            let shared = echoed.clone();
            let peer =
                Scripted::start(move |seen| echo(binding, seen, &shared.lock().unwrap())).await;
            for token in ECHOED_TOKENS {
                for (transports, params) in both_ways(plain_http::plain(peer.origin()), token) {
                    let transport = plain_http::create(binding, &transports, peer.origin()).await;
                    for form in echoed_pieces(token) {
                        *echoed.lock().unwrap() = form;
                        for error in errors(&*transport, &params).await {
                            assert_error_hides(&error, token, &format!("{name} over {binding:?}"));
                        }
                    }
                }
            }
            for request in peer.seen() {
                let sent = request.field("authorization")[0];
                assert!(ECHOED_TOKENS.iter().any(|token| sent.ends_with(token)));
            }
        }
    }
}

/// A gRPC status with the token in its message and its details.
fn status(code: Code, token: &str) -> HeaderMap {
    let metadata = [
        ("authorization".to_owned(), format!("Bearer {token}")),
        (token.to_owned(), ECHOED_PROOF.to_owned()),
    ];
    let mut details = ErrorDetails::with_error_info(token, token, metadata);
    details.add_bad_request_violation(token, format!("'{token}' is wrong"));
    let status = Status::with_error_details(code, format!("{token}? {ECHOED_PROOF}"), details);
    let mut fields = HeaderMap::new();
    status.add_header(&mut fields).unwrap();
    fields
}

fn head(status: u16, more: &[(&'static str, &str)]) -> Step {
    let mut head = HeaderMap::new();
    for (name, value) in more {
        head.extend(fields([(*name, *value)]));
    }
    Step::Head(status, head)
}

/// What the agent answers to a token. Each answer ends in an error.
fn grpc_echoes(t: &str) -> Vec<Vec<Step>> {
    let grpc = ("content-type", "application/grpc");
    let text = || vec![Step::Data(t.as_bytes().to_vec()), Step::End];
    let description = format!(r#"Bearer error="invalid_token", error_description="is it {t}?""#);
    let binding = format!(r#"Bearer error="use_session_binding", error_description="{t}""#);
    let mut echoes = vec![
        [
            vec![head(401, &[TEXT, ("www-authenticate", &description)])],
            text(),
        ]
        .concat(),
        [vec![head(500, &[TEXT])], text()].concat(),
        [vec![head(200, &[TEXT])], text()].concat(),
        [
            vec![head(200, &[("content-type", &format!("text/{t}"))])],
            text(),
        ]
        .concat(),
        [
            vec![head(401, &[grpc, ("www-authenticate", &binding)])],
            text(),
        ]
        .concat(),
        [
            vec![head(307, &[("location", &format!("/{t}?{t}#{t}"))])],
            text(),
        ]
        .concat(),
        vec![head(200, &[grpc, ("grpc-encoding", t)]), Step::End],
        vec![head(200, &[grpc, ("grpc-status", t)]), Step::End],
        vec![grpc_head(), Step::Trailers(fields([("grpc-status", t)]))],
        // A message that is no message.
        vec![
            grpc_head(),
            message(t.as_bytes()),
            Step::Trailers(status(Code::Internal, t)),
        ],
    ];
    for code in [
        Code::NotFound,
        Code::InvalidArgument,
        Code::Unauthenticated,
        Code::PermissionDenied,
        Code::Unavailable,
        Code::Unknown,
    ] {
        let status = status(code, t);
        let mut only_head = fields([grpc, ("www-authenticate", &description)]);
        only_head.extend(status.clone());
        echoes.push(vec![Step::HeadOnly(200, only_head)]);
        echoes.push(vec![grpc_head(), Step::Trailers(status.clone())]);
        echoes.push(vec![grpc_head(), message(EVENT), Step::Trailers(status)]);
    }
    echoes
}

#[tokio::test]
async fn no_error_over_grpc_shows_a_token_or_a_proof_that_the_agent_echoes() {
    for token in ECHOED_TOKENS {
        for steps in echoed_pieces(token).into_iter().flat_map(grpc_echoes) {
            let context = format!("{steps:?}");
            let peer = ScriptedPeer::start(steps).await;
            for (transports, params) in both_ways(grpc::plain_transports(peer.origin()), token) {
                let transport = transport(&*transports.grpc(), peer.origin()).await.unwrap();
                for error in errors(&*transport, &params).await {
                    assert_error_hides(&error, token, &context);
                }
            }
            for request in peer.seen().requests {
                let sent = request["authorization"].to_str().unwrap();
                assert!(sent.ends_with(token), "the agent was sent the token");
            }
        }
    }
}

/// Redaction removes the token and no more: programs and models read these.
#[tokio::test]
async fn what_is_not_a_secret_stays_in_a_challenge_and_in_an_a2a_error() {
    let message = "no such file: /srv/projects/2026-01/notes-v12345.txt\nask for another one";
    let metadata_url = "https://agent.example.com/.well-known/oauth-protected-resource/v2-2026";
    let details = json!([
        { "@type": ERROR_INFO_TYPE, "reason": "TASK_NOT_FOUND", "domain": PROTOCOL_DOMAIN,
          "metadata": { "taskId": "notes-v12345-2026-01-01T00:00:00" } }
    ]);
    for binding in plain_http::BOTH {
        for (status, fields) in [(404, vec![JSON]), (401, vec![JSON])] {
            let details = details.clone();
            let peer = Scripted::start(move |seen| {
                let challenge = format!(r#"Bearer resource_metadata="{metadata_url}""#);
                let fields = [&fields[..], &[("www-authenticate", &challenge)]].concat();
                let error = seen.error(
                    binding,
                    error_code::TASK_NOT_FOUND,
                    message,
                    details.clone(),
                );
                Answer::new(status, &fields, error.to_string())
            })
            .await;
            let [(transports, params), _] =
                both_ways(plain_http::plain(peer.origin()), ECHOED_TOKENS[0]);
            let transport = plain_http::create(binding, &transports, peer.origin()).await;
            for error in errors(&*transport, &params).await {
                assert_eq!(error.message, message);
                let info = &error.details.as_deref().unwrap()[0];
                let task = &info.value["metadata"]["taskId"];
                assert_eq!(task, "notes-v12345-2026-01-01T00:00:00");
                let ours = bowline_a2a::Error::from_a2a(&error);
                if status == 401 {
                    let challenges = ours.unwrap().www_authenticate().concat();
                    assert!(challenges.contains(metadata_url), "{challenges}");
                }
            }
        }
    }
}
