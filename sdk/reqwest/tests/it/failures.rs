//! An error keeps its kind inside the error types of reqwest and reqwest-middleware.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use bowline_http_client::{ErrorKind as ClientErrorKind, Fault, Step, Timeouts};
use bowline_reqwest::{Error, ErrorKind, Transport};
use bowline_testkit::net::ClosedPort;
use bowline_testkit::peers::{CyclingOptions, MisbehavingPeer, Misbehaviour};
use futures_util::future::join;
use http::Extensions;
use reqwest::{Method, Request, Response};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Middleware, Next};

use crate::fixture::{A_MINUTE, BOTH, Fixture, upload, within};

/// Far longer than any test: only a test that advances the clock by hand gets there.
const AN_HOUR: Duration = Duration::from_secs(3600);

fn stack(transport: Transport) -> ClientWithMiddleware {
    ClientBuilder::new(reqwest::Client::new())
        .with(transport)
        .build()
}

fn found<'a>(error: &'a (dyn StdError + 'static)) -> &'a Error {
    Error::find(error).expect("an error of this crate inside")
}

#[tokio::test]
async fn a_lost_response_keeps_its_kind_through_a_middleware_stack() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    for (n, http) in (1..).zip(BOTH) {
        let stack = stack(fixture.transport_over(http));
        // Not a GET: bowline sends a repeatable request again by itself.
        let request = fixture.request(Method::POST, format!("{}/never", server.origin()));
        let call = stack.execute(request.build().unwrap());
        let cut = async {
            server.received(n).await;
            server.cut_all();
        };
        let error = within(A_MINUTE, join(call, cut)).await.0.unwrap_err();

        let inner = found(&error);
        assert_eq!(
            inner.kind(),
            ErrorKind::Client(ClientErrorKind::MayHaveBeenProcessed),
            "{http:?}: {inner}"
        );
        assert!(inner.may_have_been_processed());
        assert!(!inner.is_worth_another_try());
        assert_eq!(inner.fault(), Fault::Network);
        assert!(!inner.is_timeout());
        // Without this crate's help: anyhow's downcast, and bowline's own error among the sources.
        assert!(matches!(&error, reqwest_middleware::Error::Middleware(e) if e.is::<Error>()));
        let client = sources(&error).find_map(|e| e.downcast_ref::<bowline_http_client::Error>());
        assert_eq!(
            client.unwrap().kind(),
            ClientErrorKind::MayHaveBeenProcessed
        );
        assert_eq!(
            error.to_string(),
            client.unwrap().to_string(),
            "the whole message in one line"
        );
        let secret = fixture.token("a");
        assert!(!format!("{error:?} {error}").contains(secret.secret().split('.').nth(1).unwrap()));
    }
}

#[tokio::test]
async fn an_error_is_found_below_what_other_middlewares_wrap_around_it() {
    /// Wraps errors, as reqwest-retry does: the one way after a second sending, the other way
    /// without one.
    struct Wrapping(fn(reqwest_middleware::Error) -> Wrapped);

    #[derive(Debug, thiserror::Error)]
    enum Wrapped {
        #[error("after a retry")]
        Retried(#[source] reqwest_middleware::Error),
        #[error(transparent)]
        Transparent(reqwest_middleware::Error),
    }

    #[async_trait::async_trait]
    impl Middleware for Wrapping {
        async fn handle(
            &self,
            request: Request,
            extensions: &mut Extensions,
            next: Next<'_>,
        ) -> reqwest_middleware::Result<Response> {
            let result = next.run(request, extensions).await;
            result.map_err(|e| reqwest_middleware::Error::middleware((self.0)(e)))
        }
    }

    let fixture = Fixture::new();
    let stack = ClientBuilder::new(reqwest::Client::new())
        .with(Wrapping(Wrapped::Transparent))
        .with(Wrapping(Wrapped::Retried))
        .with(Wrapping(Wrapped::Transparent))
        .with(fixture.transport())
        .build();
    let error = stack
        .execute(fixture.get("http://example.com/"))
        .await
        .unwrap_err();
    assert_eq!(
        found(&error).kind(),
        ErrorKind::Client(ClientErrorKind::PlaintextRefused)
    );
    assert!(Error::find(&io::Error::other("another error")).is_none());
}

#[tokio::test]
async fn a_server_that_is_not_there_is_worth_another_try() {
    let fixture = Fixture::new();
    let closed = ClosedPort::new();
    let error = fixture
        .transport()
        .execute(fixture.get(format!("https://{}/", closed.addr())))
        .await
        .unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::Client(ClientErrorKind::Connect),
        "{error}"
    );
    assert!(error.is_worth_another_try());
    assert!(!error.may_have_been_processed());
}

#[tokio::test]
async fn a_request_that_cannot_be_sent_is_the_callers_fault() {
    let fixture = Fixture::new();
    let mine = fixture
        .request(Method::GET, "https://localhost/")
        .header("session-binding-proof", "mine");
    for (request, kind) in [
        (fixture.get("https://{name}/"), ErrorKind::InvalidUrl),
        (
            mine.build().unwrap(),
            ErrorKind::Client(ClientErrorKind::InvalidRequest),
        ),
        (
            fixture.get("http://localhost/"),
            ErrorKind::Client(ClientErrorKind::PlaintextRefused),
        ),
    ] {
        let error = fixture.transport().execute(request).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(error.fault(), Fault::Caller);
        assert!(!error.may_have_been_processed());
        assert!(!error.is_worth_another_try());
    }
}

#[tokio::test]
async fn a_failing_request_body_is_not_reported_as_a_failing_server() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    for http in BOTH {
        let (chunks, body) = upload();
        chunks.send(Ok("a part".to_owned())).unwrap();
        chunks
            .send(Err(io::Error::other("the disk is gone")))
            .unwrap();
        let request = fixture
            .request(Method::POST, format!("{}/mirror", server.origin()))
            .body(body);
        let error = stack(fixture.transport_over(http))
            .execute(request.build().unwrap())
            .await
            .unwrap_err();

        let inner = found(&error);
        assert_eq!(
            inner.kind(),
            ErrorKind::Client(ClientErrorKind::RequestBody),
            "{http:?}: {inner}"
        );
        assert_eq!(inner.fault(), Fault::Caller);
        assert!(inner.may_have_been_processed(), "a part of it was sent");
    }
}

#[tokio::test]
async fn a_truncated_response_body_fails_with_bowlines_error_inside() {
    let fixture = Fixture::new();
    let peer = MisbehavingPeer::start(&fixture.pki, Misbehaviour::CutMidBody);
    let response = fixture
        .transport()
        .execute(fixture.get(peer.origin()))
        .await
        .unwrap();
    assert_eq!(response.content_length(), Some(1000));
    let error = response.bytes().await.unwrap_err();
    let inner = found(&error);
    assert_eq!(
        inner.kind(),
        ErrorKind::Client(ClientErrorKind::Protocol),
        "{inner}"
    );
    assert!(inner.may_have_been_processed());
    assert!(!error.is_timeout());
}

#[tokio::test]
async fn a_requests_own_time_out_expires_before_the_head() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let request = fixture
        .request(Method::GET, format!("{}/never", server.origin()))
        .timeout(AN_HOUR);
    let stack = stack(fixture.transport());
    let call = stack.execute(request.build().unwrap());
    let wait = async {
        server.received(1).await;
        tokio::time::pause();
        tokio::time::advance(AN_HOUR).await;
    };
    let error = within(2 * AN_HOUR, join(call, wait)).await.0.unwrap_err();

    let inner = found(&error);
    assert_eq!(inner.kind(), ErrorKind::Timeout, "{inner}");
    assert_eq!(inner.fault(), Fault::Network);
    assert!(inner.is_timeout());
    assert!(inner.may_have_been_processed());
    assert!(!inner.is_worth_another_try());
    assert!(inner.client().is_none());
}

#[tokio::test]
async fn a_requests_own_time_out_expires_while_the_body_is_read() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    for http in BOTH {
        let url = format!("{}/first-chunk-only", server.origin());
        let request = fixture.request(Method::GET, url).timeout(AN_HOUR);
        let transport = fixture.transport_over(http);
        let mut response = within(A_MINUTE, transport.execute(request.build().unwrap()))
            .await
            .unwrap();
        assert_eq!(response.chunk().await.unwrap().unwrap(), "first");

        tokio::time::pause();
        tokio::time::advance(AN_HOUR).await;
        let error = within(2 * AN_HOUR, response.chunk()).await.unwrap_err();
        tokio::time::resume();

        assert!(error.is_timeout(), "reqwest recognises it: {error:?}");
        assert_eq!(found(&error).kind(), ErrorKind::Timeout, "{http:?}");
    }
}

#[tokio::test]
async fn the_bowline_clients_own_time_outs_say_which_step_was_slow() {
    let fixture = Fixture::new();
    let peer = MisbehavingPeer::start(&fixture.pki, Misbehaviour::SilentTcp);
    let mut timeouts = Timeouts::default();
    timeouts.tls_handshake = Duration::from_millis(50);
    let transport = fixture.transport_with(|builder| builder.timeouts(timeouts));
    let request = fixture.request(Method::GET, peer.origin()).timeout(AN_HOUR);
    let error = transport
        .execute(request.build().unwrap())
        .await
        .unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::Client(ClientErrorKind::Timeout(Step::TlsHandshake))
    );
    assert!(error.is_timeout());
    assert!(error.is_worth_another_try());
}

#[tokio::test]
async fn a_time_out_that_the_clock_cannot_represent_is_ignored() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let url = format!("{}/nothing", server.origin());
    let request = fixture.request(Method::GET, url).timeout(Duration::MAX);
    let response = fixture
        .transport()
        .execute(request.build().unwrap())
        .await
        .unwrap();
    assert_eq!(response.status(), 204);
}

fn sources<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}
