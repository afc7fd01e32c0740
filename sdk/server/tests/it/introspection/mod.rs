//! Introspection (RFC 7662) at an authorization server on real TLS that counts requests,
//! authenticates, fails, or answers malformed.

mod caching;
mod confirmation;
mod limits;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Path, Request};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{any, post};
use bowline_proof::{AccessToken, EXPORTER_LABEL};
use bowline_server::{
    AcceptPolicy, BindingLayer, ClientAuth, ConnectionFacts, ExpectedClaims, IntrospectionEndpoint,
    IntrospectionValidator, IntrospectionValidatorBuilder, TokenErrorKind, TokenValidator,
};
use bowline_testkit::net::ClosedPort;
use http::{HeaderMap, StatusCode};
use rustls_pki_types::UnixTime;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::authority::{AUDIENCE, ISSUER};
use crate::fixture::*;
use crate::log::Log;

/// An authorization server that gives every request the same response.
struct Introspector {
    server: TestServer,
    answer: Arc<Mutex<Value>>,
    requests: Arc<Mutex<Vec<IntrospectionRequest>>>,
    /// A permit for each request to `/gated` and `/busy`.
    arrived: Arc<Semaphore>,
    /// A request to `/gated` takes one of these before it is answered.
    gate: Arc<Semaphore>,
}

/// One introspection request, and how its sender authenticated.
#[derive(Clone, Debug)]
struct IntrospectionRequest {
    authorization: Option<String>,
    thumbprint: Option<String>,
    form: String,
}

impl Introspector {
    async fn start(fixture: &Fixture, answer: Value) -> Self {
        let answer = Arc::new(Mutex::new(answer));
        let requests: Arc<Mutex<Vec<IntrospectionRequest>>> = Arc::default();
        let (said, heard) = (answer.clone(), requests.clone());
        let introspect =
            move |facts: Extension<Arc<ConnectionFacts>>, headers: HeaderMap, form: String| {
                let field = headers
                    .get("authorization")
                    .map(|field| field.to_str().unwrap().to_owned());
                heard.lock().unwrap().push(IntrospectionRequest {
                    authorization: field,
                    thumbprint: facts
                        .certificate()
                        .map(|known| known.thumbprint().to_string()),
                    form,
                });
                let answer = said.lock().unwrap().clone();
                async move { axum::Json(answer) }
            };
        let (arrived, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (tell, wait) = (arrived.clone(), gate.clone());
        let gated = move || {
            tell.add_permits(1);
            let wait = wait.clone();
            async move {
                wait.acquire().await.unwrap().forget();
                active().to_string()
            }
        };
        let tell = arrived.clone();
        // Answers with this `Retry-After`, which may be malformed.
        let busy = move |Path(when): Path<String>| {
            tell.add_permits(1);
            async move { (StatusCode::TOO_MANY_REQUESTS, [("retry-after", when)]) }
        };
        let router = Router::new()
            .route("/introspect", post(introspect))
            .route("/gated", post(gated))
            .route("/busy/{when}", post(busy))
            .merge(bad_endpoints());
        let listener = fixture
            .listener(fixture.tls_with(ClientAuth::Optional(fixture.ca.roots().into())))
            .await;
        let server = TestServer::start(listener, router, fixture.options());
        Self {
            server,
            answer,
            requests,
            arrived,
            gate,
        }
    }

    fn respond_with(&self, answer: Value) {
        *self.answer.lock().unwrap() = answer;
    }

    fn request_count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    fn last_request(&self) -> IntrospectionRequest {
        self.requests
            .lock()
            .unwrap()
            .last()
            .cloned()
            .expect("no request yet")
    }

    fn endpoint(&self, fixture: &Fixture, path: &str) -> IntrospectionEndpoint {
        let url = format!("https://localhost:{}{path}", self.server.addr.port());
        let endpoint = IntrospectionEndpoint::new(&url).unwrap();
        endpoint
            .trust_only_pem(fixture.ca.pem().as_bytes())
            .unwrap()
    }

    fn builder(&self, fixture: &Fixture) -> IntrospectionValidatorBuilder {
        self.builder_with(fixture, ExpectedClaims::new(AUDIENCE))
    }

    fn builder_with(
        &self,
        fixture: &Fixture,
        expected: ExpectedClaims,
    ) -> IntrospectionValidatorBuilder {
        let endpoint = self.endpoint(fixture, "/introspect");
        IntrospectionValidator::builder(expected, endpoint)
    }
}

/// Endpoints that fail or answer malformed.
fn bad_endpoints() -> Router {
    let yes = || async { active().to_string() };
    Router::new()
        .route("/yes", any(yes))
        .route("/redirect", any(|| async { Redirect::temporary("/yes") }))
        .route("/see-other", any(|| async { Redirect::to("/yes") }))
        .route(
            "/error",
            any(|| async { (StatusCode::INTERNAL_SERVER_ERROR, active().to_string()) }),
        )
        .route(
            "/created",
            any(|| async { (StatusCode::CREATED, active().to_string()) }),
        )
        .route(
            "/refused",
            any(|| async { (StatusCode::UNAUTHORIZED, r#"{"active":false}"#) }),
        )
        .route("/endless", any(|| async { endless() }))
        .route(
            "/silent",
            any(|| async { std::future::pending::<Response>().await }),
        )
        // The query of the request, as the response.
        .route(
            "/echo",
            any(|request: Request| async move {
                let query = request.uri().query().unwrap_or_default().to_owned();
                let answer = form_urlencoded::parse(format!("a={query}").as_bytes())
                    .next()
                    .unwrap()
                    .1
                    .into_owned();
                answer.into_response()
            }),
        )
}

/// An endless response of spaces, which JSON allows.
fn endless() -> Response {
    let spaces = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 4096]));
    Response::new(Body::from_stream(spaces))
}

fn active() -> Value {
    json!({ "active": true, "aud": AUDIENCE, "exp": 4_000_000_000_u64, "scope": "read", "sub": "agent" })
}

fn active_but(name: &str, value: Value) -> Value {
    let mut answer = active();
    answer[name] = value;
    answer
}

fn opaque(name: &str) -> AccessToken {
    AccessToken::new(name).unwrap()
}

async fn outcome(
    validator: &IntrospectionValidator,
    token: &AccessToken,
) -> Result<Value, (TokenErrorKind, String)> {
    match within(validator.validate(token)).await {
        Ok(valid) => Ok(valid.claims().clone()),
        Err(error) => Err((error.kind(), error.detail().to_owned())),
    }
}

#[tokio::test]
async fn an_opaque_token_is_bound_to_what_the_response_says() {
    let fixture = Fixture::new();
    let bound = json!({ "x5t#S256": fixture.agent.thumbprint(), "tls_exp": EXPORTER_LABEL });
    let authority = Introspector::start(&fixture, active_but("cnf", bound)).await;
    let layer =
        BindingLayer::new(authority.builder(&fixture).build()).policy(AcceptPolicy::RequireSession);
    let listener = fixture.listener(fixture.tls()).await;
    let server = TestServer::start(listener, binding_report().layer(layer), fixture.options());

    let token = opaque("2YotnFZFEjr1zCsicMWpAA");
    let mut connection = HttpConnection::connect(server.addr, &fixture.client("h2")).await;
    let proof = connection.proof(&fixture.agent.proof_key(), &token);
    for _ in 0..3 {
        connection.assert_passes(&token, &proof).await;
    }
    connection.assert_refused(&token, None, "RS-4").await;
    assert_eq!(authority.request_count(), 1);

    let thief = fixture.ca.client("thief");
    let mut other = HttpConnection::connect(
        server.addr,
        &fixture.client_as(Some(&thief), "h2", rustls::ALL_VERSIONS),
    )
    .await;
    let own = other.proof(&thief.proof_key(), &token);
    other.assert_refused(&token, Some(&own), "RS-3").await;

    authority.respond_with(json!({ "active": false }));
    let made_up = opaque("made-up");
    let proof = connection.proof(&fixture.agent.proof_key(), &made_up);
    connection
        .assert_refused(&made_up, Some(&proof), "RS-2")
        .await;
}

#[tokio::test]
async fn it_authenticates_by_certificate_secret_or_token() {
    let fixture = Fixture::new();
    let authority = Introspector::start(&fixture, active()).await;
    let identity = format!(
        "{}{}",
        fixture.agent.certificate_pem,
        fixture.agent.key.serialize_pem()
    );
    let endpoint = || authority.endpoint(&fixture, "/introspect");
    let ask = async |endpoint: IntrospectionEndpoint| {
        let validator =
            IntrospectionValidator::builder(ExpectedClaims::new(AUDIENCE), endpoint).build();
        outcome(&validator, &opaque("a+token/==")).await.unwrap();
        authority.last_request()
    };

    let asked = ask(endpoint()
        .mutual_tls("the server", identity.as_bytes())
        .unwrap())
    .await;
    assert_eq!(asked.thumbprint, Some(fixture.agent.thumbprint()));
    assert_eq!(asked.authorization, None);
    assert_eq!(
        asked.form,
        "token=a%2Btoken%2F%3D%3D&token_type_hint=access_token&client_id=the+server"
    );

    let asked = ask(endpoint().basic("a:b", "p@ss wörd%")).await;
    // base64("a%3Ab:p%40ss+w%C3%B6rd%25"): each half is form-encoded first (RFC 6749 section
    // 2.3.1).
    assert_eq!(
        asked.authorization.as_deref(),
        Some("Basic YSUzQWI6cCU0MHNzK3clQzMlQjZyZCUyNQ==")
    );
    assert_eq!(asked.thumbprint, None);
    assert_eq!(
        asked.form,
        "token=a%2Btoken%2F%3D%3D&token_type_hint=access_token"
    );

    let asked = ask(endpoint().bearer(&opaque("own.token"))).await;
    assert_eq!(asked.authorization.as_deref(), Some("Bearer own.token"));
}

#[tokio::test]
async fn rs_2_checks_the_members_of_the_response() {
    let fixture = Fixture::new();
    let authority = Introspector::start(&fixture, active()).await;
    let now = UnixTime::now().as_secs();
    let cases = [
        ("active", json!(false), "not active"),
        (
            "aud",
            json!("https://other.example.com"),
            "another audience",
        ),
        (
            "aud",
            json!(["https://other.example.com"]),
            "another audience",
        ),
        ("aud", Value::Null, "another audience"),
        ("iss", json!("https://other.example.com"), "another issuer"),
        ("iss", Value::Null, "another issuer"),
        ("exp", json!(now - 61), "has expired"),
        ("nbf", json!(now + 120), "not valid yet"),
        ("token_type", json!("refresh_token"), "not an access token"),
    ];
    for (index, (name, value, why)) in cases.into_iter().enumerate() {
        let expected = ExpectedClaims::new(AUDIENCE).issuer(ISSUER);
        let validator = authority.builder_with(&fixture, expected.clone()).build();
        let token = opaque(&format!("token-{index}"));
        authority.respond_with(active_but("iss", ISSUER.into()));
        assert!(outcome(&validator, &token).await.is_ok());

        let mut spoilt = active_but("iss", ISSUER.into());
        match value {
            Value::Null => drop(spoilt.as_object_mut().unwrap().remove(name)),
            value => spoilt[name] = value,
        }
        authority.respond_with(spoilt);
        let validator = authority.builder_with(&fixture, expected).build();
        let (kind, detail) = outcome(&validator, &token).await.unwrap_err();
        assert_eq!(kind, TokenErrorKind::Invalid, "{name}");
        assert!(detail.contains(why), "{name}: {detail}");
    }
    // Members that may be absent, and members that may be there.
    authority.respond_with(
        json!({ "active": true, "aud": ["x", AUDIENCE], "token_type": "bearer", "exp": 4e9 }),
    );
    assert!(
        outcome(&authority.builder(&fixture).build(), &opaque("token"))
            .await
            .is_ok()
    );
    // Some servers write `null` for what is absent, and a member that is not checked cannot spoil
    // the answer.
    for (name, value) in [
        ("exp", Value::Null),
        ("nbf", Value::Null),
        ("iss", Value::Null),
        ("token_type", Value::Null),
        ("iss", json!([ISSUER])),
        ("sub", json!(7)),
        ("exp", json!(4e9)),
    ] {
        authority.respond_with(active_but(name, value));
        let validator = authority.builder(&fixture).build();
        assert!(
            outcome(&validator, &opaque("token")).await.is_ok(),
            "{name}"
        );
    }
    authority.respond_with(json!({ "active": true }));
    let lenient = authority
        .builder(&fixture)
        .accept_missing_audience(true)
        .build();
    assert!(outcome(&lenient, &opaque("token")).await.is_ok());
    authority.respond_with(json!({ "active": true, "aud": "https://other.example.com" }));
    assert!(outcome(&lenient, &opaque("another")).await.is_err());
}

#[tokio::test]
async fn a_malformed_response_makes_a_token_neither_valid_nor_invalid() {
    let fixture = Fixture::new();
    let authority = Introspector::start(&fixture, active()).await;
    let said = |text: &str| {
        format!(
            "/echo?{}",
            form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>()
        )
    };
    let cases = [
        ("/redirect".to_owned(), "redirects"),
        ("/see-other".to_owned(), "redirects"),
        ("/error".to_owned(), "an error"),
        ("/created".to_owned(), "an error"),
        ("/absent".to_owned(), "an error"),
        ("/refused".to_owned(), "credentials"),
        ("/busy/30".to_owned(), "an error"),
        ("/endless".to_owned(), "cannot be reached"),
        (said(""), "JSON"),
        (said("active"), "JSON"),
        (said("{\"active\":true"), "JSON"),
        (said(&"[".repeat(1_000)), "JSON"),
        (said("[]"), "whether the token is active"),
        (said("true"), "whether the token is active"),
        (said("{}"), "whether the token is active"),
        (said(r#"{"active":"true"}"#), "whether the token is active"),
        (said(r#"{"active":1}"#), "whether the token is active"),
        (
            said(&active_but("exp", json!("soon")).to_string()),
            "wrong type",
        ),
        (
            said(&active_but("exp", json!(-1)).to_string()),
            "wrong type",
        ),
        (
            said(&active_but("nbf", json!({})).to_string()),
            "wrong type",
        ),
        (said(&active_but("aud", json!(7)).to_string()), "wrong type"),
        (
            said(&active_but("aud", json!([7])).to_string()),
            "wrong type",
        ),
        (
            said(r#"{"active":false,"active":true}"#),
            "whether the token is active",
        ),
    ];
    for (path, why) in cases {
        let validator = IntrospectionValidator::builder(
            ExpectedClaims::new(AUDIENCE),
            authority.endpoint(&fixture, &path),
        )
        .timeout(HANG)
        .build();
        let (kind, detail) = outcome(&validator, &opaque("token")).await.unwrap_err();
        assert_eq!(kind, TokenErrorKind::Unavailable, "{path}");
        assert!(detail.contains(why), "{path}: {detail}");
    }
    let validator = IntrospectionValidator::builder(
        ExpectedClaims::new(AUDIENCE),
        authority.endpoint(&fixture, "/yes"),
    )
    .build();
    assert!(
        outcome(&validator, &opaque("token")).await.is_ok(),
        "where the redirects point"
    );
    let validator = IntrospectionValidator::builder(
        ExpectedClaims::new(AUDIENCE),
        authority.endpoint(&fixture, &said(&active().to_string())),
    );
    assert!(
        outcome(&validator.build(), &opaque("token")).await.is_ok(),
        "the echo works"
    );
}

#[tokio::test]
async fn an_endpoint_that_is_silent_unreachable_or_untrusted_makes_tokens_unavailable() {
    let fixture = Fixture::new();
    let authority = Introspector::start(&fixture, active()).await;
    // The endpoint never answers, so a short limit does not make the test depend on timing.
    let short = Duration::from_millis(200);
    let unavailable = async |endpoint: IntrospectionEndpoint, limit: Duration| {
        let validator =
            IntrospectionValidator::builder(ExpectedClaims::new(AUDIENCE), endpoint).timeout(limit);
        let (kind, detail) = outcome(&validator.build(), &opaque("token"))
            .await
            .unwrap_err();
        assert_eq!(kind, TokenErrorKind::Unavailable);
        detail
    };
    assert!(
        unavailable(authority.endpoint(&fixture, "/silent"), short)
            .await
            .contains("in time")
    );

    let stranger = crate::pki::Ca::new("stranger");
    let url = format!(
        "https://localhost:{}/introspect",
        authority.server.addr.port()
    );
    let misled = IntrospectionEndpoint::new(&url)
        .unwrap()
        .trust_only_pem(stranger.pem().as_bytes())
        .unwrap();
    assert!(
        unavailable(misled, HANG)
            .await
            .contains("cannot be reached")
    );
    assert_eq!(authority.request_count(), 0, "the token was not sent");

    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", unused.local_addr().unwrap());
    let endpoint = IntrospectionEndpoint::new(&url).unwrap();
    // Accepts the connection and never answers.
    assert!(unavailable(endpoint, short).await.contains("in time"));
    let closed = ClosedPort::new();
    let url = format!("http://{}/", closed.addr());
    let endpoint = IntrospectionEndpoint::new(&url).unwrap();
    assert!(
        unavailable(endpoint, HANG)
            .await
            .contains("cannot be reached")
    );
}

#[test]
fn an_endpoint_over_which_tokens_could_be_read_is_refused() {
    for url in [
        "http://authority.example.com/",
        "https://user:secret@localhost/",
        "ftp://localhost/",
        "",
    ] {
        let error = IntrospectionEndpoint::new(url).unwrap_err().to_string();
        assert!(
            error.starts_with("the introspection endpoint ") && !error.contains("secret"),
            "{error}"
        );
    }
    let endpoint = || IntrospectionEndpoint::new("https://localhost/").unwrap();
    assert!(endpoint().trust_only_pem(b"").is_err());
    assert!(endpoint().mutual_tls("client", b"nonsense").is_err());
}

#[tokio::test]
async fn ex_7_neither_tokens_nor_credentials_are_shown_or_logged_even_at_trace() {
    let log = Log::of_the_process();
    let fixture = Fixture::new();
    let authority = Introspector::start(&fixture, active()).await;
    let (secret, token) = ("open-sesame-4711", opaque("a-stolen-token-0815"));
    for path in ["/introspect", "/refused", "/error", "/endless", "/silent"] {
        let endpoint = authority.endpoint(&fixture, path).basic("client", secret);
        let builder = IntrospectionValidator::builder(ExpectedClaims::new(AUDIENCE), endpoint)
            .timeout(Duration::from_millis(200));
        let validator = builder.build();
        let shown = format!(
            "{validator:?} {:?}",
            within(validator.validate(&token)).await
        );
        assert!(
            !shown.contains(secret) && !shown.contains(token.secret()),
            "{shown}"
        );
    }
    let logged = log.text();
    assert!(
        logged.contains("introspection failed"),
        "the log is the one that is searched"
    );
    let basic = "Y2xpZW50Om9wZW4tc2VzYW1lLTQ3MTE";
    for hidden in [secret, token.secret(), basic] {
        assert!(!logged.contains(hidden), "a secret was logged");
    }
}
