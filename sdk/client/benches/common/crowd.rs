//! One client with many origins, connections or tokens, which its requests use in turn.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bowline_http_client::{Client, Limits, Thumbprint};
use bowline_testkit::authority::TokenBinding;
use bytes::Bytes;
use http::HeaderValue;
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::callers::{Bowline, Caller, unlimited};
use super::fixture::{Credentials, Http};

/// What there are many of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Many {
    /// Origins, each with a connection.
    Origins,
    /// Connections of one origin, all of which hold the proof of the one token.
    Connections,
    /// Connections of one origin, each of which holds the proof of a token of its own.
    Apart,
    /// Tokens on one connection.
    Tokens,
    /// The same, each as a string in `Authorization`.
    Fields,
}

impl Many {
    pub(crate) const ALL: [Self; 5] = [
        Self::Origins,
        Self::Connections,
        Self::Apart,
        Self::Tokens,
        Self::Fields,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Origins => "origins",
            Self::Connections => "connections",
            Self::Apart => "connections_apart",
            Self::Tokens => "tokens",
            Self::Fields => "tokens_by_field",
        }
    }

    /// Streams that the server allows on a connection: one, where there are to be many connections.
    pub(crate) fn streams(self) -> u32 {
        match self {
            Self::Connections | Self::Apart => 1,
            Self::Origins | Self::Tokens | Self::Fields => 200,
        }
    }

    pub(crate) fn origins(self, number: usize) -> usize {
        match self {
            Self::Origins => number,
            _ => 1,
        }
    }
}

/// A client, and the callers that share it.
pub(crate) struct Crowd {
    pub(crate) client: Client,
    callers: Vec<Bowline>,
    next: usize,
}

impl Crowd {
    /// Opens all connections and proves all tokens, under limits above their number: its next
    /// requests are warm.
    pub(crate) async fn warm(
        many: Many,
        number: usize,
        credentials: &Credentials,
        http: Http,
        origins: &[String],
    ) -> Self {
        let client = client(number, credentials, http);
        let certificate = credentials.identity().thumbprint();
        let token = |number| token(certificate, number);
        let origin = origins.first().expect("an origin");
        let bowline = |origin, number| Bowline::new(client.clone(), origin, &token(number));
        let callers = match many {
            Many::Origins => {
                let first = bowline(origin, 0);
                origins.iter().map(|origin| first.at(origin)).collect()
            }
            Many::Connections => vec![bowline(origin, 0); number],
            Many::Apart => (0..number).map(|n| bowline(origin, n)).collect(),
            Many::Tokens => {
                let tokens: Vec<_> = (0..number).map(token).collect();
                vec![Bowline::with_tokens(client.clone(), origin, &tokens)]
            }
            Many::Fields => (0..number)
                .map(|n| Bowline::with_authorization(client.clone(), origin, &token(n)))
                .collect(),
        };
        let mut crowd = Self {
            client,
            callers,
            next: 0,
        };
        match many {
            Many::Connections | Many::Apart => crowd.open_all(number as u64).await,
            // Twice: the buffers of a connection have their size after the first request.
            Many::Origins => crowd.calls(2 * number).await,
            Many::Tokens | Many::Fields => crowd.calls(number + 10).await,
        }
        crowd
    }

    /// Sends this many requests, one after the other.
    pub(crate) async fn calls(&mut self, number: usize) {
        for _ in 0..number {
            self.call().await;
        }
    }

    /// Sends a request of each caller at a time, so that each needs a connection.
    async fn open_all(&mut self, connections: u64) {
        // The first requests of HTTP/2 connections may share one before its stream limit is known.
        while self.client.stats().connections_opened < connections {
            self.hold_all().await;
        }
        loop {
            let before = self.client.stats().totals.signatures();
            self.hold_all().await;
            if self.client.stats().totals.signatures() == before {
                break;
            }
        }
    }

    async fn hold_all(&mut self) {
        let mut held = Vec::with_capacity(self.callers.len());
        for caller in &mut self.callers {
            held.push(caller.hold().await);
        }
        for body in held {
            body.collect().await.expect("a whole body");
        }
        // The connections return to the pool as soon as hyper has noticed the end of the responses.
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

impl Caller for Crowd {
    async fn send(&mut self, more: Option<(&'static str, HeaderValue)>) -> Bytes {
        let index = self.next;
        self.next = (self.next + 1) % self.callers.len();
        self.callers[index].send(more).await
    }
}

fn client(number: usize, credentials: &Credentials, http: Http) -> Client {
    let mut limits: Limits = unlimited(number);
    limits.proofs_per_connection = number;
    limits.tokens_per_origin = number;
    limits.recent_tokens = number;
    credentials
        .bowline(http)
        .limits(limits)
        .build()
        .expect("a client")
}

/// A session-bound token that no authority has signed, which a client cannot tell. Thousands are
/// made in no time.
pub(crate) fn token(certificate: Thumbprint, number: usize) -> String {
    let payload = json!({
        "iss": "https://authority.example",
        "cnf": TokenBinding::Session.confirmation(certificate),
        "scope": "s".repeat(230),
        "jti": format!("{number:010}"),
    });
    let part = |text: String| BASE64_URL_SAFE_NO_PAD.encode(text);
    let header = part(json!({ "alg": "ES256", "typ": "at+jwt" }).to_string());
    let signature = part(format!("{number:064}"));
    format!("{header}.{}.{signature}", part(payload.to_string()))
}
