//! Legacy HTTP+SSE, the transport of MCP revision 2024-11-05, for servers that have no other.
//!
//! - [`http`] sends the two requests and interprets their responses.
//! - [`endpoint`] resolves the URI to which messages are posted.
//! - [`worker`] passes messages between rmcp and the server, and reconnects.
//! - [`session`] keeps the pending requests and the handshake.
//! - [`reconnect`] limits and spaces reconnection attempts.

mod endpoint;
mod http;
mod reconnect;
mod session;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use ::http::Uri;
use bowline_http_client::{AccessToken, Client};
use bowline_token::{Authorized, Fixed, TokenSource};
use bowline_transport::credential::Credential;
use bowline_transport::redact::{NotingSource, SentTokens};
use rmcp::transport::WorkerTransport;

use self::http::Connector;
use crate::Error;
use crate::error::{Cause, LegacyCause};

pub use session::CONNECTION_CLOSED;
pub use worker::LegacySseWorker;

/// A transport for rmcp that speaks HTTP+SSE, the transport of MCP revision 2024-11-05.
///
/// A GET opens an event stream. Its first event, `endpoint`, says where messages are posted. All
/// responses come on the stream. GET and POST both carry a token, and the proof that fits their
/// connection.
///
/// ```no_run
/// # use bowline_http_client::{AccessToken, Client};
/// # async fn run(client: Client, token: AccessToken) -> Result<(), Box<dyn std::error::Error>> {
/// use bowline_mcp::LegacySse;
/// use rmcp::ServiceExt;
///
/// let transport = LegacySse::new(client).token(token).transport("https://mcp.example.com/sse")?;
/// let agent = ().serve(transport).await?;
/// # Ok(()) }
/// ```
///
/// # The endpoint
/// It may be relative, and must be on the stream's own origin: no token and no proof goes to
/// another origin (CL-6).
///
/// # When the stream breaks
/// A server's session ends with its stream. So
/// - **no message is sent a second time.** A request whose POST was under way fails; one that was
///   posted and not yet answered gets a JSON-RPC error with code [`CONNECTION_CLOSED`] and
///   `data.mayHaveBeenProcessed`, which is `true`;
/// - a new stream is opened, after a pause that the server's `retry` chooses (1 s if it does not)
///   and that doubles, up to a minute. The transport ends after
///   [`max_reconnects`](Self::max_reconnects) streams in a row of no use: no request was answered
///   on them, and they lasted less than 30 s;
/// - the handshake is repeated for the new session, as the protocol demands: `initialize` and
///   `notifications/initialized`, as rmcp sent them. If the server then chooses another protocol
///   version, the transport ends;
/// - messages that rmcp sends meanwhile wait, and go to the new session;
/// - responses to requests of the old session are dropped, so that the server cannot take them for
///   responses to requests of the new session;
/// - the session's subscriptions and its log level are lost: request them again if needed;
/// - errors that another attempt cannot change (401, 403, 404, a redirect, an endpoint on another
///   origin, a proof that is refused again) end the transport at once.
///
/// A stream that breaks before the first `initialize` is answered is not opened again.
///
/// # Bounds
/// An event has [`max_event_bytes`](Self::max_event_bytes) at most (16 MiB), an endpoint 2,048
/// bytes; 64 POSTs are sent at a time, and 1,024 requests of the server may be unanswered.
/// Time-outs: [`open_timeout`](Self::open_timeout), [`post_timeout`](Self::post_timeout),
/// [`idle_timeout`](Self::idle_timeout).
#[derive(Clone)]
pub struct LegacySse {
    client: Client,
    tokens: Option<Arc<dyn TokenSource>>,
    open_timeout: Duration,
    post_timeout: Duration,
    idle_timeout: Option<Duration>,
    max_event: usize,
    max_reconnects: u32,
}

impl LegacySse {
    /// A transport without tokens.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            tokens: None,
            open_timeout: Duration::from_secs(30),
            post_timeout: Duration::from_secs(60),
            idle_timeout: None,
            max_event: 16 * 1024 * 1024,
            max_reconnects: 5,
        }
    }

    /// Sends this access token. An expired one is not sent.
    #[must_use]
    pub fn token(self, token: AccessToken) -> Self {
        self.source(Fixed::new(token))
    }

    /// Sends tokens of this source. One that is refused with `invalid_token` is replaced once for
    /// each request.
    #[must_use]
    pub fn source(mut self, source: impl TokenSource) -> Self {
        self.tokens = Some(Arc::new(source));
        self
    }

    /// Maximum time from the GET to the endpoint event, and from a repeated `initialize` to its
    /// response. Default 30 s.
    #[must_use]
    pub fn open_timeout(mut self, time: Duration) -> Self {
        self.open_timeout = time;
        self
    }

    /// Maximum time until a POST is accepted. The response to the message may take longer. Default
    /// 60 s.
    #[must_use]
    pub fn post_timeout(mut self, time: Duration) -> Self {
        self.post_timeout = time;
        self
    }

    /// Treats a stream as broken if no byte came for this long. Off by default, because servers
    /// need not send anything.
    #[must_use]
    pub fn idle_timeout(mut self, time: Duration) -> Self {
        self.idle_timeout = Some(time);
        self
    }

    /// Maximum length of an event in bytes, field names and line ends included. Default 16 MiB.
    #[must_use]
    pub fn max_event_bytes(mut self, bytes: usize) -> Self {
        self.max_event = bytes;
        self
    }

    /// Maximum number of streams of no use in a row. Default 5; with 0 the first break ends the
    /// transport.
    #[must_use]
    pub fn max_reconnects(mut self, max: u32) -> Self {
        self.max_reconnects = max;
        self
    }

    /// The transport for the event stream at `uri`, ready for rmcp's `serve`. The first message
    /// opens the stream.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidEndpoint`](crate::ErrorKind::InvalidEndpoint) if `uri` is not an
    /// absolute `https` URI (or an `http` one).
    ///
    /// # Panics
    /// Outside a tokio runtime, on which rmcp starts the transport's worker.
    pub fn transport(
        self,
        uri: impl AsRef<str>,
    ) -> Result<WorkerTransport<LegacySseWorker>, Error> {
        let text = uri.as_ref();
        let uri = text.parse::<Uri>().map_err(Cause::InvalidEndpoint)?;
        bowline_http_client::Origin::from_uri(&uri).map_err(|_| {
            LegacyCause::UnusableEndpoint("it is not an absolute http or https URI")
        })?;
        let sent = SentTokens::default();
        let credential = match self.tokens {
            Some(source) => {
                let source = NotingSource {
                    source,
                    sent: sent.clone(),
                };
                let authorized = Authorized::new(self.client.clone(), source, text);
                Credential::from_authorized(authorized.map_err(Cause::Token)?)
            }
            None => Credential::from_caller(),
        };
        let connector = Connector {
            client: self.client,
            credential,
            sent,
            uri,
            open_timeout: self.open_timeout,
            post_timeout: self.post_timeout,
            idle_timeout: self.idle_timeout,
            max_event: self.max_event,
        };
        Ok(WorkerTransport::spawn(LegacySseWorker::new(
            connector,
            self.max_reconnects,
        )))
    }
}

impl std::fmt::Debug for LegacySse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LegacySse").finish_non_exhaustive()
    }
}
