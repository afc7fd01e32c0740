//! A protected server, an agent that calls it, and a log of the requests that the server received.

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::any;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bowline_http_client::{AccessToken, Builder, Client, HttpVersions, Identity, Trust};
use bowline_proof::{EXPORTER_LABEL, PROOF_HEADER};
use bowline_reqwest::Transport;
use bowline_server::{
    BindingLayer, ConnectionFacts, ConnectionId, TokenError, TokenValidator, ValidToken,
};
use bowline_testkit::peers::{CyclingOptions, CyclingServer};
use bowline_testkit::pki::{Leaf, Pki};
use bowline_testkit::tls::ClientAuth;
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// For tests that run over each HTTP version.
pub(crate) const BOTH: [HttpVersions; 2] = [HttpVersions::Http1, HttpVersions::Http2];

pub(crate) struct Fixture {
    pub(crate) pki: Pki,
    pub(crate) agent: Leaf,
    pub(crate) log: RequestLog,
}

/// Requests as the server saw them, in order of request.
#[derive(Clone, Default)]
pub(crate) struct RequestLog(Arc<Mutex<Vec<ReceivedRequest>>>);

#[derive(Clone)]
pub(crate) struct ReceivedRequest {
    pub(crate) connection: ConnectionId,
    pub(crate) proofs: Vec<String>,
    pub(crate) path: String,
    pub(crate) headers: axum::http::HeaderMap,
}

impl RequestLog {
    pub(crate) fn all(&self) -> Vec<ReceivedRequest> {
        self.0.lock().unwrap().clone()
    }

    /// The proofs of all requests, each of which carried exactly one.
    pub(crate) fn proofs(&self) -> Vec<String> {
        let one = |request: ReceivedRequest| {
            assert_eq!(request.proofs.len(), 1, "{}", request.path);
            request.proofs[0].clone()
        };
        self.all().into_iter().map(one).collect()
    }
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let (pki, agent) = Pki::with_agent();
        Self {
            pki,
            agent,
            log: RequestLog::default(),
        }
    }

    /// A server that refuses every request without a proof.
    pub(crate) fn server(&self, options: CyclingOptions) -> CyclingServer {
        CyclingServer::start_with(&self.pki, options, |origin| {
            let layer =
                BindingLayer::new(TrustingValidator).origins([origin.parse().expect("an origin")]);
            let log = from_fn_with_state(self.log.clone(), record);
            routes().layer(layer).layer(log)
        })
    }

    /// The same without a verifier, and for clients without a certificate too.
    pub(crate) fn open_server(&self) -> CyclingServer {
        let options = CyclingOptions {
            client_auth: ClientAuth::Optional,
            ..CyclingOptions::default()
        };
        let log = from_fn_with_state(self.log.clone(), record);
        CyclingServer::start(&self.pki, options, routes().layer(log))
    }

    /// The agent's client, before `build`.
    pub(crate) fn builder(&self) -> Builder {
        let leaf = &self.agent;
        let identity = Identity::from_pem(leaf.chain_pem().as_bytes(), leaf.key_pem().as_bytes())
            .expect("a pair");
        let trust = Trust::from_der([self.pki.ca_der().clone()]).expect("a trust anchor");
        Client::builder().identity(identity).trust(trust)
    }

    pub(crate) fn client(&self) -> Client {
        self.builder().build().expect("a usable configuration")
    }

    pub(crate) fn transport(&self) -> Transport {
        Transport::new(self.client())
    }

    pub(crate) fn transport_over(&self, http: HttpVersions) -> Transport {
        self.transport_with(|builder| builder.http_versions(http))
    }

    /// With other settings than the usual ones.
    pub(crate) fn transport_with(&self, set: impl FnOnce(Builder) -> Builder) -> Transport {
        let client = set(self.builder()).build();
        Transport::new(client.expect("a usable configuration"))
    }

    /// A session-bound token of the agent.
    pub(crate) fn token(&self, name: &str) -> AccessToken {
        let cnf =
            json!({ "x5t#S256": self.agent.thumbprint().to_string(), "tls_exp": EXPORTER_LABEL });
        let claims = json!({ "sub": name, "cnf": cnf });
        let header = json!({ "alg": "ES256", "typ": "at+jwt" });
        let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let token = format!("{}.{}.c2ln", encode(header), encode(claims));
        AccessToken::new(token).expect("base64url is b64token")
    }

    /// A request as a user of reqwest makes it.
    pub(crate) fn request(
        &self,
        method: reqwest::Method,
        url: impl reqwest::IntoUrl,
    ) -> reqwest::RequestBuilder {
        reqwest::Client::new()
            .request(method, url)
            .bearer_auth(self.token("a").secret())
    }

    pub(crate) fn get(&self, url: impl reqwest::IntoUrl) -> reqwest::Request {
        self.request(reqwest::Method::GET, url)
            .build()
            .expect("a request")
    }
}

/// A request's body that is sent as it is written, and that the test ends or fails.
pub(crate) fn upload() -> (UnboundedSender<io::Result<String>>, reqwest::Body) {
    let (chunks, receiver) = unbounded_channel();
    let stream = futures_util::stream::unfold(receiver, async |mut receiver| {
        let chunk = receiver.recv().await?;
        Some((chunk, receiver))
    });
    (chunks, reqwest::Body::wrap_stream(stream))
}

/// A guard against hanging; no test depends on the limit.
pub(crate) async fn within<F: Future>(limit: Duration, future: F) -> F::Output {
    tokio::time::timeout(limit, future)
        .await
        .expect("the future ends in time")
}

/// Far longer than anything on loopback takes.
pub(crate) const A_MINUTE: Duration = Duration::from_secs(60);

fn routes() -> Router {
    Router::new()
        .route("/mirror", any(mirror))
        .route("/stream", any(stream))
        .route("/never", any(never))
        .route("/first-chunk-only", any(first_chunk_only))
        .route("/redirect", any(async || Redirect::to("/mirror")))
        .route(
            "/refuse",
            any(async || {
                (
                    StatusCode::UNAUTHORIZED,
                    [("www-authenticate", INVALID_PROOF)],
                )
            }),
        )
        .route("/nothing", any(async || StatusCode::NO_CONTENT))
        .route(
            "/teapot",
            any(async || (StatusCode::IM_A_TEAPOT, "short and stout")),
        )
}

const INVALID_PROOF: &str = "Bearer error=\"invalid_proof\"";

/// Describes the request that it received.
async fn mirror(request: Request) -> impl IntoResponse {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX)
        .await
        .expect("a whole body");
    let names = [
        "content-type",
        "content-length",
        "transfer-encoding",
        "x-one",
        "cookie",
    ];
    let fields = names.map(|name| {
        let values: Vec<_> = head
            .headers
            .get_all(name)
            .iter()
            .map(|v| v.to_str().expect("text"))
            .collect();
        (name.to_owned(), json!(values))
    });
    Json(json!({
        "method": head.method.as_str(),
        "version": format!("{:?}", head.version),
        "target": head.uri.path_and_query().map(|target| target.as_str()),
        "headers": Value::Object(fields.into_iter().collect()),
        "length": body.len(),
        "body": String::from_utf8_lossy(&body),
    }))
}

/// Sends each chunk back as it arrives.
async fn stream(request: Request) -> Body {
    Body::from_stream(request.into_body().into_data_stream())
}

async fn never() -> Response {
    std::future::pending().await
}

async fn first_chunk_only() -> Body {
    let first = futures_util::stream::iter([Ok::<_, io::Error>("first")]);
    Body::from_stream(first.chain(futures_util::stream::pending()))
}

async fn record(State(log): State<RequestLog>, request: Request, next: Next) -> Response {
    let facts = request
        .extensions()
        .get::<Arc<ConnectionFacts>>()
        .expect("the peer adds facts");
    let proofs = request.headers().get_all(PROOF_HEADER).iter();
    let received = ReceivedRequest {
        connection: facts.id(),
        proofs: proofs
            .map(|v| v.to_str().expect("text").to_owned())
            .collect(),
        path: request.uri().path().to_owned(),
        headers: request.headers().clone(),
    };
    log.0.lock().unwrap().push(received);
    next.run(request).await
}

/// Accepts every JWT, so that a test can write its own claims.
#[derive(Clone)]
struct TrustingValidator;

impl TokenValidator for TrustingValidator {
    async fn validate(&self, token: &AccessToken) -> Result<ValidToken, TokenError> {
        let payload = token.secret().split('.').nth(1).unwrap_or_default();
        let bytes = URL_SAFE_NO_PAD
            .decode(payload)
            .map_err(|_| TokenError::invalid("no JWT"))?;
        let claims = serde_json::from_slice(&bytes).map_err(|_| TokenError::invalid("no JWT"))?;
        Ok(ValidToken::new(claims))
    }
}
