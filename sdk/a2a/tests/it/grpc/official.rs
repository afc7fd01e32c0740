//! The official agent: what is got, and what it costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use a2a::{
    A2AError, Message, Part, Role, SendMessageRequest, SendMessageResponse, StreamResponse,
    error_code,
};
use a2a_client::{ServiceParams, Transport};
use a2a_grpc::GrpcTransportFactory;
use bowline_a2a::{Error, ErrorKind, Transports, operation};
use bowline_http_client::bind::TokenSourceId;
use bowline_http_client::{AccessToken, Client, Fault, HttpVersions};
use bowline_testkit::a2a::{Echo, agent, card};
use bowline_testkit::peers::{CyclingOptions, PlainServer};
use bowline_testkit::tls::Alpn;
use bowline_token::{Token, TokenSource};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use h2::Reason;

use super::peer::{EVENT, ScriptedPeer, Step, TASK, grpc_head, message, ok};
use super::{
    failure, get_task, plain_client, plain_transport, plain_transports, subscribe, transport,
};
use crate::fixture::Fixture;
use crate::script::compare::differences;
use crate::script::fixture::rows;

fn says(text: &str) -> SendMessageRequest {
    SendMessageRequest {
        message: Message::new(Role::User, vec![Part::text(text)]),
        configuration: None,
        metadata: None,
        tenant: None,
    }
}

/// What the agent makes of a text.
async fn echoed(transport: &dyn Transport, params: &ServiceParams, text: &str) -> String {
    let answer = crate::soon(transport.send_message(params, &says(text)))
        .await
        .unwrap();
    let SendMessageResponse::Task(task) = answer else {
        panic!("the agent answers with a task: {answer:?}")
    };
    let artifacts = task.artifacts.unwrap_or_default();
    let parts = artifacts.iter().flat_map(|artifact| &artifact.parts);
    parts.filter_map(|part| part.as_text()).collect()
}

fn params<const N: usize>(params: [(&str, &[&str]); N]) -> ServiceParams {
    let owned = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
    params
        .into_iter()
        .map(|(name, values)| (name.to_owned(), owned(values)))
        .collect()
}

#[tokio::test]
async fn every_call_gets_what_the_stock_transport_gets_for_one_connection_and_one_signature() {
    let plain = PlainServer::start_with(|origin| agent(Echo::default(), card(origin)));
    let here = plain.addr().to_string();
    let plain_card = card(&plain.origin());
    let stock = rows(&GrpcTransportFactory::new(), &plain_card, &[&here]).await;

    let client = plain_client();
    let transports = Transports::new(client.clone(), &plain.origin()).unwrap();
    let ours = rows(&*transports.grpc(), &plain_card, &[&here]).await;
    assert_eq!(differences(&stock, &ours), [""; 0], "in plaintext");
    assert_eq!(client.stats().connections_opened, 1);

    let fixture = Fixture::open();
    let client = fixture.client();
    let transports = fixture.transports(&client).token(fixture.token("a"));
    let ours = rows(
        &*transports.grpc(),
        &card(&fixture.server.origin()),
        &[&fixture.authority()],
    )
    .await;
    assert_eq!(differences(&stock, &ours), [""; 0], "behind BindingLayer");
    let totals = client.stats().totals;
    assert_eq!(
        (client.stats().connections_opened, totals.signatures()),
        (1, 1)
    );
    assert!(
        totals.requests > 11 && totals.with_proof == totals.requests,
        "{totals:?}"
    );
    // By method, and none of them unknown.
    let methods = client.stats().operations;
    assert_eq!(methods.len(), 11, "{methods:?}");
    assert!(!methods.contains_key(&operation::GRPC.other()));
    assert!(methods.contains_key(&operation::GRPC.of("SendStreamingMessage")));
}

#[tokio::test]
async fn service_parameters_are_metadata_with_all_their_values() {
    let fixture = Fixture::open();
    let client = fixture.client();
    let transport = fixture.transport_with_token(&client, "a").await;
    let given = params([
        (
            "A2A-Extensions",
            &["https://one.example", "https://two.example"],
        ),
        ("x-one", &["1"]),
    ]);
    for (name, value) in [
        ("a2a-extensions", "https://one.example,https://two.example"),
        ("x-one", "1"),
        ("a2a-version", a2a::VERSION),
        ("x-none", "none"),
    ] {
        assert_eq!(
            echoed(&*transport, &given, &format!("parameter {name}")).await,
            value
        );
    }
    // One entry, as A2A wants it (§10.2).
    let peer = ScriptedPeer::start(vec![grpc_head(), message(TASK), ok()]).await;
    let transport = plain_transport(&peer).await;
    get_task(&*transport, &given).await.unwrap();
    let fields = &peer.seen().requests[0];
    assert_eq!(fields.get_all("a2a-extensions").iter().count(), 1);
    assert_eq!(fields["te"], "trailers");
    assert_eq!(fields["content-type"], "application/grpc");
    for absent in ["grpc-timeout", "grpc-encoding", "grpc-accept-encoding"] {
        assert!(!fields.contains_key(absent), "{absent}");
    }
}

#[tokio::test]
async fn what_is_not_the_caller_s_to_say_is_refused_before_anything_is_sent() {
    let peer = ScriptedPeer::start(vec![grpc_head(), message(TASK), ok()]).await;
    let token = AccessToken::new("own").unwrap();
    let transports = plain_transports(peer.origin()).token(token);
    let transport = transport(&*transports.grpc(), peer.origin()).await.unwrap();
    for name in [
        "grpc-timeout",
        "GRPC-Encoding",
        "grpc-anything",
        "te",
        "Content-Type",
        "x-bytes-bin",
        "X-Bytes-BIN",
        "host",
        "session-binding-proof",
        "authorization",
        "no name",
        ":path",
    ] {
        let error = get_task(&*transport, &params([(name, &["secret"])]))
            .await
            .unwrap_err();
        let failure = failure(&error);
        assert_eq!(
            (failure.kind(), failure.fault()),
            (ErrorKind::InvalidCall, Fault::Caller),
            "{name}: {error}"
        );
        assert!(!failure.may_have_been_processed() && !format!("{error:?}").contains("secret"));
    }
    assert_eq!(peer.seen().requests.len(), 0);
    get_task(&*transport, &params([("x-bytes", &["fine"])]))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_challenge_is_answered_by_one_more_request_and_a_refused_token_replaced() {
    let fixture = Fixture::open();
    // Nothing says what an opaque token is bound to, before the agent does.
    let client = fixture.client();
    let transports = fixture
        .transports(&client)
        .token(AccessToken::new("opaque").unwrap());
    let transport = fixture.transport(&transports).await;
    for (call, requests) in [("first", 2), ("second", 3)] {
        assert_eq!(echoed(&*transport, &ServiceParams::new(), call).await, call);
        assert_eq!(fixture.server.counts().requests, requests);
    }
    assert_eq!(client.stats().totals.signatures(), 1);

    let client = fixture.client();
    let before = fixture.server.counts().requests;
    let source = Arc::new(Successive::new(vec![
        AccessToken::new("stale").unwrap(),
        fixture.token("fresh"),
    ]));
    let transport = fixture
        .transport(&fixture.transports(&client).source(source.clone()))
        .await;
    assert_eq!(
        echoed(&*transport, &ServiceParams::new(), "again").await,
        "again"
    );
    assert_eq!(source.refused.load(Ordering::Relaxed), 1);
    assert_eq!(fixture.server.counts().requests, before + 2);

    // And where there is no other.
    let stale = AccessToken::new("stale").unwrap();
    let transport = fixture
        .transport(&fixture.transports(&client).token(stale))
        .await;
    let error = get_task(&*transport, &ServiceParams::new())
        .await
        .unwrap_err();
    let failure = failure(&error);
    assert_eq!(failure.kind(), ErrorKind::Unauthorized);
    assert!(
        failure.www_authenticate()[0].contains("invalid_token"),
        "{failure:?}"
    );
}

#[tokio::test]
async fn calls_of_a_method_can_be_proved_one_by_one() {
    let fixture = Fixture::open();
    let client = fixture.client();
    let claims = bowline_a2a::RequestBoundCalls::none().for_method("SendMessage");
    let transports = fixture
        .transports(&client)
        .token(fixture.token("a"))
        .request_bound_calls(claims);
    let transport = fixture.transport(&transports).await;
    for n in 1..=3 {
        echoed(&*transport, &ServiceParams::new(), "x").await;
        let error = get_task(&*transport, &ServiceParams::new())
            .await
            .unwrap_err();
        assert_eq!(
            (error.code, Error::from_a2a(&error)),
            (error_code::TASK_NOT_FOUND, None)
        );
        let operations = client.stats().operations;
        assert_eq!(
            operations[&operation::GRPC.of("SendMessage")].request_bound,
            n
        );
        assert_eq!(operations[&operation::GRPC.of("GetTask")].request_bound, 0);
    }
}

#[tokio::test]
async fn a_stream_that_is_dropped_is_cancelled_at_once_and_its_connection_lives_on() {
    let peer = ScriptedPeer::start(vec![grpc_head(), message(EVENT), Step::UntilReset]).await;
    let transport = plain_transport(&peer).await;
    for n in 1..=2 {
        let mut events = subscribe(&*transport).await.unwrap();
        assert!(matches!(
            crate::soon(events.next()).await,
            Some(Ok(StreamResponse::Task(_)))
        ));
        drop(events);
        let seen = peer.until(|seen| seen.resets.len() == n).await;
        assert_eq!(
            (seen.resets, seen.connections),
            (vec![Reason::CANCEL; n], 1)
        );
    }
    // And so is one that has failed: nothing is left of it.
    let bad = ScriptedPeer::start(vec![grpc_head(), message(&[0xff]), Step::UntilReset]).await;
    let transport = plain_transport(&bad).await;
    let mut events = subscribe(&*transport).await.unwrap();
    let error = crate::soon(events.next()).await.unwrap().unwrap_err();
    assert_eq!(failure(&error).kind(), ErrorKind::NotA2a);
    let seen = bad.until(|seen| seen.resets.len() == 1).await;
    assert_eq!(seen.resets, [Reason::CANCEL]);
    assert!(
        crate::soon(events.next()).await.is_none(),
        "an error is the end"
    );
}

#[tokio::test]
async fn a_stream_whose_connection_is_cut_says_so_and_the_next_call_has_another() {
    let fixture = Fixture::open();
    let client = fixture.client();
    let transport = fixture.transport_with_token(&client, "a").await;
    let params = ServiceParams::new();
    let events = crate::soon(transport.send_streaming_message(&params, &says("hold"))).await;
    let mut events = events.unwrap();
    assert!(crate::soon(events.next()).await.unwrap().is_ok());
    fixture.server.cut_all();
    let mut rest: Vec<_> = crate::soon(events.collect()).await;
    let last = rest.pop().unwrap().unwrap_err();
    assert!(rest.iter().all(Result::is_ok));
    assert_eq!(failure(&last).kind(), ErrorKind::StreamCut, "{last}");
    assert_eq!(failure(&last).fault(), Fault::Network);

    assert_eq!(echoed(&*transport, &params, "again").await, "again");
    assert_eq!(
        (
            client.stats().connections_opened,
            client.stats().totals.signatures()
        ),
        (2, 2)
    );
}

#[tokio::test]
async fn an_agent_without_http2_is_not_called_at_all() {
    let options = CyclingOptions {
        alpn: Alpn::Http1,
        ..CyclingOptions::default()
    };
    let fixture = Fixture::open_with(options, |origin| agent(Echo::default(), card(origin)));
    let client = fixture.client();
    let transport = fixture.transport_with_token(&client, "a").await;
    let error = get_task(&*transport, &ServiceParams::new())
        .await
        .unwrap_err();
    let failed = failure(&error);
    assert_eq!(
        (failed.kind(), failed.fault()),
        (ErrorKind::NotHttp2, Fault::Peer)
    );
    assert!(
        !failed.may_have_been_processed() && failed.to_string().contains("ALPN"),
        "{failed}"
    );
    assert_eq!(
        (
            client.stats().connections_opened,
            fixture.server.counts().requests
        ),
        (1, 0)
    );

    // In plaintext nothing is negotiated: the client must be built for it.
    for (http, kind) in [
        (HttpVersions::Auto, ErrorKind::NotHttp2),
        (HttpVersions::Http1, ErrorKind::NotHttp2),
    ] {
        let builder = Client::builder().http_versions(http);
        let client = builder.allow_plaintext_on_loopback().build().unwrap();
        let error = error_in_plaintext(client).await;
        assert_eq!(failure(&error).kind(), kind, "{error}");
        assert!(error.message.contains("HttpVersions"), "{error}");
    }
}

#[tokio::test]
async fn calls_go_where_the_caller_wants_them_and_nowhere_else() {
    let fixture = Fixture::open();
    let client = fixture.client();
    let transports = fixture.transports(&client).token(fixture.token("a"));
    for (url, kind) in [
        ("localhost:1", ErrorKind::OtherOrigin),
        ("https://127.0.0.1", ErrorKind::OtherOrigin),
        (
            &format!("http://{}", fixture.authority()),
            ErrorKind::OtherOrigin,
        ),
        (
            &format!("user:pw@{}", fixture.authority()),
            ErrorKind::InvalidCall,
        ),
        ("", ErrorKind::InvalidCall),
        ("dns:///localhost:1", ErrorKind::InvalidCall),
    ] {
        let mut card = card("https://unused.example");
        card.supported_interfaces[2].url = url.to_owned();
        let created = transports
            .grpc()
            .create(&card, &card.supported_interfaces[2])
            .await;
        let error = created.map(|_| ()).unwrap_err();
        assert_eq!(failure(&error).kind(), kind, "{url}: {error}");
    }
    // A path is nothing to gRPC.
    let url = format!("https://{}/a2a/grpc", fixture.authority());
    let transport = super::transport(&*transports.grpc(), &url).await.unwrap();
    assert_eq!(echoed(&*transport, &ServiceParams::new(), "x").await, "x");

    // Plaintext is for clients that allow it.
    let error = error_in_plaintext(fixture.client()).await;
    assert_eq!(failure(&error).kind(), ErrorKind::Configuration, "{error}");
}

/// Why a call over `client` fails whose agent speaks plaintext.
async fn error_in_plaintext(client: Client) -> A2AError {
    let plain = PlainServer::start_with(|origin| agent(Echo::default(), card(origin)));
    let transports = Transports::new(client, &plain.origin()).unwrap();
    let transport = super::transport(&*transports.grpc(), &plain.addr().to_string())
        .await
        .unwrap();
    get_task(&*transport, &ServiceParams::new())
        .await
        .unwrap_err()
}

/// A source of these tokens, one after the other as they are refused.
pub(crate) struct Successive {
    tokens: Vec<AccessToken>,
    refused: AtomicUsize,
}

impl Successive {
    pub(crate) fn new(tokens: Vec<AccessToken>) -> Self {
        let refused = AtomicUsize::new(0);
        Self { tokens, refused }
    }

    /// How many tokens were refused.
    pub(crate) fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }
}

impl TokenSource for Successive {
    fn id(&self) -> TokenSourceId {
        TokenSourceId(7)
    }

    fn token(&self) -> BoxFuture<'_, Result<Token, bowline_token::Error>> {
        let at = self
            .refused
            .load(Ordering::Relaxed)
            .min(self.tokens.len() - 1);
        let token = Token::new(self.tokens[at].clone(), self.id());
        Box::pin(async { Ok(token) })
    }

    fn refused(&self, _: &Token) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}
