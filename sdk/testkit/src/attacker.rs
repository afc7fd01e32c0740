//! An attacker: a log that leaks credentials, and the replay of a stolen token and proof on another
//! connection than the one they were made for.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use bowline_proof::dpop::DPOP_HEADER;
use bowline_proof::{PROOF_HEADER, challenges};
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderName, Method, StatusCode};

use crate::pki::{Leaf, Pki};

/// The header fields that carry credentials.
const CREDENTIALS: [HeaderName; 3] = [AUTHORIZATION, PROOF_HEADER, DPOP_HEADER];

/// Further header fields that a server needs to understand the request.
const FRAMING: [HeaderName; 7] = [
    ACCEPT,
    CONTENT_TYPE,
    TE,
    HeaderName::from_static("a2a-version"),
    HeaderName::from_static("mcp-method"),
    HeaderName::from_static("mcp-protocol-version"),
    HeaderName::from_static("mcp-session-id"),
];

/// A log that records credentials, as a careless one does: it keeps the last request that carried
/// an access token, without its body.
#[derive(Clone, Default)]
pub struct LeakyLog {
    method: Option<Method>,
    last: Arc<Mutex<Option<StolenCredentials>>>,
}

impl LeakyLog {
    /// A log that keeps only requests with this method.
    #[must_use]
    pub fn for_method(method: Method) -> Self {
        Self {
            method: Some(method),
            ..Self::default()
        }
    }

    /// Adds this log to a router.
    pub fn in_front_of(&self, router: Router) -> Router {
        router.layer(from_fn_with_state(self.clone(), keep))
    }

    /// The last request that it has kept.
    #[must_use]
    pub fn last(&self) -> Option<StolenCredentials> {
        self.last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

async fn keep(State(log): State<LeakyLog>, request: Request, next: Next) -> Response {
    let is_listed = log
        .method
        .as_ref()
        .is_none_or(|method| method == request.method());
    if is_listed && request.headers().contains_key(AUTHORIZATION) {
        *log.last.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(StolenCredentials::from_request(&request));
    }
    next.run(request).await
}

/// The target, token and proof of a request that an attacker has read in a log.
#[derive(Clone)]
pub struct StolenCredentials {
    method: Method,
    path: String,
    fields: HeaderMap,
}

impl StolenCredentials {
    fn from_request(request: &Request) -> Self {
        let named = CREDENTIALS.into_iter().chain(FRAMING);
        let fields = named.filter_map(|name| {
            request
                .headers()
                .get(&name)
                .cloned()
                .map(|value| (name, value))
        });
        Self {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            fields: fields.collect(),
        }
    }

    /// The same request without token and proof.
    #[must_use]
    pub fn without_credentials(mut self) -> Self {
        for name in CREDENTIALS {
            self.fields.remove(name);
        }
        self
    }
}

/// How the server answered the attacker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server served the request.
    Accepted,
    /// The server refused.
    Refused {
        /// With this status.
        status: StatusCode,
        /// For this reason: the `error_description` of the challenge.
        reason: Option<String>,
    },
}

impl Outcome {
    /// The check that refused (`RS-6`): the reason begins with it.
    #[must_use]
    pub fn check(&self) -> Option<&str> {
        match self {
            Self::Refused {
                reason: Some(reason),
                ..
            } => reason.split_once(':').map(|(check, _)| check),
            _ => None,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted => f.write_str("ACCEPTED"),
            Self::Refused {
                status,
                reason: Some(reason),
            } => write!(f, "{status} ({reason})"),
            Self::Refused {
                status,
                reason: None,
            } => write!(f, "{status}"),
        }
    }
}

/// Makes the stolen request with an ordinary HTTP client, on a new connection that `leaf`'s
/// certificate authenticates.
///
/// With the victim's own certificate it is the harder attack: the attacker can open connections as
/// the victim (which satisfies RFC 8705), but cannot sign a proof.
///
/// # Errors
/// Those of reqwest: no response came.
pub async fn replay(
    pki: &Pki,
    leaf: &Leaf,
    origin: &str,
    stolen: &StolenCredentials,
    body: impl Into<Bytes>,
) -> Result<Outcome, reqwest::Error> {
    let pem = [leaf.chain_pem(), leaf.key_pem()].concat();
    let client = reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(pki.ca_pem().as_bytes())?])
        .identity(reqwest::Identity::from_pem(pem.as_bytes())?)
        .build()?;
    let response = client
        .request(stolen.method.clone(), format!("{origin}{}", stolen.path))
        .headers(stolen.fields.clone())
        .body(body.into())
        .send()
        .await?;
    if response.status().is_success() {
        return Ok(Outcome::Accepted);
    }
    let challenges = challenges(response.headers());
    let reason = challenges
        .iter()
        .find_map(|challenge| challenge.param("error_description"));
    Ok(Outcome::Refused {
        status: response.status(),
        reason: reason.map(str::to_owned),
    })
}
