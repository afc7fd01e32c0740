//! T5 and T6: a token that was sent to one service, and that this service or an attacker presents
//! elsewhere. Nothing is mocked: the tests use bowline's client, its verifier with keys fetched
//! from the authority, and the authority.

mod exchanged;
mod replayed;

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use bowline_http_client::{AccessToken, Body, Client, Identity, Trust};
use bowline_proof::PROOF_HEADER;
use bowline_server::{
    BindingLayer, ExpectedClaims, JwksUrl, JwtValidator, ServerEvent, VerifiedBinding,
};
use bowline_testkit::authority::{
    self, Authority, AuthorityOptions, ClientAuthentication, TokenRequest,
};
use bowline_testkit::net::text;
use bowline_testkit::peers::{CyclingOptions, CyclingServer};
use bowline_testkit::pki::{KeyKind, Leaf, LeafSpec, Pki};
use http::header::AUTHORIZATION;
use http::{HeaderValue, StatusCode};
use http_body_util::Full;
use serde_json::Value;

use crate::authority::{ACCESS_TOKEN, B, C, EXCHANGE, assertion_claims, sign};

/// A calls B; B exchanges A's token and calls C. A attacker has a certificate of the same
/// authority.
struct Fixture {
    pki: Pki,
    authority: Authority,
    a: Leaf,
    b: Leaf,
    attacker: Leaf,
    /// Signs the assertions of the client `attacker-with-a-key`.
    attacker_key: Leaf,
}

impl Fixture {
    fn new() -> Self {
        let pki = Pki::new();
        let [a, b, attacker] = ["a", "b", "attacker"].map(|name| pki.client(name, KeyKind::P256));
        let attacker_key = Leaf::self_signed(&LeafSpec::client("key"));
        let service = |id: &str, resource: &str| authority::Client {
            resources: vec![resource.to_owned()],
            ..authority::Client::new(id)
        };
        let with_a_key = authority::Client {
            authentication: ClientAuthentication::private_key_jwt(&attacker_key),
            ..authority::Client::new("attacker-with-a-key")
        };
        let options = AuthorityOptions {
            clients: vec![service("b", B), service("c", C), with_a_key],
            ..AuthorityOptions::default()
        };
        Self {
            authority: Authority::start(&pki, options),
            pki,
            a,
            b,
            attacker,
            attacker_key,
        }
    }

    /// A session-bound token of A.
    fn token_for(&self, audiences: &[&str]) -> AccessToken {
        let request = TokenRequest::session_bound("a", self.a.thumbprint());
        let request = audiences
            .iter()
            .fold(request, |request, aud| request.audience(*aud));
        AccessToken::new(self.authority.issue(&request)).unwrap()
    }

    /// An assertion of the client `attacker-with-a-key`.
    fn attackers_assertion(&self) -> String {
        let claims = assertion_claims(&self.authority, "attacker-with-a-key");
        sign(&self.attacker_key, &claims)
    }

    fn client(&self, leaf: &Leaf) -> Client {
        let identity =
            Identity::from_pem(leaf.chain_pem().as_bytes(), leaf.key_pem().as_bytes()).unwrap();
        let trust = Trust::from_der([self.pki.ca_der().clone()]).unwrap();
        Client::builder()
            .identity(identity)
            .trust(trust)
            .build()
            .unwrap()
    }

    /// C answers with the claims of the caller's token.
    fn c(&self) -> Service {
        let claims = async |Extension(binding): Extension<VerifiedBinding>| {
            axum::Json(binding.claims().clone())
        };
        self.service(C, Router::new().route("/", get(claims)))
    }

    /// B forwards a call to C, with a token of its own (RFC 8693), and answers with C's answer.
    fn b(&self, c: &Service) -> Service {
        let next = NextHop {
            client: self.client(&self.b),
            token_url: self.authority.mtls_token_url(),
            url: c.server.origin(),
        };
        self.service(
            B,
            Router::new()
                .route("/", get(pass_on))
                .with_state(Arc::new(next)),
        )
    }

    /// A service behind the verifier, with the authority's keys fetched over the network.
    fn service(&self, audience: &str, router: Router) -> Service {
        let jwks = JwksUrl::new(&self.authority.jwks_url()).unwrap();
        let jwks = jwks
            .trust_only_pem(self.authority.ca_pem().as_bytes())
            .unwrap();
        let validator = JwtValidator::builder(
            ExpectedClaims::new(audience).issuer(self.authority.issuer()),
            jwks,
        )
        .build();
        let seen = Arc::new(Seen::default());
        let observer = Arc::clone(&seen);
        let observe = move |event: &ServerEvent| observer.event(event);
        let layer = BindingLayer::new(validator).observer(observe);
        let router = router
            .layer(from_fn_with_state(Arc::clone(&seen), Seen::caller))
            .layer(layer);
        Service {
            server: CyclingServer::start(&self.pki, CyclingOptions::default(), router),
            seen,
        }
    }
}

struct Service {
    server: CyclingServer,
    seen: Arc<Seen>,
}

impl Service {
    /// The id of the check that refused the last request; `None` if it passed.
    fn refused_by(&self) -> Option<&'static str> {
        match self
            .seen
            .last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
        {
            Some(ServerEvent::Refused { check, .. }) => Some(check.id()),
            _ => None,
        }
    }

    /// The header fields of the last request that passed the verifier, as the service's operator
    /// can read them.
    fn captured(&self) -> HeaderMap {
        let captured = self
            .seen
            .captured
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        assert!(captured.contains_key(AUTHORIZATION) && captured.contains_key(PROOF_HEADER));
        captured
    }
}

/// The last event of the verifier, and the last request behind it.
#[derive(Default)]
struct Seen {
    last: Mutex<Option<ServerEvent>>,
    captured: Mutex<HeaderMap>,
}

impl Seen {
    fn event(&self, event: &ServerEvent) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(*event);
    }

    async fn caller(State(seen): State<Arc<Self>>, request: Request, next: Next) -> Response {
        *seen.captured.lock().unwrap_or_else(PoisonError::into_inner) = request.headers().clone();
        next.run(request).await
    }
}

struct NextHop {
    client: Client,
    token_url: String,
    url: String,
}

/// AS-3: the verifier in front has checked that the token came over the connection that its proof
/// was made for.
async fn pass_on(State(next): State<Arc<NextHop>>, headers: HeaderMap) -> (StatusCode, String) {
    let token = AccessToken::from_authorization(&headers[AUTHORIZATION]).unwrap();
    let (status, answer) = exchange(&next.client, &next.token_url, "b", &token, C).await;
    if status != StatusCode::OK {
        return (StatusCode::BAD_GATEWAY, answer.to_string());
    }
    let own = AccessToken::new(answer["access_token"].as_str().unwrap()).unwrap();
    let response = call(&next.client, &next.url, &own).await;
    (response.status(), text(response).await)
}

/// RFC 8693, through bowline's client.
async fn exchange(
    client: &Client,
    token_url: &str,
    client_id: &str,
    token: &AccessToken,
    resource: &str,
) -> (StatusCode, Value) {
    let form = form_urlencoded::Serializer::new(String::new())
        .extend_pairs([
            ("grant_type", EXCHANGE),
            ("client_id", client_id),
            ("subject_token", token.secret()),
            ("subject_token_type", ACCESS_TOKEN),
            ("resource", resource),
        ])
        .finish();
    let request = http::Request::post(token_url)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::from(form))
        .unwrap();
    let response = client.send(request).await.unwrap();
    let status = response.status();
    (status, serde_json::from_str(&text(response).await).unwrap())
}

async fn call(client: &Client, url: &str, token: &AccessToken) -> http::Response<Body> {
    let request = http::Request::get(url).extension(token.clone());
    client
        .send(request.body(Full::<bytes::Bytes>::default()).unwrap())
        .await
        .unwrap()
}

fn challenge(field: &HeaderValue) -> &str {
    field.to_str().unwrap()
}
