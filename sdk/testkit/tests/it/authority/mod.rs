//! The authorization server, with raw HTTP requests.

mod clients;
mod dpop;
mod exchange;
mod faults;
mod grants;
mod introspection;

use std::time::{Duration, SystemTime};

use bowline_testkit::authority::{Authority, AuthorityOptions, Client};
use bowline_testkit::pki::{KeyKind, Leaf, Pki};
use bowline_testkit::tls::TlsOptions;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde_json::{Value, json};

use crate::client::{Http, soon};

const FORM: &str = "application/x-www-form-urlencoded";
const AGENT: &str = "grant_type=client_credentials&client_id=agent";

/// The resource identifiers of two services.
pub(crate) const B: &str = "https://b.example";
pub(crate) const C: &str = "https://c.example";

pub(crate) const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
pub(crate) const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

fn start(pki: &Pki) -> Authority {
    Authority::start(pki, AuthorityOptions::default())
}

fn with_clients(pki: &Pki, clients: impl Into<Vec<Client>>) -> Authority {
    let options = AuthorityOptions {
        clients: clients.into(),
        ..AuthorityOptions::default()
    };
    Authority::start(pki, options)
}

fn agent(pki: &Pki) -> Leaf {
    pki.client("agent", KeyKind::P256)
}

/// A connection to the mutual-TLS port.
async fn client(authority: &Authority, pki: &Pki, identity: Option<&Leaf>) -> Http {
    let tls = TlsOptions::default().client(pki, identity);
    Http::connect(&tls, authority.mtls_addr()).await
}

async fn post(client: &mut Http, content_type: &str, body: &str) -> Response<Value> {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", content_type.parse().unwrap());
    post_to(client, "/token", headers, body).await
}

async fn post_to(client: &mut Http, path: &str, headers: HeaderMap, body: &str) -> Response<Value> {
    let mut request = Request::post(format!("https://localhost{path}"))
        .header("host", "localhost")
        .body(Full::from(Bytes::from(body.to_owned())))
        .unwrap();
    request.headers_mut().extend(headers);
    soon(async {
        let (head, body) = client.send(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Response::from_parts(head, serde_json::from_slice(&body).unwrap())
    })
    .await
}

/// A request on a connection of its own.
pub(crate) struct Ask<'a> {
    pki: &'a Pki,
    authority: &'a Authority,
    identity: Option<&'a Leaf>,
    is_plain: bool,
    path: &'static str,
    headers: HeaderMap,
}

impl<'a> Ask<'a> {
    /// To the token endpoint of the mutual-TLS port, without a certificate.
    pub(crate) fn new(pki: &'a Pki, authority: &'a Authority) -> Self {
        Self {
            pki,
            authority,
            identity: None,
            is_plain: false,
            path: "/token",
            headers: HeaderMap::new(),
        }
    }

    pub(crate) fn by(mut self, identity: &'a Leaf) -> Self {
        self.identity = Some(identity);
        self
    }

    /// On the port that asks for no certificate, so none is sent.
    pub(crate) fn plain(mut self) -> Self {
        self.is_plain = true;
        self
    }

    fn path(mut self, path: &'static str) -> Self {
        self.path = path;
        self
    }

    fn header(mut self, name: &'static str, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    async fn send(mut self, form: &[(&str, &str)]) -> Response<Value> {
        let form: String = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        self.headers
            .insert("content-type", HeaderValue::from_static(FORM));
        self.send_body(&form).await
    }

    async fn send_body(self, body: &str) -> Response<Value> {
        let addr = if self.is_plain {
            self.authority.addr()
        } else {
            self.authority.mtls_addr()
        };
        let tls = TlsOptions::default().client(self.pki, self.identity);
        let mut client = Http::connect(&tls, addr).await;
        post_to(&mut client, self.path, self.headers, body).await
    }

    /// Sends a request that must be granted, and returns the answer.
    pub(crate) async fn granted(self, form: &[(&str, &str)]) -> Value {
        let response = self.send(form).await;
        assert_eq!(response.status(), StatusCode::OK, "{}", response.body());
        response.into_body()
    }

    /// Sends a request that must be refused, and returns `error` and `error_description`.
    pub(crate) async fn refused(self, form: &[(&str, &str)]) -> (String, String) {
        let response = self.send(form).await;
        let error = &response.body()["error"];
        let expected = match error.as_str() {
            Some("invalid_client") => StatusCode::UNAUTHORIZED,
            Some(_) => StatusCode::BAD_REQUEST,
            None => panic!("granted: {form:?}"),
        };
        assert_eq!(response.status(), expected);
        assert_eq!(response.headers()["cache-control"], "no-store");
        let text = |member| response.body()[member].as_str().unwrap().to_owned();
        (text("error"), text("error_description"))
    }
}

/// Requests a token for `identity` with `form`, and returns its verified claims.
async fn granted(authority: &Authority, pki: &Pki, identity: &Leaf, form: &str) -> Value {
    let mut client = client(authority, pki, Some(identity)).await;
    let response = post(&mut client, FORM, form).await;
    assert_eq!(response.status(), StatusCode::OK, "{}", response.body());
    claims(authority, response.body())
}

/// The verified claims of the token in an answer.
fn claims(authority: &Authority, answer: &Value) -> Value {
    verified(authority, answer["access_token"].as_str().unwrap()).unwrap()
}

/// Verifies a token as a resource server would, with the current key set.
fn verified(authority: &Authority, token: &str) -> jsonwebtoken::errors::Result<Value> {
    let keys: JwkSet = serde_json::from_value(authority.jwks()).unwrap();
    let header = jsonwebtoken::decode_header(token).unwrap();
    assert_eq!(header.typ.as_deref(), Some("at+jwt"));
    let key = keys.find(&header.kid.unwrap()).expect("a published key");
    let mut validation = Validation::new(Algorithm::ES256);
    validation.set_issuer(&[authority.issuer()]);
    validation.validate_aud = false;
    let key = DecodingKey::from_jwk(key).unwrap();
    jsonwebtoken::decode(token, &key, &validation).map(|token| token.claims)
}

/// The claims of a valid assertion (RFC 7523 §3), for a minute.
pub(crate) fn assertion_claims(authority: &Authority, id: &str) -> Value {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let jti = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    json!({
        "iss": id,
        "sub": id,
        "aud": authority.issuer(),
        "exp": now() + 60,
        "jti": jti.to_string(),
    })
}

/// Signs an assertion with the key of `leaf`, a P-256 one.
pub(crate) fn sign(leaf: &Leaf, claims: &Value) -> String {
    let header = Header {
        kid: leaf.jwk()["kid"].as_str().map(str::to_owned),
        ..Header::new(Algorithm::ES256)
    };
    let key = EncodingKey::from_ec_der(leaf.key().secret_der());
    jsonwebtoken::encode(&header, claims, &key).unwrap()
}

pub(crate) const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap_or(Duration::ZERO).as_secs()
}
