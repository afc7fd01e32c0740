//! The state of a session: the client's pending requests, the server's pending requests, and the
//! handshake to repeat on a new session.
//!
//! It does no I/O.

use std::collections::{HashMap, HashSet, VecDeque};

use http::HeaderValue;
use rmcp::model::{
    ClientJsonRpcMessage, ClientNotification, ClientRequest, ErrorCode, ErrorData, ProtocolVersion,
    RequestId, ServerJsonRpcMessage, ServerNotification, ServerResult,
};
use serde_json::{Value, json};

use crate::Error;
use crate::error::LegacyCause;
use crate::redact::RedactMessage;
use bowline_transport::redact::SentTokens;

/// The JSON-RPC error code of a request that was posted and cannot be answered any more, because
/// the event stream broke. The TypeScript and Python SDKs use the same code.
pub const CONNECTION_CLOSED: ErrorCode = ErrorCode(-32000);

/// Maximum number of requests of the server that rmcp has not answered yet.
const MAX_SERVER_REQUESTS: usize = 1024;

pub(super) struct Session {
    handshake: Handshake,
    /// The client's requests that have no response yet.
    pending: HashSet<RequestId>,
    /// The server's requests that have no response yet, by the id that rmcp sees. A new session may
    /// use the ids of the old one again, so rmcp sees ids that are never used twice:
    ///
    /// ```text
    /// old session   server "q" -> rmcp 0     rmcp answers 0: dropped, the session is gone
    /// new session   server "q" -> rmcp 1     rmcp answers 1: sent as the response to "q"
    /// ```
    server_requests: HashMap<i64, RequestId>,
    next_server_request: i64,
    /// Messages for rmcp.
    pub(super) inbox: VecDeque<ServerJsonRpcMessage>,
    sent: SentTokens,
}

/// The messages that began the session; a new session begins with the same.
#[derive(Default)]
struct Handshake {
    initialize: Option<(RequestId, ClientJsonRpcMessage)>,
    version: Option<ProtocolVersion>,
    initialized: Option<ClientJsonRpcMessage>,
}

/// What kind of message came from the server.
#[derive(Debug, PartialEq)]
pub(super) enum Incoming {
    /// The response to this request of rmcp.
    Response(RequestId),
    /// The response to the `initialize` of a new session, which is not for rmcp.
    Reinitialized,
    Other,
}

impl Session {
    pub(super) fn new(sent: SentTokens) -> Self {
        Self {
            handshake: Handshake::default(),
            pending: HashSet::new(),
            server_requests: HashMap::new(),
            next_server_request: 0,
            inbox: VecDeque::new(),
            sent,
        }
    }

    /// Prepares a message of rmcp for sending; `None` if it answers a request of an earlier
    /// session.
    pub(super) fn outgoing(
        &mut self,
        mut message: ClientJsonRpcMessage,
    ) -> Option<ClientJsonRpcMessage> {
        match &mut message {
            ClientJsonRpcMessage::Request(request) => {
                self.pending.insert(request.id.clone());
                if matches!(request.request, ClientRequest::InitializeRequest(_)) {
                    self.handshake.initialize = Some((request.id.clone(), message.clone()));
                }
            }
            ClientJsonRpcMessage::Notification(notification) => match &notification.notification {
                ClientNotification::InitializedNotification(_) => {
                    self.handshake.initialized = Some(message.clone())
                }
                ClientNotification::CancelledNotification(cancelled) => {
                    // The server need not answer a cancelled request.
                    if let Some(id) = &cancelled.params.request_id {
                        self.pending.remove(id);
                    }
                }
                _ => {}
            },
            ClientJsonRpcMessage::Response(response) => {
                response.id = self.take_server_request(&response.id)?
            }
            ClientJsonRpcMessage::Error(error) => {
                if let Some(id) = &error.id {
                    error.id = Some(self.take_server_request(id)?);
                }
            }
        }
        Some(message)
    }

    /// The server's id of a request that rmcp answers.
    fn take_server_request(&mut self, id: &RequestId) -> Option<RequestId> {
        match id {
            RequestId::Number(id) => self.server_requests.remove(id),
            RequestId::String(_) => None,
        }
    }

    /// Handles the data of an event. Messages for rmcp go into the inbox.
    ///
    /// # Errors
    /// `TooMany`; and if the server does not accept a repeated `initialize`.
    pub(super) fn incoming(&mut self, data: &str) -> Result<Incoming, Error> {
        let mut message = match serde_json::from_str(data) {
            Ok(message) => message,
            Err(_) => return Ok(self.invalid_message(data)),
        };
        let mut incoming = Incoming::Other;
        match &mut message {
            ServerJsonRpcMessage::Request(request) => {
                if self.server_requests.len() == MAX_SERVER_REQUESTS {
                    return Err(LegacyCause::TooMany("requests that are not answered yet").into());
                }
                let rmcp_id = RequestId::Number(self.next_server_request);
                let id = std::mem::replace(&mut request.id, rmcp_id);
                self.server_requests.insert(self.next_server_request, id);
                self.next_server_request += 1;
            }
            ServerJsonRpcMessage::Notification(notification) => {
                if let ServerNotification::CancelledNotification(cancelled) =
                    &mut notification.notification
                {
                    let id = cancelled.params.request_id.take();
                    cancelled.params.request_id = id.and_then(|id| self.rmcp_id(&id));
                }
            }
            ServerJsonRpcMessage::Response(response) => {
                if self.is_repeated_initialize(&response.id) {
                    return self.check_reinitialized(&response.result);
                }
                if let ServerResult::InitializeResult(result) = &response.result {
                    self.handshake.version = Some(result.protocol_version.clone());
                }
                incoming = self.complete(&response.id);
            }
            ServerJsonRpcMessage::Error(error) => {
                if let Some(id) = &error.id {
                    if self.is_repeated_initialize(id) {
                        return Err(LegacyCause::InitializeRefused(error.error.code.0).into());
                    }
                    incoming = self.complete(id);
                }
            }
        }
        self.sent.redact_message(&mut message);
        self.inbox.push_back(message);
        Ok(incoming)
    }

    fn complete(&mut self, id: &RequestId) -> Incoming {
        if self.pending.remove(id) {
            Incoming::Response(id.clone())
        } else {
            Incoming::Other
        }
    }

    /// The id under which rmcp sees a request of the server.
    fn rmcp_id(&self, id: &RequestId) -> Option<RequestId> {
        let mut requests = self.server_requests.iter();
        let (rmcp_id, _) = requests.find(|(_, server_id)| *server_id == id)?;
        Some(RequestId::Number(*rmcp_id))
    }

    /// Handles data that is not a message. If it has the id of a pending request, that request
    /// fails; it would wait for ever.
    fn invalid_message(&mut self, data: &str) -> Incoming {
        let id = serde_json::from_str::<Value>(data)
            .ok()
            .and_then(|value| value.get("id").cloned());
        let id = id.and_then(|id| serde_json::from_value::<RequestId>(id).ok());
        match id {
            Some(id) if self.pending.remove(&id) => {
                let message = "the server's response is not a JSON-RPC message of MCP";
                let error = ErrorData::new(ErrorCode::PARSE_ERROR, message, None);
                self.inbox
                    .push_back(ServerJsonRpcMessage::error(error, Some(id.clone())));
                Incoming::Response(id)
            }
            _ => {
                tracing::warn!("skipping an event that is not a JSON-RPC message of MCP");
                Incoming::Other
            }
        }
    }

    /// A POST has failed. Its sender is told elsewhere, and no response comes.
    pub(super) fn forget(&mut self, id: &RequestId) {
        self.pending.remove(id);
    }

    /// The stream has broken: answers every pending request with [`CONNECTION_CLOSED`].
    pub(super) fn fail_pending(&mut self, why: &Error) {
        self.server_requests.clear();
        for id in self.pending.drain() {
            let message = format!(
                "the event stream broke before the response came, and the server may have acted: \
                 {why}"
            );
            let data = json!({ "mayHaveBeenProcessed": true });
            let error = ErrorData::new(CONNECTION_CLOSED, message, Some(data));
            self.inbox
                .push_back(ServerJsonRpcMessage::error(error, Some(id)));
        }
    }

    /// The negotiated protocol version, for `MCP-Protocol-Version`.
    pub(super) fn version(&self) -> Option<HeaderValue> {
        let version = self.handshake.version.as_ref()?;
        HeaderValue::from_str(version.as_str()).ok()
    }

    /// The `initialize` to begin a new session with, once it has been answered.
    pub(super) fn initialize(&self) -> Option<ClientJsonRpcMessage> {
        self.handshake.version.as_ref()?;
        let (_, message) = self.handshake.initialize.as_ref()?;
        Some(message.clone())
    }

    pub(super) fn initialized(&self) -> Option<ClientJsonRpcMessage> {
        self.handshake.initialized.clone()
    }

    /// Whether a response with this id answers an `initialize` that was answered before.
    fn is_repeated_initialize(&self, id: &RequestId) -> bool {
        let initialize = self.handshake.initialize.as_ref();
        initialize.is_some_and(|(ours, _)| ours == id) && !self.pending.contains(id)
    }

    fn check_reinitialized(&self, result: &ServerResult) -> Result<Incoming, Error> {
        match result {
            ServerResult::InitializeResult(result)
                if Some(&result.protocol_version) == self.handshake.version.as_ref() =>
            {
                Ok(Incoming::Reinitialized)
            }
            _ => Err(LegacyCause::OtherVersion.into()),
        }
    }
}
