//! The configuration of calls, and the SDK's transport factories made from it.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use a2a::{A2AError, AgentCard, AgentInterface};
use a2a_client::{A2AClientFactory, Transport, TransportFactory};
use async_trait::async_trait;
use bowline_http_client::{AccessToken, Client, Origin};
use bowline_token::{Authorized, Fixed, TokenSource};
use bowline_transport::credential::Credential;
use bowline_transport::redact::{NotingSource, SentTokens};
use bowline_transport::{Operations, RequestBoundCalls};
use http::Uri;

use crate::card::CardRequirements;
use crate::endpoint::{AgentEndpoint, checked_url};
use crate::error::{Error, ErrorKind};
#[cfg(feature = "grpc")]
use crate::grpc::{self, Grpc};
use crate::http_json::HttpJson;
use crate::json_rpc::JsonRpc;
use crate::operation;
use crate::text::shown_url;

/// Maximum length of a response that is not a stream, and of an event of a stream, in bytes.
const MAX_RESPONSE: usize = 16 * 1024 * 1024;
const MAX_EVENT: usize = 4 * 1024 * 1024;

/// Makes the SDK's transports over a [`Client`]: one factory for each binding.
///
/// All calls to one origin share its connections, whatever the binding and the token; each token
/// has its own proof on each connection.
#[derive(Clone)]
pub struct Transports {
    client: Client,
    origins: Vec<Origin>,
    source: Option<Arc<dyn TokenSource>>,
    request_bound: RequestBoundCalls,
    max_response_bytes: usize,
    max_event_bytes: usize,
}

impl Transports {
    /// Transports to the agent at `origin`, such as `https://agent.example.com`; a path is
    /// ignored.
    ///
    /// An agent card says where an agent's interfaces are, but is not trusted to decide where
    /// tokens go: requests go to this origin and no other (CL-6).
    ///
    /// Without [`token`](Self::token) or [`source`](Self::source), a call carries the access token
    /// that an interceptor puts into its service parameters as `Authorization`, if any. This way
    /// many users' tokens share the same connections.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidCall`] if `origin` is not an absolute URL.
    pub fn new(client: Client, origin: &str) -> Result<Self, Error> {
        let this = Self {
            client,
            origins: Vec::new(),
            source: None,
            request_bound: RequestBoundCalls::none(),
            max_response_bytes: MAX_RESPONSE,
            max_event_bytes: MAX_EVENT,
        };
        this.also(origin)
    }

    /// Also allows requests to this origin: for an agent whose gRPC interface has its own port.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidCall`] if `origin` is not an absolute URL.
    pub fn also(mut self, origin: &str) -> Result<Self, Error> {
        let unusable = |why: String| {
            // Without user information, which may be secret.
            let origin = shown_url(origin);
            let message = format!(
                "{origin:?} is not an origin; give one such as https://agent.example.com: {why}"
            );
            Error::new(ErrorKind::InvalidCall, message)
        };
        let uri: Uri = origin.parse().map_err(|e| unusable(format!("{e}")))?;
        self.origins
            .push(Origin::from_uri(&uri).map_err(|e| unusable(e.to_string()))?);
        Ok(self)
    }

    /// Every call carries this access token, until it expires.
    #[must_use]
    pub fn token(self, token: AccessToken) -> Self {
        self.source(Fixed::new(token))
    }

    /// Every call carries the access token that this source has at the time. A call that is refused
    /// with `invalid_token` is made once more if the source has another token.
    #[must_use]
    pub fn source(mut self, source: impl TokenSource) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// Each of these calls, selected by method (`CancelTask`), carries a proof of its own with
    /// `htm`, `htu` and `jti` (PR-6), whatever the client's
    /// [`ProofScope`](bowline_http_client::ProofScope). A2A does not say of a method what it acts on, or
    /// that it is destructive.
    #[must_use]
    pub fn request_bound_calls(mut self, calls: RequestBoundCalls) -> Self {
        self.request_bound = calls;
        self
    }

    /// Maximum length of a response that is not a stream, in bytes. Default 16 MiB.
    #[must_use]
    pub fn max_response(mut self, bytes: usize) -> Self {
        self.max_response_bytes = bytes;
        self
    }

    /// Maximum length of an event of a stream, in bytes. Default 4 MiB.
    #[must_use]
    pub fn max_event(mut self, bytes: usize) -> Self {
        self.max_event_bytes = bytes;
        self
    }

    /// The `JSONRPC` binding.
    pub fn json_rpc(&self) -> Arc<dyn TransportFactory> {
        self.factory_for(ProtocolBinding::JsonRpc)
    }

    /// The `HTTP+JSON` binding.
    pub fn http_json(&self) -> Arc<dyn TransportFactory> {
        self.factory_for(ProtocolBinding::HttpJson)
    }

    /// The `GRPC` binding, over HTTP/2 only. An interface's URL is `host:port`, with TLS unless
    /// these transports allow `http://host:port` and not `https://host:port`; a path is ignored.
    #[cfg(feature = "grpc")]
    pub fn grpc(&self) -> Arc<dyn TransportFactory> {
        self.factory_for(ProtocolBinding::Grpc)
    }

    /// The SDK's client factory with these bindings only. It prefers JSON-RPC, then HTTP+JSON, then
    /// gRPC (with the feature `grpc`).
    pub fn factory(&self) -> A2AClientFactory {
        let builder = A2AClientFactory::builder()
            .no_defaults()
            .register(self.json_rpc())
            .register(self.http_json());
        #[cfg(feature = "grpc")]
        let builder = builder.register(self.grpc());
        builder.build()
    }

    fn factory_for(&self, binding: ProtocolBinding) -> Arc<dyn TransportFactory> {
        Arc::new(Factory {
            transports: self.clone(),
            binding,
        })
    }

    fn endpoint(
        &self,
        binding: ProtocolBinding,
        card: &AgentCard,
        interface: &AgentInterface,
    ) -> Result<(AgentEndpoint, Uri), Error> {
        let url = match binding {
            #[cfg(feature = "grpc")]
            ProtocolBinding::Grpc => grpc::absolute_url(&interface.url, &self.origins),
            ProtocolBinding::JsonRpc | ProtocolBinding::HttpJson => Cow::from(&interface.url),
        };
        let url = checked_url(&url, &self.origins)?;
        let requirements =
            CardRequirements::from_card(card)?.resolve(&url, self.client.identity().is_some())?;
        let sent = SentTokens::default();
        let credential = match &self.source {
            // Bound to the interface's origin now, before any card or redirect could change it.
            Some(source) => {
                let source = NotingSource {
                    source: source.clone(),
                    sent: sent.clone(),
                };
                let url = url.to_string();
                let client = self.client.clone();
                Credential::from_authorized(Authorized::new(client, Arc::new(source), &url)?)
            }
            None => Credential::from_caller(),
        };
        let endpoint = AgentEndpoint {
            client: self.client.clone(),
            path: url.path().to_owned(),
            credential,
            sent,
            operations: binding.operations(),
            request_bound: self.request_bound.clone(),
            requirements,
            max_response_bytes: self.max_response_bytes,
        };
        Ok((endpoint, url))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProtocolBinding {
    JsonRpc,
    HttpJson,
    #[cfg(feature = "grpc")]
    Grpc,
}

impl ProtocolBinding {
    fn operations(self) -> Operations {
        match self {
            Self::JsonRpc => operation::JSON_RPC,
            Self::HttpJson => operation::HTTP_JSON,
            #[cfg(feature = "grpc")]
            Self::Grpc => operation::GRPC,
        }
    }
}

/// One binding's factory.
struct Factory {
    transports: Transports,
    binding: ProtocolBinding,
}

#[async_trait]
impl TransportFactory for Factory {
    fn protocol(&self) -> &str {
        match self.binding {
            ProtocolBinding::JsonRpc => a2a::TRANSPORT_PROTOCOL_JSONRPC,
            ProtocolBinding::HttpJson => a2a::TRANSPORT_PROTOCOL_HTTP_JSON,
            #[cfg(feature = "grpc")]
            ProtocolBinding::Grpc => a2a::TRANSPORT_PROTOCOL_GRPC,
        }
    }

    /// Makes a transport; no connection is opened before the first call. If the card requires a
    /// certificate and there is none, this fails. A missing access token is an error of the call,
    /// because each call may bring one.
    async fn create(
        &self,
        card: &AgentCard,
        interface: &AgentInterface,
    ) -> Result<Box<dyn Transport>, A2AError> {
        let transports = &self.transports;
        let (endpoint, url) = transports.endpoint(self.binding, card, interface)?;
        let max_event_bytes = transports.max_event_bytes;
        Ok(match self.binding {
            ProtocolBinding::JsonRpc => Box::new(JsonRpc {
                endpoint,
                url,
                max_event_bytes,
            }),
            ProtocolBinding::HttpJson => Box::new(HttpJson {
                endpoint,
                url,
                max_event_bytes,
            }),
            #[cfg(feature = "grpc")]
            ProtocolBinding::Grpc => Box::new(Grpc::new(
                endpoint,
                max_event_bytes,
                &grpc::without_path(&url),
            )),
        })
    }
}

impl fmt::Debug for Transports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transports")
            .field("client", &self.client)
            .field("origins", &self.origins)
            .field("source", &self.source.as_ref().map(|source| source.id()))
            .field("request_bound", &self.request_bound)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
