//! Agent cards: fetched with the same client, kept byte by byte, and read for their requirements.
//!
//! [`Cards`] does what the SDK's `AgentCardResolver` does, with limits, and with errors that say
//! what came instead of a card. A card is fetched without an access token. Its bytes are kept
//! unchanged ([`Card::bytes`]), so that its signatures can be verified elsewhere; this crate
//! verifies none.
//!
//! [`CardRequirements`] says what a card requires of callers, before the agent refuses a call.

mod requirements;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use a2a::AgentCard;
use bowline_http_client::{Body, BodyReadError, Client, Origin};
use bowline_transport::body::{self, without_mark};
use bowline_transport::redirect::{FollowError, NotFollowed, follow_same_origin};
use bowline_transport::retry_after::delta_seconds;
use bytes::Bytes;
use http::header::{ACCEPT, AGE, CACHE_CONTROL, ETAG, IF_NONE_MATCH};
use http::response::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::Empty;
use serde_json::Value;
use tokio::time::{Instant, timeout};

use crate::error::{Error, ErrorKind};
use crate::operation;
use crate::text::{describe, printable, shown_url};

pub use requirements::{CallRequirements, CardRequirements};

/// The path of an agent's card below its base URL (A2A §8.2).
const WELL_KNOWN: &str = "/.well-known/agent-card.json";

/// Maximum length of a card, in bytes.
const MAX_CARD: usize = 1024 * 1024;
const MAX_TIME: Duration = Duration::from_secs(30);

/// Maximum bytes read of a response that is not a card.
const MAX_TEXT: usize = 4 * 1024;

/// Maximum time for which a card is fresh, whatever its server says.
const MAX_FRESHNESS: Duration = Duration::from_secs(24 * 60 * 60);

/// Fetches agent cards.
///
/// Redirects are followed to the same origin only, with 307 and 308 (CL-6). The card's interfaces
/// may be anywhere: [`Transports`](crate::Transports) checks their origins.
#[derive(Clone, Debug)]
pub struct Cards {
    client: Client,
    max_bytes: usize,
    time: Duration,
}

impl Cards {
    /// Fetches cards with this client.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            max_bytes: MAX_CARD,
            time: MAX_TIME,
        }
    }

    /// Maximum length of a card, in bytes. Default 1 MiB.
    #[must_use]
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Maximum time to fetch a card, from opening a connection to its last byte. Default 30 s.
    #[must_use]
    pub fn timeout(mut self, time: Duration) -> Self {
        self.time = time;
        self
    }

    /// The card of the agent at `base`, such as `https://agent.example.com`:
    /// `{base}/.well-known/agent-card.json`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidCall`] if `base` is not an absolute URL; those of the client;
    /// [`ErrorKind::TimedOut`]; [`ErrorKind::Redirect`]; [`ErrorKind::Unauthorized`],
    /// [`ErrorKind::Forbidden`] and [`ErrorKind::Status`] for another status than 200;
    /// [`ErrorKind::TooLong`]; [`ErrorKind::NotA2a`] for a response that is not JSON, or not a
    /// card.
    pub async fn resolve(&self, base: &str) -> Result<Card, Error> {
        self.fetch_in_time(&well_known(base)?, None).await
    }

    /// The same card while it is fresh (RFC 9111 §4.2, by `Cache-Control: max-age` alone). After
    /// that, asks the agent whether it has changed. If it has not, the bytes stay the same.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve). The old card stays usable.
    pub async fn revalidate(&self, card: &Card) -> Result<Card, Error> {
        if card.is_fresh() {
            return Ok(card.clone());
        }
        self.fetch_in_time(&card.0.url, Some(card)).await
    }

    async fn fetch_in_time(&self, url: &Uri, known: Option<&Card>) -> Result<Card, Error> {
        match timeout(self.time, self.fetch(url, known)).await {
            Ok(answer) => answer,
            Err(_) => {
                let message = format!("the agent card did not come within {:?}", self.time);
                Err(Error::new(ErrorKind::TimedOut, message))
            }
        }
    }

    async fn fetch(&self, url: &Uri, known: Option<&Card>) -> Result<Card, Error> {
        let etag = known.and_then(|card| card.0.etag.as_ref());
        let (head, rest) = self.send(url, etag).await?.into_parts();
        let caching = Freshness::from_fields(&head.headers);
        match (head.status, known) {
            (StatusCode::OK, _) => {
                let bytes = self.whole(&head, rest).await?;
                Card::read(url, bytes, &head, caching)
            }
            (StatusCode::NOT_MODIFIED, Some(card)) if etag.is_some() => Ok(card.renewed(caching)),
            (StatusCode::NOT_MODIFIED, _) => Err(unexpected_not_modified(&head)),
            _ => Err(not_ok(&head, rest).await),
        }
    }

    /// Sends the request without an access token: the agent to send one to is not known yet.
    async fn send(&self, url: &Uri, etag: Option<&HeaderValue>) -> Result<Response<Body>, Error> {
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.uri_mut() = url.clone();
        let fields = request.headers_mut();
        fields.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(etag) = etag {
            fields.insert(IF_NONE_MATCH, etag.clone());
        }
        request.extensions_mut().insert(operation::AGENT_CARD);
        let base = url.path().strip_suffix(WELL_KNOWN).unwrap_or_default();
        let send = |request| self.client.send(request);
        match follow_same_origin(request, base, send).await {
            Ok(response) => Ok(response),
            Err(FollowError::Send(e)) => Err(e.into()),
            Err(FollowError::NotFollowed(redirect)) => Err(redirected(*redirect)),
        }
    }

    async fn whole(&self, head: &Parts, rest: Body) -> Result<Bytes, Error> {
        match rest.bytes_limited(self.max_bytes).await {
            Ok(bytes) => Ok(bytes.into()),
            Err(BodyReadError::Client(e)) => Err(e.into()),
            Err(_) => {
                let message = format!(
                    "the agent card has more than {} bytes; raise the limit (Cards::max_bytes) if \
                     that is intended",
                    self.max_bytes
                );
                Err(Error::new(ErrorKind::TooLong, message)
                    .with_processed(false)
                    .with_head(head))
            }
        }
    }
}

/// An agent card, unchanged. Cloning is cheap.
#[derive(Clone)]
pub struct Card(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    url: Uri,
    bytes: Bytes,
    card: Arc<AgentCard>,
    etag: Option<HeaderValue>,
    fresh_until: Option<Instant>,
}

impl Card {
    /// The parsed card.
    pub fn card(&self) -> &AgentCard {
        &self.0.card
    }

    /// Its bytes, exactly as they came. Signatures cover these (A2A §8.4), and a copy must have
    /// them.
    pub fn bytes(&self) -> &Bytes {
        &self.0.bytes
    }

    /// The URL that it was fetched from.
    pub fn url(&self) -> &Uri {
        &self.0.url
    }

    /// Whether it carries signatures (A2A §8.4). They are not verified here, and an unverified
    /// signature proves nothing.
    pub fn is_signed(&self) -> bool {
        self.0
            .card
            .signatures
            .as_ref()
            .is_some_and(|signatures| !signatures.is_empty())
    }

    /// What it requires of callers.
    ///
    /// # Errors
    /// As [`CardRequirements::from_card`].
    pub fn requirements(&self) -> Result<CardRequirements, Error> {
        CardRequirements::from_card(self.card())
    }

    /// Whether it may be used without asking the agent again.
    pub fn is_fresh(&self) -> bool {
        self.0.fresh_until.is_some_and(|end| Instant::now() < end)
    }

    fn read(url: &Uri, bytes: Bytes, head: &Parts, caching: Freshness) -> Result<Self, Error> {
        // serde would also accept a list of the members, which no other reader of cards does.
        let text = without_mark(&bytes);
        if text.trim_ascii_start().starts_with(b"[") {
            return Err(not_a_card(head, "JSON that is not an agent card: a list"));
        }
        let card = parse(text).map_err(|e| {
            let what = match e.classify() {
                serde_json::error::Category::Data => {
                    format!(
                        "JSON that is not an agent card: {}",
                        printable(&e.to_string())
                    )
                }
                _ => format!(
                    "{}; as JSON: {}",
                    describe(head, &bytes),
                    printable(&e.to_string())
                ),
            };
            not_a_card(head, &what)
        })?;
        Ok(Self(Arc::new(Inner {
            url: url.clone(),
            bytes,
            card: Arc::new(card),
            etag: caching.etag,
            fresh_until: caching.fresh_until,
        })))
    }

    /// The same card, with the freshness of a 304 (RFC 9111 §4.3.4).
    fn renewed(&self, caching: Freshness) -> Self {
        Self(Arc::new(Inner {
            etag: caching.etag.or_else(|| self.0.etag.clone()),
            fresh_until: caching.fresh_until,
            ..(*self.0).clone()
        }))
    }
}

/// The kinds of security schemes that the SDK knows (A2A §4.5.1).
const KNOWN_SCHEMES: [&str; 5] = [
    "apiKeySecurityScheme",
    "httpAuthSecurityScheme",
    "mtlsSecurityScheme",
    "oauth2SecurityScheme",
    "openIdConnectSecurityScheme",
];

/// Parses a card. A security scheme of a kind that the SDK does not know is left out, and spoils no
/// card: to this client it is one of those that are the caller's to handle. One of a known kind
/// that cannot be read is an error: what it demands is not to be missed.
fn parse(text: &[u8]) -> Result<AgentCard, serde_json::Error> {
    let failure = match serde_json::from_slice(text) {
        Ok(card) => return Ok(card),
        Err(failure) => failure,
    };
    let mut card: Value = serde_json::from_slice(text)?;
    let schemes = card
        .get_mut("securitySchemes")
        .and_then(Value::as_object_mut);
    let Some(schemes) = schemes else {
        return Err(failure);
    };
    let declared = schemes.len();
    schemes.retain(|_, scheme| {
        let kind = scheme.as_object();
        kind.is_none_or(|kind| KNOWN_SCHEMES.iter().any(|known| kind.contains_key(*known)))
    });
    let unknown = declared - schemes.len();
    if unknown == 0 {
        return Err(failure);
    }
    tracing::warn!(
        unknown,
        "the agent card declares security schemes of unknown kinds"
    );
    serde_json::from_value(card)
}

impl fmt::Debug for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Card")
            .field("url", &self.0.url)
            .field("name", &self.0.card.name)
            .field("version", &self.0.card.version)
            .field("bytes", &self.0.bytes.len())
            .finish_non_exhaustive()
    }
}

/// How long a response may be reused, and how to ask whether it has changed.
struct Freshness {
    etag: Option<HeaderValue>,
    fresh_until: Option<Instant>,
}

impl Freshness {
    fn from_fields(fields: &HeaderMap) -> Self {
        Self {
            etag: fields.get(ETAG).cloned(),
            fresh_until: Instant::now().checked_add(freshness(fields)),
        }
    }
}

/// For how long a response stays fresh; not at all if the server does not say, or says it in a way
/// that cannot be read (RFC 9111 §4.2.1).
fn freshness(fields: &HeaderMap) -> Duration {
    let values = fields.get_all(CACHE_CONTROL).iter();
    // A value may hold `obs-text` (RFC 9110 §5.5), beside which the directives count.
    let text = values.map(|value| String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase());
    let text: Vec<_> = text.collect();
    let directives = || text.iter().flat_map(|line| line.split(',')).map(str::trim);
    let forbidden = |directive: &str| {
        let name = directive.split('=').next().unwrap_or_default();
        matches!(name, "no-cache" | "no-store")
    };
    if directives().any(forbidden) {
        return Duration::ZERO;
    }
    let max_age = directives().find_map(|directive| directive.strip_prefix("max-age="));
    let max_age = max_age.and_then(|seconds| delta_seconds(seconds.trim_matches('"')));
    let age = fields.get(AGE).and_then(|value| value.to_str().ok());
    // Of a list the first counts, and what is no number is ignored (RFC 9111 §5.1).
    let age = age.and_then(|age| delta_seconds(age.split(',').next()?.trim()));
    let seconds = u64::saturating_sub(max_age.unwrap_or(0), age.unwrap_or(0));
    Duration::from_secs(seconds).min(MAX_FRESHNESS)
}

fn well_known(base: &str) -> Result<Uri, Error> {
    let unusable = |why: &str| {
        // Without user information and query, which may be secret.
        let base = shown_url(base);
        let message = format!(
            "{base:?} is not the base URL of an agent ({why}); give one such as \
             https://agent.example.com"
        );
        Error::new(ErrorKind::InvalidCall, message)
    };
    let uri: Uri = base.parse().map_err(|_| unusable("it cannot be parsed"))?;
    Origin::from_uri(&uri).map_err(|e| unusable(&e.to_string()))?;
    if uri.query().is_some() {
        return Err(unusable("it has a query"));
    }
    // `Uri` drops a fragment, and with it the path that is appended below.
    if base.contains('#') {
        return Err(unusable("it has a fragment"));
    }
    let url = format!("{}{WELL_KNOWN}", base.trim_end_matches('/'));
    url.parse().map_err(|_| unusable("it cannot be parsed"))
}

/// The error for a redirect that is not followed.
fn redirected(redirect: NotFollowed) -> Error {
    let message = format!(
        "the request for the agent card was answered with {redirect}: if the agent is there, give \
         that as its base URL"
    );
    let (head, rest) = redirect.into_response().into_parts();
    rest.drain_in_background();
    Error::new(ErrorKind::Redirect, message)
        .with_processed(false)
        .with_head(&head)
}

/// The error for a response with another status than 200.
async fn not_ok(head: &Parts, rest: Body) -> Error {
    let status = head.status;
    let bytes = body::prefix(rest, MAX_TEXT).await;
    let (kind, hint) = match status {
        StatusCode::UNAUTHORIZED => (ErrorKind::Unauthorized, PRIVATE),
        StatusCode::FORBIDDEN => (ErrorKind::Forbidden, PRIVATE),
        StatusCode::NOT_FOUND => (ErrorKind::Status, "; is this the agent's base URL?"),
        _ => (ErrorKind::Status, ""),
    };
    let what = describe(head, &bytes);
    let message =
        format!("the request for the agent card was answered with HTTP {status} and {what}{hint}");
    Error::new(kind, message)
        .with_processed(false)
        .with_head(head)
}

const PRIVATE: &str =
    "; a public card needs no access token, and a private one is fetched with GetExtendedAgentCard";

fn not_a_card(head: &Parts, what: &str) -> Error {
    let message = format!("the response to the request for the agent card is {what}");
    Error::new(ErrorKind::NotA2a, message)
        .with_processed(false)
        .with_head(head)
}

fn unexpected_not_modified(head: &Parts) -> Error {
    let message = "the agent card was answered with HTTP 304 to an unconditional request; ask the \
        agent's operator";
    Error::new(ErrorKind::NotA2a, message)
        .with_processed(false)
        .with_head(head)
}

#[cfg(test)]
mod tests;
