//! Why an agent card cannot be had, or not be followed.

use std::sync::Arc;
use std::time::Duration;

use bowline_client::{Fault, Origin};
use http::StatusCode;

use crate::extension::InvalidExtension;

/// Why an agent card cannot be had, or what it demands cannot be met. Cloning is cheap.
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
pub struct CardError(Arc<Cause>);

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CardErrorKind {
    /// The agent's base URL is none.
    InvalidBase,
    /// The HTTP client could not carry the exchange out: see [`CardError::client`].
    Client(bowline_client::Kind),
    /// The card did not come in time.
    TimedOut,
    /// The server redirects to another origin, with another status than 307 or 308, to nowhere, or too often: nothing of
    /// that is followed (CL-6).
    Redirect,
    /// The server answered with a status other than 200.
    Status(StatusCode),
    /// The card is longer than the limit.
    TooLarge,
    /// What the server sent is no JSON.
    NotJson,
    /// What the server sent is JSON, and no agent card.
    Malformed,
    /// The card names an interface on an origin that the caller has not named (CL-6).
    InterfaceElsewhere,
    /// What the card says of session binding cannot be followed.
    InvalidExtension,
    /// The card demands a client certificate, and the client has none.
    NoCertificate,
    /// The card demands an access token, and none is configured.
    NoToken,
    /// The card demands what only TLS can give, and the interface is plaintext.
    Plaintext,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Cause {
    #[error("the agent's base URL {0:?} is not absolute, or has a query; give one such as https://agent.example.com")]
    InvalidBase(String),
    #[error("the agent card could not be fetched: {0}")]
    Client(#[source] bowline_client::Error),
    #[error("the agent card did not come within {0:?}")]
    TimedOut(Duration),
    #[error("{}", redirect(*status, location.as_deref()))]
    Redirect {
        status: StatusCode,
        location: Option<String>,
    },
    #[error("the server redirects the request for its agent card more than {0} times; ask whoever runs it")]
    Redirects(usize),
    #[error("{}", answered(*status, text))]
    Status { status: StatusCode, text: String },
    #[error("the agent card has more than {limit} octets; raise the limit (Cards::limit) if it may")]
    TooLarge { limit: usize },
    #[error("{}", not_json(content_type.as_deref(), text))]
    NotJson { content_type: Option<String>, text: String },
    #[error("what the server sent is no agent card: {0}")]
    Malformed(String),
    #[error(
        "the agent card of {home} names an interface at {elsewhere}, where access tokens would go: if that is the agent's \
         too, say so with Cards::interfaces_at"
    )]
    InterfaceElsewhere { home: Origin, elsewhere: String },
    #[error("{0}; ask whoever runs the agent")]
    InvalidExtension(#[from] InvalidExtension),
    #[error("the agent card demands {0}, and this client has no certificate: give it one with Builder::identity")]
    NoCertificate(&'static str),
    #[error(
        "the agent card demands {0}, and none is configured: give the transports a token or a source \
         (Transports::token, Transports::source)"
    )]
    NoToken(&'static str),
    #[error("the agent card demands {what}, and its interface {url} is plaintext; ask whoever runs the agent")]
    Plaintext { what: &'static str, url: String },
}

impl CardError {
    /// What is wrong.
    pub fn kind(&self) -> CardErrorKind {
        match &*self.0 {
            Cause::InvalidBase(_) => CardErrorKind::InvalidBase,
            Cause::Client(e) => CardErrorKind::Client(e.kind()),
            Cause::TimedOut(_) => CardErrorKind::TimedOut,
            Cause::Redirect { .. } | Cause::Redirects(_) => CardErrorKind::Redirect,
            Cause::Status { status, .. } => CardErrorKind::Status(*status),
            Cause::TooLarge { .. } => CardErrorKind::TooLarge,
            Cause::NotJson { .. } => CardErrorKind::NotJson,
            Cause::Malformed(_) => CardErrorKind::Malformed,
            Cause::InterfaceElsewhere { .. } => CardErrorKind::InterfaceElsewhere,
            Cause::InvalidExtension(_) => CardErrorKind::InvalidExtension,
            Cause::NoCertificate(_) => CardErrorKind::NoCertificate,
            Cause::NoToken(_) => CardErrorKind::NoToken,
            Cause::Plaintext { .. } => CardErrorKind::Plaintext,
        }
    }

    /// Who has to act.
    pub fn fault(&self) -> Fault {
        match &*self.0 {
            Cause::Client(e) => e.fault(),
            Cause::TimedOut(_) => Fault::Network,
            Cause::InvalidBase(_)
            | Cause::Redirect { .. }
            | Cause::InterfaceElsewhere { .. }
            | Cause::NoCertificate(_)
            | Cause::NoToken(_) => Fault::Configuration,
            Cause::Redirects(_)
            | Cause::Status { .. }
            | Cause::TooLarge { .. }
            | Cause::NotJson { .. }
            | Cause::Malformed(_)
            | Cause::InvalidExtension(_)
            | Cause::Plaintext { .. } => Fault::Peer,
        }
    }

    /// The HTTP client's own error, if it was the HTTP client that failed.
    pub fn client(&self) -> Option<&bowline_client::Error> {
        match &*self.0 {
            Cause::Client(e) => Some(e),
            _ => None,
        }
    }

    /// Whether the same may go well another time.
    pub fn is_worth_another_try(&self) -> bool {
        match &*self.0 {
            Cause::Client(e) => e.is_worth_another_try(),
            Cause::TimedOut(_) => true,
            Cause::Status { status, .. } => {
                status.is_server_error()
                    || matches!(*status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
            }
            _ => false,
        }
    }
}

impl From<Cause> for CardError {
    fn from(cause: Cause) -> Self {
        Self(Arc::new(cause))
    }
}

impl From<InvalidExtension> for CardError {
    fn from(error: InvalidExtension) -> Self {
        Cause::InvalidExtension(error).into()
    }
}

fn redirect(status: StatusCode, location: Option<&str>) -> String {
    match location {
        Some(location) => format!(
            "the server redirects the request for its agent card (HTTP {status}) to {location}; configure that as the \
             agent's base URL"
        ),
        None => format!("the server redirects the request for its agent card (HTTP {status}) to nowhere"),
    }
}

fn answered(status: StatusCode, text: &str) -> String {
    let hint = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            ": a card that anybody may read needs no token; one that not everybody may is fetched with \
             GetExtendedAgentCard"
        }
        StatusCode::NOT_FOUND => ": is this the agent's base URL?",
        _ => "",
    };
    let said = if text.is_empty() { String::new() } else { format!(" ({text:?})") };
    format!("the server answered HTTP {status} where its agent card should be{said}{hint}")
}

fn not_json(content_type: Option<&str>, text: &str) -> String {
    let content_type = content_type.unwrap_or("no content type");
    format!("what the server sent as its agent card is no JSON but {content_type}, beginning with {text:?}")
}
