//! Agent cards: fetched over the same client, kept byte by byte, and read for what they demand.
//!
//! [`Cards`] does what the SDK's `AgentCardResolver` does, with limits, and errors that say what
//! came instead. A card is fetched without an access token. Its bytes are kept as they came
//! ([`Card::bytes`]), so that whoever verifies its signatures can; nothing here verifies them, and
//! nothing rewrites a card.
//!
//! [`Demands`] tells what a card wants of its callers, before the first of them is refused.

mod demands;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use a2a::AgentCard;
use bowline_client::{Body, Client, Origin};
use bowline_transport::body;
use bowline_transport::head::{MAX_REDIRECTS, onward, shown_target};
use bytes::Bytes;
use http::header::{ACCEPT, AGE, CACHE_CONTROL, ETAG, IF_NONE_MATCH, LOCATION};
use http::response::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::Empty;
use tokio::time::{Instant, timeout};

use crate::failure::{ErrorKind, Failure, shown};
use crate::operation;
use crate::wire::describe;

pub use demands::{Demands, Terms};

/// Where an agent's card is, below its base URL (A2A §8.2).
const WELL_KNOWN: &str = "/.well-known/agent-card.json";

/// In bytes.
const MAX_CARD: usize = 1024 * 1024;
const MAX_TIME: Duration = Duration::from_secs(30);

/// How much of what is no card is read, in bytes.
const MAX_TEXT: usize = 4 * 1024;

/// No card is believed for longer without being asked for again.
const MAX_FRESHNESS: Duration = Duration::from_secs(24 * 60 * 60);

/// Fetches agent cards.
///
/// Redirects are followed to the same origin only, by 307 and 308 (CL-6). Where the card's
/// interfaces are is not its affair: [`Transports`](crate::Transports) go to the origins that the
/// caller names.
#[derive(Clone, Debug)]
pub struct Cards {
    client: Client,
    longest: usize,
    time: Duration,
}

impl Cards {
    /// Fetches cards with this client.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            longest: MAX_CARD,
            time: MAX_TIME,
        }
    }

    /// The longest card that is taken in, in bytes. Default 1 MiB.
    #[must_use]
    pub fn longest(mut self, bytes: usize) -> Self {
        self.longest = bytes;
        self
    }

    /// How long a card may take, from the first connection to its last byte. Default 30 s.
    #[must_use]
    pub fn timeout(mut self, time: Duration) -> Self {
        self.time = time;
        self
    }

    /// The card of the agent at `base`, such as `https://agent.example.com`:
    /// `{base}/.well-known/agent-card.json`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidCall`] if `base` is no absolute URL; those of the client; [`ErrorKind::TimedOut`];
    /// [`ErrorKind::Redirect`]; [`ErrorKind::Unauthorized`], [`ErrorKind::Forbidden`] and [`ErrorKind::Status`] for
    /// another status than 200; [`ErrorKind::TooLong`]; [`ErrorKind::NotA2a`] for what is no JSON, or no
    /// card.
    pub async fn resolve(&self, base: &str) -> Result<Card, Failure> {
        self.ask(&well_known(base)?, None).await
    }

    /// The same card while it is fresh (RFC 9111 §4.2, by `Cache-Control: max-age` alone); after
    /// that, the agent is asked whether it has another. If it has not, the bytes stay the same.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve). The old card is none the worse for it.
    pub async fn renew(&self, card: &Card) -> Result<Card, Failure> {
        if card.is_fresh() {
            return Ok(card.clone());
        }
        self.ask(&card.0.url, Some(card)).await
    }

    async fn ask(&self, url: &Uri, known: Option<&Card>) -> Result<Card, Failure> {
        match timeout(self.time, self.fetch(url, known)).await {
            Ok(answer) => answer,
            Err(_) => {
                let message = format!("the agent card did not come within {:?}", self.time);
                Err(Failure::new(ErrorKind::TimedOut, message))
            }
        }
    }

    async fn fetch(&self, url: &Uri, known: Option<&Card>) -> Result<Card, Failure> {
        let etag = known.and_then(|card| card.0.etag.as_ref());
        let (head, rest) = self.send(url, etag).await?.into_parts();
        let caching = Caching::of(&head.headers);
        match (head.status, known) {
            (StatusCode::OK, _) => {
                let bytes = self.whole(&head, rest).await?;
                Card::read(url, bytes, &head, caching)
            }
            (StatusCode::NOT_MODIFIED, Some(card)) if etag.is_some() => Ok(card.renewed(caching)),
            (StatusCode::NOT_MODIFIED, _) => Err(unasked(&head)),
            _ => Err(no_card(&head, rest).await),
        }
    }

    /// Without an access token: there is nobody yet to whom one could be addressed.
    async fn send(&self, url: &Uri, etag: Option<&HeaderValue>) -> Result<Response<Body>, Failure> {
        let mut target = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let mut request = Request::new(Empty::<Bytes>::new());
            *request.uri_mut() = target.clone();
            let fields = request.headers_mut();
            fields.insert(ACCEPT, HeaderValue::from_static("application/json"));
            if let Some(etag) = etag {
                fields.insert(IF_NONE_MATCH, etag.clone());
            }
            request.extensions_mut().insert(operation::AGENT_CARD);
            let (head, rest) = self.client.send(request).await?.into_parts();
            match onward(&target, &head) {
                Some(next) => target = next,
                None => return Ok(Response::from_parts(head, rest)),
            }
            body::discard(rest).await;
        }
        let message = format!(
            "the request for the agent card is redirected more than {MAX_REDIRECTS} times; ask whoever runs it"
        );
        Err(Failure::new(ErrorKind::Redirect, message))
    }

    async fn whole(&self, head: &Parts, rest: Body) -> Result<Bytes, Failure> {
        match body::whole(rest, self.longest).await {
            Ok(bytes) => Ok(bytes.into()),
            Err(body::WholeError::Client(e)) => Err(e.into()),
            Err(_) => {
                let message = format!(
                    "the agent card has more than {} bytes; raise the limit (Cards::longest) if it may",
                    self.longest
                );
                Err(Failure::new(ErrorKind::TooLong, message)
                    .processed(false)
                    .with_head(head))
            }
        }
    }
}

/// An agent card as it came. Cloning is cheap.
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
    /// What it says.
    pub fn card(&self) -> &AgentCard {
        &self.0.card
    }

    /// Its bytes, exactly as they came: what its signatures are verified over (A2A §8.4), and what
    /// a copy of it has to be.
    pub fn bytes(&self) -> &Bytes {
        &self.0.bytes
    }

    /// Where it was asked for.
    pub fn url(&self) -> &Uri {
        &self.0.url
    }

    /// Whether it carries signatures (A2A §8.4). They are not verified here, and a signature that
    /// nobody has verified says nothing.
    pub fn is_signed(&self) -> bool {
        self.0
            .card
            .signatures
            .as_ref()
            .is_some_and(|signatures| !signatures.is_empty())
    }

    /// What it demands of whoever calls the agent.
    ///
    /// # Errors
    /// As [`Demands::of`].
    pub fn demands(&self) -> Result<Demands, Failure> {
        Demands::of(self.card())
    }

    /// Whether its server said that it may be used without being asked for again.
    pub fn is_fresh(&self) -> bool {
        self.0.fresh_until.is_some_and(|end| Instant::now() < end)
    }

    fn read(url: &Uri, bytes: Bytes, head: &Parts, caching: Caching) -> Result<Self, Failure> {
        // serde would also read a list of members, as no other reader of the card does.
        if bytes.trim_ascii_start().starts_with(b"[") {
            return Err(not_a_card(head, "JSON that is no agent card: a list"));
        }
        let card = serde_json::from_slice(&bytes).map_err(|e| {
            let what = match e.classify() {
                serde_json::error::Category::Data => {
                    format!("JSON that is no agent card: {}", shown(&e.to_string()))
                }
                _ => format!(
                    "{}; as JSON: {}",
                    describe(&head.headers, &bytes),
                    shown(&e.to_string())
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

    /// The same card, fresh again as a 304 says (RFC 9111 §4.3.4).
    fn renewed(&self, caching: Caching) -> Self {
        Self(Arc::new(Inner {
            etag: caching.etag.or_else(|| self.0.etag.clone()),
            fresh_until: caching.fresh_until,
            ..(*self.0).clone()
        }))
    }
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

/// What a server says of how long an answer is good.
struct Caching {
    etag: Option<HeaderValue>,
    fresh_until: Option<Instant>,
}

impl Caching {
    fn of(fields: &HeaderMap) -> Self {
        Self {
            etag: fields.get(ETAG).cloned(),
            fresh_until: Instant::now().checked_add(freshness(fields)),
        }
    }
}

/// How much longer an answer is fresh. Without a word from the server: not at all.
fn freshness(fields: &HeaderMap) -> Duration {
    let values = fields.get_all(CACHE_CONTROL).iter();
    let directives: Vec<_> = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|directive| directive.trim().to_ascii_lowercase())
        .collect();
    let forbidden = |directive: &String| {
        let name = directive.split('=').next().unwrap_or_default();
        matches!(name, "no-cache" | "no-store")
    };
    if directives.iter().any(forbidden) {
        return Duration::ZERO;
    }
    let mut ages = directives
        .iter()
        .filter_map(|directive| directive.strip_prefix("max-age="));
    let max_age = ages.find_map(|seconds| seconds.trim_matches('"').parse().ok());
    let age = fields
        .get(AGE)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let seconds = u64::saturating_sub(max_age.unwrap_or(0), age.unwrap_or(0));
    Duration::from_secs(seconds).min(MAX_FRESHNESS)
}

fn well_known(base: &str) -> Result<Uri, Failure> {
    let unusable = |why: &str| {
        // What is in front of the host, or behind the path, may be secret.
        let base = shown_target(base).unwrap_or_default();
        let message = format!(
            "{base:?} is no base URL of an agent ({why}); give one such as https://agent.example.com"
        );
        Failure::new(ErrorKind::InvalidCall, message)
    };
    let uri: Uri = base.parse().map_err(|_| unusable("it cannot be parsed"))?;
    Origin::from_uri(&uri).map_err(|e| unusable(&e.to_string()))?;
    if uri.query().is_some() {
        return Err(unusable("it has a query"));
    }
    // `Uri` drops it, and what would be put behind it.
    if base.contains('#') {
        return Err(unusable("it has a fragment"));
    }
    let url = format!("{}{WELL_KNOWN}", base.trim_end_matches('/'));
    url.parse().map_err(|_| unusable("it cannot be parsed"))
}

/// An answer that is no card by its status.
async fn no_card(head: &Parts, rest: Body) -> Failure {
    let status = head.status;
    if status.is_redirection() {
        rest.drain_in_background();
        let location = head
            .headers
            .get(LOCATION)
            .and_then(|value| value.to_str().ok());
        let to = location
            .and_then(shown_target)
            .unwrap_or_else(|| "nowhere".to_owned());
        let message = format!(
            "the request for the agent card is redirected (HTTP {status}) to {to}: if the agent is there, give that as its base URL"
        );
        return Failure::new(ErrorKind::Redirect, message).with_head(head);
    }
    let bytes = body::prefix(rest, MAX_TEXT).await;
    let (kind, hint) = match status {
        StatusCode::UNAUTHORIZED => (ErrorKind::Unauthorized, PRIVATE),
        StatusCode::FORBIDDEN => (ErrorKind::Forbidden, PRIVATE),
        StatusCode::NOT_FOUND => (ErrorKind::Status, "; is this the agent's base URL?"),
        _ => (ErrorKind::Status, ""),
    };
    let what = describe(&head.headers, &bytes);
    let message =
        format!("where the agent card should be, HTTP {status} with {what} was answered{hint}");
    Failure::new(kind, message).processed(false).with_head(head)
}

const PRIVATE: &str =
    "; a public card needs no access token, and a private one comes by GetExtendedAgentCard";

fn not_a_card(head: &Parts, what: &str) -> Failure {
    let message = format!("where the agent card should be, there is {what}");
    Failure::new(ErrorKind::NotA2a, message)
        .processed(false)
        .with_head(head)
}

fn unasked(head: &Parts) -> Failure {
    let message = "the agent card is said to be the same (HTTP 304), and nobody had asked; ask whoever runs the agent";
    Failure::new(ErrorKind::NotA2a, message)
        .processed(false)
        .with_head(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_at_its_well_known_place_below_the_base() {
        for (base, url) in [
            (
                "https://a.example",
                "https://a.example/.well-known/agent-card.json",
            ),
            (
                "https://a.example/",
                "https://a.example/.well-known/agent-card.json",
            ),
            (
                "https://a.example:8443/tenants/7//",
                "https://a.example:8443/tenants/7/.well-known/agent-card.json",
            ),
        ] {
            assert_eq!(well_known(base).unwrap().to_string(), url);
        }
        for base in [
            "",
            "a.example",
            "/x",
            "ftp://a.example",
            "https://u:p@a.example",
            "https://a.example?x=1",
            "https://a.example#x",
            "https://a.example/#/x",
            "https://",
            "https://user:secret@a.example",
            "user:secret@a.example",
            "https://a.example?key=secret",
            "https://user:secret@",
        ] {
            let failure = well_known(base).unwrap_err();
            assert_eq!(failure.kind(), ErrorKind::InvalidCall, "{base}");
            assert!(!failure.to_string().contains("secret"), "{failure}");
            assert!(
                failure.to_string().contains("such as https://"),
                "{failure}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn freshness_ends_and_a_304_begins_it_anew_with_the_same_bytes() {
        let text = r#"{"name":"x","version":"1","supportedInterfaces":[],"capabilities":{}}"#;
        let caching = |max_age: &'static str| {
            let mut fields = HeaderMap::new();
            fields.insert(CACHE_CONTROL, HeaderValue::from_static(max_age));
            Caching::of(&fields)
        };
        let (head, ()) = Response::new(()).into_parts();
        let url = Uri::from_static("https://a.example/");
        let card = Card::read(
            &url,
            Bytes::from_static(text.as_bytes()),
            &head,
            caching("max-age=60"),
        )
        .unwrap();
        tokio::time::advance(Duration::from_secs(59)).await;
        assert!(card.is_fresh());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!card.is_fresh());
        let same = card.renewed(caching("max-age=10"));
        assert!(same.is_fresh() && !card.is_fresh());
        assert_eq!(same.bytes().as_ptr(), card.bytes().as_ptr());
    }

    #[test]
    fn a_card_is_fresh_for_as_long_as_its_server_says_and_no_longer() {
        for (cache_control, age, seconds) in [
            (&[][..], None, 0),
            (&["max-age=300"], None, 300),
            (&["public, Max-Age=300"], Some("100"), 200),
            (&["max-age=300"], Some("301"), 0),
            (&["public", "max-age=\"60\""], None, 60),
            (&["max-age=300, no-cache"], None, 0),
            (&["no-cache=\"set-cookie\", max-age=300"], None, 0),
            (&["max-age=300", "no-store"], None, 0),
            (&["max-age=-1"], None, 0),
            (&["max-age=nonsense"], None, 0),
            (&["s-maxage=300"], None, 0),
            (
                &["max-age=18446744073709551615"],
                None,
                MAX_FRESHNESS.as_secs(),
            ),
        ] {
            let mut fields = HeaderMap::new();
            for value in cache_control {
                fields.append(CACHE_CONTROL, HeaderValue::from_static(value));
            }
            if let Some(age) = age {
                fields.insert(AGE, HeaderValue::from_static(age));
            }
            assert_eq!(
                freshness(&fields),
                Duration::from_secs(seconds),
                "{cache_control:?} {age:?}"
            );
        }
    }
}
