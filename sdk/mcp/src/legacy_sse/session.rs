//! What is under way in a session: requests of ours, requests of the server's, and how the session
//! began.
//!
//! No I/O: messages in, messages out.

use std::collections::{HashMap, HashSet, VecDeque};

use http::HeaderValue;
use rmcp::model::{
    ClientJsonRpcMessage, ClientNotification, ClientRequest, ErrorCode, ErrorData, ProtocolVersion,
    RequestId, ServerJsonRpcMessage, ServerNotification, ServerResult,
};
use serde_json::{Value, json};

use crate::Error;
use crate::error::Cause;

/// The JSON-RPC error code of a request that was posted, and whose answer cannot come any more
/// because the stream broke. The TypeScript and Python SDKs use the same one.
pub const CONNECTION_CLOSED: ErrorCode = ErrorCode(-32000);

/// Requests of the server's that nobody has answered yet.
const MAX_ASKED: usize = 1024;

#[derive(Default)]
pub(super) struct Session {
    begun: Begun,
    /// Requests of ours that may be answered.
    called: HashSet<RequestId>,
    /// Requests of the server's, by the id that rmcp knows them under. A new session may use the
    /// old one's ids again; these are used once.
    asked: HashMap<i64, RequestId>,
    next_asked: i64,
    /// For rmcp.
    pub(super) inbox: VecDeque<ServerJsonRpcMessage>,
}

/// How the session began: what a new one begins with.
#[derive(Default)]
struct Begun {
    initialize: Option<(RequestId, ClientJsonRpcMessage)>,
    version: Option<ProtocolVersion>,
    initialized: Option<ClientJsonRpcMessage>,
}

/// What became of a message of the server's.
#[derive(Debug, PartialEq)]
pub(super) enum Taken {
    /// It answers this request of rmcp's.
    Answer(RequestId),
    /// It answers the `initialize` of a new session, and is not for rmcp.
    Begun,
    Other,
}

impl Session {
    /// A message of rmcp's as it goes out; `None` if it answers what nobody asks any more.
    pub(super) fn outgoing(
        &mut self,
        mut message: ClientJsonRpcMessage,
    ) -> Option<ClientJsonRpcMessage> {
        match &mut message {
            ClientJsonRpcMessage::Request(request) => {
                self.called.insert(request.id.clone());
                if matches!(request.request, ClientRequest::InitializeRequest(_)) {
                    self.begun.initialize = Some((request.id.clone(), message.clone()));
                }
            }
            ClientJsonRpcMessage::Notification(notification) => match &notification.notification {
                ClientNotification::InitializedNotification(_) => {
                    self.begun.initialized = Some(message.clone())
                }
                ClientNotification::CancelledNotification(cancelled) => {
                    // It may stay without an answer.
                    if let Some(id) = &cancelled.params.request_id {
                        self.called.remove(id);
                    }
                }
                _ => {}
            },
            ClientJsonRpcMessage::Response(response) => {
                response.id = self.answered(&response.id)?
            }
            ClientJsonRpcMessage::Error(error) => {
                if let Some(id) = &error.id {
                    error.id = Some(self.answered(id)?);
                }
            }
        }
        Some(message)
    }

    fn answered(&mut self, id: &RequestId) -> Option<RequestId> {
        match id {
            RequestId::Number(id) => self.asked.remove(id),
            RequestId::String(_) => None,
        }
    }

    /// Takes the data of an event in. What is for rmcp goes into the inbox.
    ///
    /// # Errors
    /// `Flood`; the other ones concern the repeated `initialize`.
    pub(super) fn incoming(&mut self, data: &str) -> Result<Taken, Error> {
        let mut message = match serde_json::from_str(data) {
            Ok(message) => message,
            Err(_) => return Ok(self.unreadable(data)),
        };
        let mut taken = Taken::Other;
        match &mut message {
            ServerJsonRpcMessage::Request(request) => {
                if self.asked.len() == MAX_ASKED {
                    return Err(Cause::Flood("requests that are not answered yet").into());
                }
                let id = std::mem::replace(&mut request.id, RequestId::Number(self.next_asked));
                self.asked.insert(self.next_asked, id);
                self.next_asked += 1;
            }
            ServerJsonRpcMessage::Notification(notification) => {
                if let ServerNotification::CancelledNotification(cancelled) =
                    &mut notification.notification
                {
                    let id = cancelled.params.request_id.take();
                    cancelled.params.request_id = id.and_then(|id| self.known_as(&id));
                }
            }
            ServerJsonRpcMessage::Response(response) => {
                if self.is_repeated_initialize(&response.id) {
                    return self.begin_again(&response.result);
                }
                if let ServerResult::InitializeResult(result) = &response.result {
                    self.begun.version = Some(result.protocol_version.clone());
                }
                taken = self.settle(&response.id);
            }
            ServerJsonRpcMessage::Error(error) => {
                if let Some(id) = &error.id {
                    if self.is_repeated_initialize(id) {
                        return Err(Cause::InitializeRefused(error.error.code.0).into());
                    }
                    taken = self.settle(id);
                }
            }
        }
        self.inbox.push_back(message);
        Ok(taken)
    }

    fn settle(&mut self, id: &RequestId) -> Taken {
        match self.called.remove(id) {
            true => Taken::Answer(id.clone()),
            false => Taken::Other,
        }
    }

    /// The id that rmcp knows a request of the server's under.
    fn known_as(&self, id: &RequestId) -> Option<RequestId> {
        let known = self.asked.iter().find(|(_, asked)| *asked == id);
        known.map(|(ours, _)| RequestId::Number(*ours))
    }

    /// Data that is no message. If it has the id of a request of ours, that one fails rather than
    /// wait for ever.
    fn unreadable(&mut self, data: &str) -> Taken {
        let id = serde_json::from_str::<Value>(data)
            .ok()
            .and_then(|value| value.get("id").cloned());
        let id = id.and_then(|id| serde_json::from_value::<RequestId>(id).ok());
        match id {
            Some(id) if self.called.remove(&id) => {
                let message = "the server's answer is no JSON-RPC message of MCP";
                let error = ErrorData::new(ErrorCode::PARSE_ERROR, message, None);
                self.inbox
                    .push_back(ServerJsonRpcMessage::error(error, Some(id.clone())));
                Taken::Answer(id)
            }
            _ => {
                tracing::warn!("skipping an event that is no JSON-RPC message of MCP");
                Taken::Other
            }
        }
    }

    /// A POST has failed: its sender hears so, and no answer comes.
    pub(super) fn forget(&mut self, id: &RequestId) {
        self.called.remove(id);
    }

    /// The stream has broken: nobody answers any more.
    pub(super) fn lose(&mut self, why: &Error) {
        self.asked.clear();
        for id in self.called.drain() {
            let message = format!(
                "the event stream broke before the answer came, and the server may have acted: {why}"
            );
            let data = json!({ "mayHaveBeenProcessed": true });
            let error = ErrorData::new(CONNECTION_CLOSED, message, Some(data));
            self.inbox
                .push_back(ServerJsonRpcMessage::error(error, Some(id)));
        }
    }

    /// The protocol version that was agreed upon, for `MCP-Protocol-Version`.
    pub(super) fn version(&self) -> Option<HeaderValue> {
        let version = self.begun.version.as_ref()?;
        HeaderValue::from_str(version.as_str()).ok()
    }

    /// What a new session begins with, once one has begun.
    pub(super) fn initialize(&self) -> Option<ClientJsonRpcMessage> {
        self.begun.version.as_ref()?;
        self.begun
            .initialize
            .as_ref()
            .map(|(_, message)| message.clone())
    }

    pub(super) fn initialized(&self) -> Option<ClientJsonRpcMessage> {
        self.begun.initialized.clone()
    }

    /// Whether this answers an `initialize` that rmcp has had its answer to.
    fn is_repeated_initialize(&self, id: &RequestId) -> bool {
        let initialize = self.begun.initialize.as_ref();
        initialize.is_some_and(|(ours, _)| ours == id) && !self.called.contains(id)
    }

    fn begin_again(&self, result: &ServerResult) -> Result<Taken, Error> {
        match result {
            ServerResult::InitializeResult(result)
                if Some(&result.protocol_version) == self.begun.version.as_ref() =>
            {
                Ok(Taken::Begun)
            }
            _ => Err(Cause::AnotherVersion.into()),
        }
    }
}
