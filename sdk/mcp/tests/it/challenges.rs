//! Binding challenges (CL-5) are handled below rmcp. What rmcp sees of them, for each method.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::routing::any;
use bowline_http_client::{AccessToken, Client, HttpVersions, Trust};
use bowline_mcp::{Error, ErrorKind, StreamableHttp};
use bowline_testkit::peers::{CyclingOptions, CyclingServer};
use bowline_testkit::pki::{KeyKind, Leaf, Pki};
use bowline_testkit::tls::ClientAuth;
use http::Response;
use rmcp::transport::streamable_http_client::{StreamableHttpClient, StreamableHttpError};

use crate::fixture;
use crate::scripted::{DONE, EVENTS, JSON, chunks, ping, respond, soon};

const METHODS: [&str; 3] = ["POST", "GET", "DELETE"];

/// An MCP server on TLS with scripted responses. It records whether each request carried a proof.
struct Peer {
    pki: Pki,
    agent: Leaf,
    server: CyclingServer,
    seen: Arc<Mutex<Vec<bool>>>,
}

impl Peer {
    fn new(
        script: impl Fn(bool) -> Option<Response<Body>> + Clone + Send + Sync + 'static,
    ) -> Self {
        let seen: Arc<Mutex<Vec<bool>>> = Arc::default();
        let log = seen.clone();
        let answer = any(move |request: Request| async move {
            let proved = request.headers().contains_key("session-binding-proof");
            log.lock().unwrap().push(proved);
            script(proved).unwrap_or_else(|| match request.method().as_str() {
                "POST" => respond(200, &[JSON], DONE),
                "GET" => respond(200, &[EVENTS], ""),
                _ => respond(200, &[], ""),
            })
        });
        let pki = Pki::new();
        let options = CyclingOptions {
            client_auth: ClientAuth::Optional,
            ..CyclingOptions::default()
        };
        Self {
            agent: pki.client("agent", KeyKind::P256),
            server: CyclingServer::start(&pki, options, Router::new().fallback(answer)),
            pki,
            seen,
        }
    }

    /// A peer that demands a proof with `use_session_binding`.
    fn demanding_proof() -> Self {
        Self::new(|proved| {
            if proved {
                None
            } else {
                challenge("use_session_binding")
            }
        })
    }

    fn seen(&self) -> Vec<bool> {
        self.seen.lock().unwrap().clone()
    }

    /// The outcome that rmcp sees. The token is opaque: only the server can demand a proof for it.
    async fn outcome(
        &self,
        client: Client,
        method: &str,
    ) -> Result<(), StreamableHttpError<Error>> {
        let http = StreamableHttp::new(client).token(AccessToken::new("opaque").unwrap());
        let uri: Arc<str> = format!("{}/mcp", self.server.origin()).into();
        let none = HashMap::new();
        match method {
            "POST" => soon(http.post_message(uri, ping(), None, None, none))
                .await
                .map(drop),
            "GET" => soon(http.get_stream(uri, None, None, None, none))
                .await
                .map(drop),
            _ => soon(http.delete_session(uri, "session".into(), None, none)).await,
        }
    }

    fn client(&self) -> Client {
        fixture::client(&self.pki, &self.agent, HttpVersions::Auto)
    }
}

fn challenge(error: &str) -> Option<Response<Body>> {
    let challenge = format!("Bearer error=\"{error}\"");
    // The body never ends.
    Some(respond(
        401,
        &[("www-authenticate", &challenge)],
        chunks(["no"], true),
    ))
}

#[tokio::test]
async fn a_demand_for_a_proof_is_met_and_rmcp_sees_none_of_it() {
    for method in METHODS {
        let peer = Peer::demanding_proof();
        let outcome = peer.outcome(peer.client(), method).await;
        assert!(outcome.is_ok(), "{method}: {outcome:?}");
        assert_eq!(peer.seen(), [false, true], "{method}");
    }
}

#[tokio::test]
async fn a_proof_refused_repeatedly_is_binding_refused_and_not_auth_required() {
    for error in ["use_session_binding", "invalid_proof"] {
        for method in METHODS {
            let peer = Peer::new(move |proved| {
                challenge(if proved { error } else { "use_session_binding" })
            });
            match peer.outcome(peer.client(), method).await {
                Err(StreamableHttpError::Client(e)) => {
                    assert_eq!(e.kind(), ErrorKind::BindingRefused, "{method} {error}")
                }
                other => panic!("{method} {error}: {other:?}"),
            }
            assert!(
                peer.seen().len() <= 3,
                "{method} {error}: {:?}",
                peer.seen()
            );
        }
    }
}

#[tokio::test]
async fn a_refused_token_or_scope_is_auth_required_with_and_without_a_proof() {
    for method in METHODS {
        let peer = Peer::new(|proved| {
            challenge(if proved {
                "invalid_token"
            } else {
                "use_session_binding"
            })
        });
        let outcome = peer.outcome(peer.client(), method).await;
        assert!(
            matches!(outcome, Err(StreamableHttpError::AuthRequired(_))),
            "{method}: {outcome:?}"
        );

        let peer = Peer::new(|_| {
            Some(respond(
                403,
                &[("www-authenticate", "Bearer scope=files")],
                "",
            ))
        });
        match peer.outcome(peer.client(), method).await {
            Err(StreamableHttpError::InsufficientScope(e)) => {
                assert_eq!(e.get_required_scope(), Some("files"))
            }
            other => panic!("{method}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_demand_for_a_proof_without_a_certificate_is_an_error_that_says_so() {
    for method in METHODS {
        let peer = Peer::demanding_proof();
        let trust = Trust::from_der([peer.pki.ca_der().clone()]).unwrap();
        let client = Client::builder().trust(trust).build().unwrap();
        match peer.outcome(client, method).await {
            Err(StreamableHttpError::Client(e)) => {
                let text = e.to_string();
                assert!(
                    e.kind() == ErrorKind::BindingRefused && text.contains("certificate"),
                    "{method}: {text}"
                );
            }
            other => panic!("{method}: {other:?}"),
        }
        assert!(peer.seen().iter().all(|proved| !proved) && peer.seen().len() <= 2);
    }
}
