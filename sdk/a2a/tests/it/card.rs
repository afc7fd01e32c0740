//! Agent cards, fetched over TLS: what comes is kept as it came, what should not come is named, and
//! a hostile card gets nothing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use bowline_a2a::card::{Card, Cards};
use bowline_a2a::extension::SessionBinding;
use bowline_a2a::{Error, ErrorKind, Transports, operation};
use bowline_http_client::{AccessToken, Client, Identity, Trust};
use bowline_proof::PROOF_HEADER;
use bowline_server::{AcceptPolicy, BindingLayer, UpstreamValidates};
use bowline_testkit::a2a as peer;
use bowline_testkit::peers::{CyclingOptions, CyclingServer};
use bowline_testkit::pki::Pki;
use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION, WWW_AUTHENTICATE,
};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use crate::soon;

const WELL_KNOWN: &str = "/.well-known/agent-card.json";

/// A client, and the authority of the servers that it trusts.
struct Visitor {
    pki: Pki,
    client: Client,
}

impl Visitor {
    fn new() -> Self {
        let (pki, agent) = Pki::with_agent();
        let client = Client::builder()
            .identity(Identity::new(agent.chain(), agent.signing_key()).unwrap())
            .trust(Trust::from_der([pki.ca_der().clone()]).unwrap())
            .build()
            .unwrap();
        Self { pki, client }
    }

    fn cards(&self) -> Cards {
        Cards::new(self.client.clone())
    }

    fn server(&self, router: Router) -> CyclingServer {
        CyclingServer::start(&self.pki, CyclingOptions::default(), router)
    }

    /// A server that answers the request for its card like this.
    fn answering(
        &self,
        answer: impl Fn(Request) -> Response + Clone + Send + Sync + 'static,
    ) -> CyclingServer {
        self.server(Router::new().route(
            WELL_KNOWN,
            get(async move |request: Request| answer(request)),
        ))
    }

    /// What comes of asking such a server.
    async fn ask(
        &self,
        answer: impl Fn() -> Response + Send + Sync + 'static,
    ) -> Result<Card, Error> {
        let answer = Arc::new(answer);
        let server = self.answering(move |_| answer());
        soon(self.cards().resolve(&server.origin())).await
    }
}

fn card_text() -> String {
    serde_json::to_string(&peer::card("https://agent.example")).unwrap()
}

fn as_json(text: impl Into<Body>) -> Response {
    ([(CONTENT_TYPE, "application/json")], text.into()).into_response()
}

#[tokio::test]
async fn a_card_is_asked_for_without_a_token_and_kept_as_it_came() {
    let visitor = Visitor::new();
    let mut card: Value = serde_json::from_str(&card_text()).unwrap();
    card["signatures"] = json!([{ "protected": "eyJhbGciOiJFUzI1NiJ9", "signature": "c2ln" }]);
    card["x-unknown"] = json!("deep");
    let text = format!(" \n{}\r\n", serde_json::to_string_pretty(&card).unwrap());
    // Not as anybody's serializer would write it; and what is unknown is passed binding, however deep
    // it goes.
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let text = text
        .replacen("peer", r"p\u0065er", 1)
        .replacen("\"deep\"", &deep, 1);
    let seen = Arc::new(Mutex::new(HeaderMap::new()));
    let server = {
        let (text, seen) = (text.clone(), seen.clone());
        visitor.answering(move |request| {
            *seen.lock().unwrap() = request.headers().clone();
            as_json(text.clone())
        })
    };
    let resolved = soon(visitor.cards().resolve(&server.origin()))
        .await
        .unwrap();
    assert_eq!(resolved.bytes(), text.as_bytes());
    assert_eq!(resolved.card().name, "peer");
    assert_eq!(
        resolved.url().to_string(),
        format!("{}{WELL_KNOWN}", server.origin())
    );
    assert!(resolved.is_signed());
    let seen = seen.lock().unwrap();
    assert!(
        !seen.contains_key(AUTHORIZATION) && !seen.contains_key(PROOF_HEADER),
        "{seen:?}"
    );

    let stats = visitor.client.stats();
    assert_eq!(stats.totals.signatures(), 0);
    assert_eq!(stats.operations[&operation::AGENT_CARD].requests, 1);
}

#[tokio::test]
async fn the_official_server_s_card_passes_the_verifier_that_lets_nothing_else_pass_without_a_token()
 {
    let visitor = Visitor::new();
    let server = CyclingServer::start_with(&visitor.pki, CyclingOptions::default(), |origin| {
        let mut card = peer::card(origin);
        let binding = SessionBinding::required().request_bound_for(["CancelTask"]);
        card.capabilities.extensions = Some(vec![binding.into()]);
        let verifier = BindingLayer::new(UpstreamValidates)
            .origins([origin.parse().unwrap()])
            .policy(AcceptPolicy::RequireSession)
            .public_paths([WELL_KNOWN]);
        peer::agent(peer::Echo::default(), card).layer(verifier)
    });
    let card = soon(visitor.cards().resolve(&server.origin()))
        .await
        .unwrap();
    let demands = card.requirements().unwrap();
    assert!(demands.session_binding().unwrap().is_required());
    assert!(demands.needs_certificate() && demands.needs_token());
    assert!(card.is_fresh(), "the official server says max-age");

    let elsewhere = format!("{}/jsonrpc", server.origin());
    let failure = soon(visitor.cards().resolve(&elsewhere)).await.unwrap_err();
    assert_eq!(failure.kind(), ErrorKind::Unauthorized);
}

#[tokio::test]
async fn what_is_no_card_is_named_for_what_it_is() {
    let visitor = Visitor::new();
    let as_list = || {
        let card: Value = serde_json::from_str(&card_text()).unwrap();
        Value::from_iter(card.as_object().unwrap().values().cloned()).to_string()
    };
    let deep = || {
        let params = format!("{}0{}", r#"{"x":"#.repeat(500), "}".repeat(500));
        card_text().replacen(
            r#""capabilities":{"#,
            &format!(r#""capabilities":{{"extensions":[{{"uri":"x","params":{params}}}],"#),
            1,
        )
    };
    let html = |status| {
        let page = "<!doctype html><title>Sign in</title>".to_owned();
        (status, [(CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response()
    };
    let refused = || {
        let head = [
            (WWW_AUTHENTICATE, "Bearer realm=\"x\""),
            (CONTENT_TYPE, "text/plain"),
        ];
        (StatusCode::UNAUTHORIZED, head, "who are you?").into_response()
    };
    let wrong = |pointer: &'static str, value: Value| {
        move || {
            let mut card: Value = serde_json::from_str(&card_text()).unwrap();
            *card.pointer_mut(pointer).unwrap() = value.clone();
            as_json(card.to_string())
        }
    };
    type Answer = Box<dyn Fn() -> Response + Send + Sync>;
    let cases: Vec<(Answer, ErrorKind, &str)> = vec![
        (
            Box::new(move || html(StatusCode::OK)),
            ErrorKind::NotA2a,
            "an HTML page",
        ),
        (
            Box::new(move || html(StatusCode::NOT_FOUND)),
            ErrorKind::Status,
            "404 Not Found and an HTML page",
        ),
        (Box::new(refused), ErrorKind::Unauthorized, "who are you?"),
        (
            Box::new(|| StatusCode::FORBIDDEN.into_response()),
            ErrorKind::Forbidden,
            "GetExtendedAgentCard",
        ),
        (
            Box::new(|| (StatusCode::BAD_GATEWAY, "upstream is gone").into_response()),
            ErrorKind::Status,
            "upstream is gone",
        ),
        (
            Box::new(|| StatusCode::NO_CONTENT.into_response()),
            ErrorKind::Status,
            "204",
        ),
        (
            Box::new(|| StatusCode::NOT_MODIFIED.into_response()),
            ErrorKind::NotA2a,
            "an unconditional request",
        ),
        (Box::new(|| as_json("")), ErrorKind::NotA2a, "no text"),
        (
            Box::new(|| as_json("\0\u{1b}[2J")),
            ErrorKind::NotA2a,
            "as JSON",
        ),
        (
            Box::new(|| as_json(&b"\xff\xfe{"[..])),
            ErrorKind::NotA2a,
            "as JSON",
        ),
        (
            Box::new(|| as_json(card_text()[..100].to_owned())),
            ErrorKind::NotA2a,
            "EOF",
        ),
        (
            Box::new(move || as_json(as_list())),
            ErrorKind::NotA2a,
            "not an agent card: a list",
        ),
        (
            Box::new(move || as_json(deep())),
            ErrorKind::NotA2a,
            "recursion limit",
        ),
        (
            Box::new(|| as_json("{}")),
            ErrorKind::NotA2a,
            "missing field `name`",
        ),
        (
            Box::new(|| as_json("[]")),
            ErrorKind::NotA2a,
            "JSON that is not an agent card",
        ),
        (
            Box::new(|| as_json("7")),
            ErrorKind::NotA2a,
            "JSON that is not an agent card",
        ),
        (
            Box::new(|| as_json(r#"{"name":"a","name":"b"}"#)),
            ErrorKind::NotA2a,
            "duplicate field",
        ),
        (
            Box::new(wrong("/supportedInterfaces", json!("x"))),
            ErrorKind::NotA2a,
            "invalid type",
        ),
        (
            Box::new(wrong("/capabilities", json!(["x".repeat(100_000)]))),
            ErrorKind::NotA2a,
            "not an agent card",
        ),
        (
            Box::new(wrong("/name", json!({ "a": 1 }))),
            ErrorKind::NotA2a,
            "invalid type",
        ),
    ];
    for (answer, kind, said) in cases {
        let failure = visitor.ask(answer).await.unwrap_err();
        let message = failure.to_string();
        assert_eq!(failure.kind(), kind, "{message}");
        assert!(message.contains(said), "expected {said:?}: {message}");
        assert!(
            message.len() < 1000 && !message.contains(['\0', '\u{1b}', '\n']),
            "{message:?}"
        );
        assert!(!failure.may_have_been_processed(), "{message}");
    }

    let failure = visitor.ask(refused).await.unwrap_err();
    assert_eq!(failure.status(), Some(StatusCode::UNAUTHORIZED));
    assert_eq!(failure.www_authenticate(), ["Bearer realm=\"x\""]);
}

#[tokio::test]
async fn a_card_that_is_too_long_is_not_taken_in_whether_or_not_it_says_so() {
    let visitor = Visitor::new();
    for is_announced in [true, false] {
        let server = visitor.answering(move |_| {
            let piece = Bytes::from(vec![b' '; 64 * 1024]);
            match is_announced {
                true => as_json(vec![b' '; 2 * 1024 * 1024]),
                // Without end.
                false => as_json(Body::from_stream(futures_util::stream::repeat(Ok::<
                    _,
                    std::convert::Infallible,
                >(
                    piece
                )))),
            }
        });
        let failure = soon(visitor.cards().resolve(&server.origin()))
            .await
            .unwrap_err();
        assert_eq!(failure.kind(), ErrorKind::TooLong, "{failure}");
        assert!(
            failure.to_string().contains("more than 1048576 bytes"),
            "{failure}"
        );
    }
    let text = card_text();
    let server = visitor.answering(move |_| as_json(card_text()));
    let exactly = visitor.cards().max_bytes(text.len());
    assert!(soon(exactly.resolve(&server.origin())).await.is_ok());
    let shorter = visitor.cards().max_bytes(text.len() - 1);
    assert_eq!(
        soon(shorter.resolve(&server.origin()))
            .await
            .unwrap_err()
            .kind(),
        ErrorKind::TooLong
    );
}

#[tokio::test]
async fn a_card_that_does_not_come_or_does_not_end_is_not_waited_for_for_ever() {
    let visitor = Visitor::new();
    let silent = Router::new().route(WELL_KNOWN, get(std::future::pending::<Response>));
    let endless = Router::new().route(
        WELL_KNOWN,
        get(async || {
            let begun =
                futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"{"))]);
            let stream = futures_util::StreamExt::chain(begun, futures_util::stream::pending());
            as_json(Body::from_stream(stream))
        }),
    );
    for router in [silent, endless] {
        let server = visitor.server(router);
        let cards = visitor.cards().timeout(Duration::from_millis(300));
        let failure = soon(cards.resolve(&server.origin())).await.unwrap_err();
        assert_eq!(failure.kind(), ErrorKind::TimedOut, "{failure}");
    }
}

#[tokio::test]
async fn a_card_is_followed_within_its_origin_and_nowhere_else() {
    let visitor = Visitor::new();
    let away = visitor.answering(|_| as_json(card_text()));
    let url = format!("{}{WELL_KNOWN}", away.origin());
    let server = visitor.server(
        Router::new()
            .route(
                "/a/.well-known/agent-card.json",
                get(async || Redirect::temporary("/a/moved")),
            )
            .route(
                "/a/moved",
                get(async || Redirect::permanent("/a/card.json")),
            )
            .route("/a/card.json", get(async || as_json(card_text())))
            .route("/card.json", get(async || as_json(card_text())))
            .route(
                "/out/.well-known/agent-card.json",
                get(async || Redirect::temporary("/card.json")),
            )
            .route(
                "/loop/.well-known/agent-card.json",
                get(async || Redirect::temporary(".")),
            )
            .route(
                "/loop/.well-known/",
                get(async || Redirect::temporary("agent-card.json")),
            )
            .route(
                "/moved-away/.well-known/agent-card.json",
                get(async || (StatusCode::FOUND, [(LOCATION, "/card.json")])),
            )
            .route(
                "/nowhere/.well-known/agent-card.json",
                get(async || StatusCode::TEMPORARY_REDIRECT),
            )
            .route(
                "/away/.well-known/agent-card.json",
                get(async move || Redirect::permanent(&format!("{url}?code=secret"))),
            ),
    );
    let ask = async |path: &str| {
        soon(
            visitor
                .cards()
                .resolve(&format!("{}/{path}", server.origin())),
        )
        .await
    };
    assert_eq!(ask("a").await.unwrap().bytes(), card_text().as_bytes());
    for (path, said) in [
        ("loop", "3 redirects were followed"),
        ("out", "out of the configured path"),
        ("moved-away", "to /card.json"),
        ("nowhere", "to nowhere"),
        ("away", &format!("to {}{WELL_KNOWN}?...", away.origin())),
    ] {
        let failure = ask(path).await.unwrap_err();
        assert_eq!(failure.kind(), ErrorKind::Redirect, "{failure}");
        assert!(failure.to_string().contains(said), "{said}: {failure}");
        assert!(!failure.to_string().contains("secret"), "{failure}");
    }
    assert_eq!(away.counts().opened, 0);
}

#[tokio::test]
async fn a_card_that_is_asked_for_again_is_sent_only_if_it_is_another() {
    let visitor = Visitor::new();
    let version = Arc::new(AtomicUsize::new(1));
    let full = Arc::new(AtomicUsize::new(0));
    let server = {
        let (version, full) = (version.clone(), full.clone());
        visitor.answering(move |request| {
            let version = version.load(Ordering::SeqCst);
            let etag = format!("\"{version}\"");
            if request
                .headers()
                .get(IF_NONE_MATCH)
                .is_some_and(|known| known == etag.as_str())
            {
                return StatusCode::NOT_MODIFIED.into_response();
            }
            full.fetch_add(1, Ordering::SeqCst);
            let text = card_text().replacen("1.0.0", &version.to_string(), 1);
            ([(ETAG, etag)], as_json(text)).into_response()
        })
    };
    let cards = visitor.cards();
    let first = soon(cards.resolve(&server.origin())).await.unwrap();
    assert!(!first.is_fresh(), "nobody said how long");
    let mut same = first.clone();
    for _ in 0..3 {
        same = soon(cards.revalidate(&same)).await.unwrap();
        assert_eq!(same.bytes(), first.bytes());
    }
    assert_eq!(
        (full.load(Ordering::SeqCst), server.counts().requests),
        (1, 4)
    );

    version.store(2, Ordering::SeqCst);
    let second = soon(cards.revalidate(&same)).await.unwrap();
    assert_eq!(second.card().version, "2");
    assert_eq!(full.load(Ordering::SeqCst), 2);
    drop(server);
    let lost = soon(cards.revalidate(&second)).await.unwrap_err();
    // Whether the request had left when the connection ended, nobody can tell here.
    let kinds = [ErrorKind::Connection, ErrorKind::MayHaveBeenProcessed];
    assert!(kinds.contains(&lost.kind()), "{lost}");
    assert_eq!(second.card().version, "2", "the old card is still there");
}

#[tokio::test]
async fn a_fresh_card_is_not_asked_for_again() {
    let visitor = Visitor::new();
    let server = visitor
        .answering(|_| ([(CACHE_CONTROL, "max-age=3600")], as_json(card_text())).into_response());
    let card = soon(visitor.cards().resolve(&server.origin()))
        .await
        .unwrap();
    let same = soon(visitor.cards().revalidate(&card)).await.unwrap();
    assert_eq!(same.bytes(), card.bytes());
    assert_eq!(server.counts().requests, 1);
}

/// A card is anybody's text: that it names an address is no reason to send an access token there.
#[tokio::test]
async fn a_card_that_sends_its_callers_elsewhere_gets_no_token_there() {
    let visitor = Visitor::new();
    let thief = visitor.server(Router::new());
    let text = serde_json::to_string(&peer::card(&thief.origin())).unwrap();
    let server = visitor.answering(move |_| as_json(text.clone()));
    let card = soon(visitor.cards().resolve(&server.origin()))
        .await
        .unwrap();
    let transports = Transports::new(visitor.client.clone(), &server.origin())
        .unwrap()
        .token(AccessToken::new("secret-token").unwrap());
    for (factory, interface) in [
        transports.json_rpc(),
        transports.http_json(),
        transports.grpc(),
    ]
    .iter()
    .zip(&card.card().supported_interfaces)
    {
        let error = soon(factory.create(card.card(), interface))
            .await
            .err()
            .unwrap();
        assert_eq!(
            Error::from_a2a(&error).unwrap().kind(),
            ErrorKind::OtherOrigin,
            "{error}"
        );
    }
    assert_eq!(thief.counts().opened, 0);
}
