//! Legacy HTTP+SSE, the transport of MCP revision 2024-11-05, for servers that have no other.
//!
//! - [`http`]: the two requests, and what an answer means.
//! - [`endpoint`]: where the server wants the messages.
//! - [`worker`]: rmcp's side, and what happens when the stream breaks.
//! - [`session`]: what is under way.
//! - [`patience`]: how often a stream is opened again.

mod endpoint;
mod http;
mod patience;
mod session;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use ::http::Uri;
use bowline_client::{AccessToken, Client};
use bowline_token::{Authorized, Fixed, TokenSource};
use rmcp::transport::WorkerTransport;

use self::http::Http;
use crate::Error;
use crate::error::Cause;

pub use session::CONNECTION_CLOSED;
pub use worker::LegacySseWorker;

/// A transport for rmcp that speaks HTTP+SSE, the transport of MCP revision 2024-11-05.
///
/// A GET opens an event stream; its first event, `endpoint`, says where messages are posted; all
/// answers come on the stream. Both carry a token, and the proof that fits their connection.
///
/// ```no_run
/// # async fn example(client: bowline_client::Client, token: bowline_client::AccessToken) -> Result<(), Box<dyn std::error::Error>> {
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
/// another one (CL-6).
///
/// # When the stream breaks
/// A server's session ends with its stream. So
/// - **no message is sent a second time.** A request whose POST was under way fails; one that was
///   posted and not yet answered gets a JSON-RPC error with code [`CONNECTION_CLOSED`] and
///   `data.mayHaveBeenProcessed`, which is `true`;
/// - a new stream is opened, after a pause that the server's `retry` chooses (1 s if it does not)
///   and that doubles, up to a minute. After [`reconnects`](Self::reconnects) streams that were
///   good for nothing the transport ends: a stream was good if a request was answered on it, or if
///   it lasted 30 s;
/// - the handshake is repeated for the new session, because it must be: `initialize` and
///   `notifications/initialized`, as rmcp sent them. If the server then speaks another protocol
///   version, the transport ends;
/// - messages that rmcp sends meanwhile wait, and go to the new session;
/// - answers to requests of the old session are dropped, so they cannot be taken for answers to the
///   new one's;
/// - subscriptions and the log level, which the session had, are gone: who needs them asks again;
/// - where another try is hopeless (401, 403, 404, a redirect, an endpoint on another origin, a
///   proof that is refused again) there is none, and the transport ends with that error.
///
/// A stream that breaks before the first `initialize` is answered is not opened again.
///
/// # Bounds
/// An event has [`longest_event`](Self::longest_event) bytes at most (16 MiB), an endpoint 2,048;
/// 64 POSTs go out at a time, and 1,024 requests of the server's may be unanswered. Time-outs:
/// [`open_timeout`](Self::open_timeout), [`post_timeout`](Self::post_timeout),
/// [`silence`](Self::silence).
#[derive(Clone)]
pub struct LegacySse {
    client: Client,
    tokens: Option<Arc<dyn TokenSource>>,
    open_time: Duration,
    post_time: Duration,
    silence: Option<Duration>,
    longest_event: usize,
    reconnects: u32,
}

impl LegacySse {
    /// A transport without tokens.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            tokens: None,
            open_time: Duration::from_secs(30),
            post_time: Duration::from_secs(60),
            silence: None,
            longest_event: 16 * 1024 * 1024,
            reconnects: 5,
        }
    }

    /// Carries this access token. One that has expired is not sent.
    #[must_use]
    pub fn token(self, token: AccessToken) -> Self {
        self.source(Fixed::new(token))
    }

    /// Carries tokens of this source: one that is refused with `invalid_token` is replaced once for
    /// each request.
    #[must_use]
    pub fn source(mut self, source: impl TokenSource) -> Self {
        self.tokens = Some(Arc::new(source));
        self
    }

    /// How long a stream may take from the GET to its endpoint, and a repeated `initialize` to its
    /// answer. Default 30 s.
    #[must_use]
    pub fn open_timeout(mut self, time: Duration) -> Self {
        self.open_time = time;
        self
    }

    /// How long a POST may take until it is accepted: not until the answer comes, which has all the
    /// time it needs. Default 60 s.
    #[must_use]
    pub fn post_timeout(mut self, time: Duration) -> Self {
        self.post_time = time;
        self
    }

    /// Takes a stream for broken if no byte came for so long. Default off: servers need not say
    /// anything.
    #[must_use]
    pub fn silence(mut self, time: Duration) -> Self {
        self.silence = Some(time);
        self
    }

    /// How many bytes an event may have, its field names and line ends included. Default 16 MiB.
    #[must_use]
    pub fn longest_event(mut self, bytes: usize) -> Self {
        self.longest_event = bytes;
        self
    }

    /// How many streams in a row may be good for nothing until the transport ends. Default 5; with
    /// 0 the first break is the end.
    #[must_use]
    pub fn reconnects(mut self, most: u32) -> Self {
        self.reconnects = most;
        self
    }

    /// The transport for the event stream at `uri`, ready for rmcp's `serve`. The stream is opened
    /// for the first message.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidEndpoint`](crate::ErrorKind::InvalidEndpoint) if `uri` is not an absolute `https`
    /// URI (or an `http` one).
    ///
    /// # Panics
    /// Outside a tokio runtime, on which rmcp starts the transport's worker.
    pub fn transport(
        self,
        uri: impl AsRef<str>,
    ) -> Result<WorkerTransport<LegacySseWorker>, Error> {
        let text = uri.as_ref();
        let uri = text.parse::<Uri>().map_err(Cause::InvalidEndpoint)?;
        bowline_client::Origin::from_uri(&uri)
            .map_err(|_| Cause::UnusableEndpoint("it is no absolute http or https URI"))?;
        let authorized = match self.tokens {
            Some(source) => {
                Some(Authorized::new(self.client.clone(), source, text).map_err(Cause::Token)?)
            }
            None => None,
        };
        let http = Http {
            client: self.client,
            authorized,
            uri,
            open_time: self.open_time,
            post_time: self.post_time,
            silence: self.silence,
            longest_event: self.longest_event,
        };
        Ok(WorkerTransport::spawn(LegacySseWorker::new(
            http,
            self.reconnects,
        )))
    }
}

impl std::fmt::Debug for LegacySse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LegacySse").finish_non_exhaustive()
    }
}
