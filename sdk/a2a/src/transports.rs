//! What calls are made with, and the SDK's factories of transports that make them.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use a2a::{A2AError, AgentCard, AgentInterface};
use a2a_client::{A2AClientFactory, Transport, TransportFactory};
use async_trait::async_trait;
use bowline_client::{AccessToken, Client, Origin};
use bowline_token::{Authorized, Fixed, TokenSource};
use bowline_transport::head::shown_target;
use bowline_transport::{Operations, RequestBoundCalls};
use http::Uri;

use crate::card::Demands;
use crate::failure::{ErrorKind, Failure};
use crate::grpc::{self, Grpc};
use crate::http_json::HttpJson;
use crate::json_rpc::JsonRpc;
use crate::operation;
use crate::wire::{Credential, Wire, endpoint};

/// Longest answer that is no stream, and longest event of one, in bytes.
const MAX_ANSWER: usize = 16 * 1024 * 1024;
const MAX_EVENT: usize = 4 * 1024 * 1024;

/// Makes the SDK's transports over a [`Client`]: one factory for each binding.
///
/// All that go to one origin share its connections, whatever the binding and whoever's token they
/// carry; each token has its own proof on each connection.
#[derive(Clone)]
pub struct Transports {
    client: Client,
    origins: Vec<Origin>,
    source: Option<Arc<dyn TokenSource>>,
    claims: RequestBoundCalls,
    longest_answer: usize,
    longest_event: usize,
}

impl Transports {
    /// Transports to the agent at `origin`, such as `https://agent.example.com`; a path is passed
    /// over.
    ///
    /// An agent card says where an agent's interfaces are, and cards are not to be trusted with
    /// that: requests go to this origin and no other (CL-6).
    ///
    /// Without [`token`](Self::token) or [`source`](Self::source), a call carries the access token
    /// that an interceptor puts into its service parameters as `Authorization`, if any: for many
    /// users' tokens over the same connections.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidCall`] if `origin` is no absolute URL.
    pub fn new(client: Client, origin: &str) -> Result<Self, Failure> {
        let this = Self {
            client,
            origins: Vec::new(),
            source: None,
            claims: RequestBoundCalls::none(),
            longest_answer: MAX_ANSWER,
            longest_event: MAX_EVENT,
        };
        this.also(origin)
    }

    /// Requests may go to this origin too: for an agent whose gRPC has a port of its own.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidCall`] if `origin` is no absolute URL.
    pub fn also(mut self, origin: &str) -> Result<Self, Failure> {
        let unusable = |why: String| {
            // What is in front of the host may be secret.
            let origin = shown_target(origin).unwrap_or_default();
            let message = format!(
                "{origin:?} names no origin; give one such as https://agent.example.com: {why}"
            );
            Failure::new(ErrorKind::InvalidCall, message)
        };
        let uri: Uri = origin.parse().map_err(|e| unusable(format!("{e}")))?;
        self.origins
            .push(Origin::of(&uri).map_err(|e| unusable(e.to_string()))?);
        Ok(self)
    }

    /// Every call carries this access token, until it expires.
    #[must_use]
    pub fn token(self, token: AccessToken) -> Self {
        self.source(Fixed::new(token))
    }

    /// Every call carries the access token that this source has at the time. A call that is refused
    /// with `invalid_token` is made once more, if the source has another.
    #[must_use]
    pub fn source(mut self, source: impl TokenSource) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// Proves these calls one by one, with `htm`, `htu` and `jti` (PR-6), by method (`CancelTask`),
    /// whatever the client's [`ProofScope`](bowline_client::ProofScope) says. A2A says of no method
    /// what it is applied to, or that it destroys something.
    #[must_use]
    pub fn request_bound_calls(mut self, claims: RequestBoundCalls) -> Self {
        self.claims = claims;
        self
    }

    /// The longest answer that is taken in whole, in bytes. Default 16 MiB.
    #[must_use]
    pub fn longest_answer(mut self, bytes: usize) -> Self {
        self.longest_answer = bytes;
        self
    }

    /// The longest event of a stream, in bytes. Default 4 MiB.
    #[must_use]
    pub fn longest_event(mut self, bytes: usize) -> Self {
        self.longest_event = bytes;
        self
    }

    /// The `JSONRPC` binding.
    pub fn json_rpc(&self) -> Arc<dyn TransportFactory> {
        self.of(ProtocolBinding::JsonRpc)
    }

    /// The `HTTP+JSON` binding.
    pub fn http_json(&self) -> Arc<dyn TransportFactory> {
        self.of(ProtocolBinding::HttpJson)
    }

    /// The `GRPC` binding, over HTTP/2 and nothing else. An interface's URL is `host:port`, for TLS
    /// unless these transports are for `http://host:port` and not for `https://host:port`; a path
    /// is passed over.
    pub fn grpc(&self) -> Arc<dyn TransportFactory> {
        self.of(ProtocolBinding::Grpc)
    }

    /// The SDK's client factory with all three, and none of its own. It prefers JSON-RPC, then
    /// HTTP+JSON, then gRPC.
    pub fn factory(&self) -> A2AClientFactory {
        A2AClientFactory::builder()
            .no_defaults()
            .register(self.json_rpc())
            .register(self.http_json())
            .register(self.grpc())
            .build()
    }

    fn of(&self, binding: ProtocolBinding) -> Arc<dyn TransportFactory> {
        Arc::new(Factory {
            transports: self.clone(),
            binding,
        })
    }

    fn wire(
        &self,
        binding: ProtocolBinding,
        card: &AgentCard,
        interface: &AgentInterface,
    ) -> Result<(Wire, Uri), Failure> {
        let url = match binding {
            ProtocolBinding::Grpc => grpc::target(&interface.url, &self.origins),
            ProtocolBinding::JsonRpc | ProtocolBinding::HttpJson => Cow::from(&interface.url),
        };
        let endpoint = endpoint(&url, &self.origins)?;
        let terms = Demands::of(card)?.meet(&endpoint, self.client.identity().is_some())?;
        let credential = match &self.source {
            Some(source) => Credential::Own(Authorized::new(
                self.client.clone(),
                source.clone(),
                &endpoint.to_string(),
            )?),
            None => Credential::Theirs,
        };
        let wire = Wire {
            client: self.client.clone(),
            credential,
            operations: binding.operations(),
            claims: self.claims.clone(),
            terms,
            longest_answer: self.longest_answer,
        };
        Ok((wire, endpoint))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProtocolBinding {
    JsonRpc,
    HttpJson,
    Grpc,
}

impl ProtocolBinding {
    fn operations(self) -> Operations {
        match self {
            Self::JsonRpc => operation::JSON_RPC,
            Self::HttpJson => operation::HTTP_JSON,
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
            ProtocolBinding::Grpc => a2a::TRANSPORT_PROTOCOL_GRPC,
        }
    }

    /// Makes a transport; no connection is opened before the first call. What the card demands and
    /// nobody has is an error here, or at the first call if it is an access token, which each call
    /// may bring.
    async fn create(
        &self,
        card: &AgentCard,
        interface: &AgentInterface,
    ) -> Result<Box<dyn Transport>, A2AError> {
        let transports = &self.transports;
        let (wire, endpoint) = transports.wire(self.binding, card, interface)?;
        let longest_event = transports.longest_event;
        Ok(match self.binding {
            ProtocolBinding::JsonRpc => Box::new(JsonRpc {
                wire,
                endpoint,
                longest_event,
            }),
            ProtocolBinding::HttpJson => Box::new(HttpJson {
                wire,
                endpoint,
                longest_event,
            }),
            ProtocolBinding::Grpc => {
                Box::new(Grpc::new(wire, longest_event, &grpc::origin_of(&endpoint)))
            }
        })
    }
}

impl fmt::Debug for Transports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transports")
            .field("client", &self.client)
            .field("origins", &self.origins)
            .field("source", &self.source.as_ref().map(|source| source.id()))
            .field("claims", &self.claims)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_no_origin_is_told_without_what_may_be_secret() {
        for origin in [
            "https://user:secret@a.example",
            "user:secret@a.example",
            "secret a.example",
        ] {
            let client = Client::builder().build().unwrap();
            let failure = Transports::new(client, origin).unwrap_err();
            assert_eq!(failure.kind(), ErrorKind::InvalidCall);
            assert!(!failure.to_string().contains("secret"), "{failure}");
        }
        let client = Client::builder().build().unwrap();
        let failure = Transports::new(client, "a.example:443").unwrap_err();
        assert!(
            failure
                .to_string()
                .contains("\"a.example:443\" names no origin"),
            "{failure}"
        );
    }
}
