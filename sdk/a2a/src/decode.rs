//! Decodes the results of A2A's methods from JSON. ProtoJSON, as `a2a_pb` reads it, accepts any
//! object as any message; this module rejects those that are not of the expected kind.

use a2a::{
    A2AError, AgentCard, ListTaskPushNotificationConfigsResponse, ListTasksResponse,
    SendMessageResponse, StreamResponse, Task, TaskPushNotificationConfig,
};
use a2a_pb::protojson_conv::{self, ProtoJsonPayload};
use bowline_transport::body::without_mark;
use bowline_transport::redact::SentTokens;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, ErrorKind};
use crate::text::redacted;

/// Why a response is not the expected result.
pub(crate) enum DecodeError {
    /// The agent reports an error.
    Reported(A2AError),
    /// It is not A2A, and why.
    NotA2a(String),
}

impl DecodeError {
    /// The error for an event of a stream, of a call that these tokens were sent with.
    pub(crate) fn into_event_error(self, sent: &SentTokens) -> A2AError {
        match self {
            Self::Reported(error) => redacted(sent, error),
            Self::NotA2a(why) => {
                let message = format!(
                    "the agent sent an event that is not A2A ({})",
                    sent.printable(&why)
                );
                Error::new(ErrorKind::NotA2a, message).into()
            }
        }
    }
}

/// Parses JSON.
pub(crate) fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    serde_json::from_slice(without_mark(bytes)).map_err(|e| DecodeError::NotA2a(e.to_string()))
}

/// Writes a request as ProtoJSON.
///
/// # Errors
/// `InvalidCall` if that is not possible.
pub(crate) fn to_proto_json<Q: ProtoJsonPayload>(request: &Q) -> Result<Value, Error> {
    protojson_conv::to_value(request).map_err(|e| {
        Error::new(
            ErrorKind::InvalidCall,
            format!("the request cannot be written as ProtoJSON: {e}"),
        )
    })
}

/// The result of a method.
pub(crate) trait Decode: Sized {
    /// Decodes it.
    ///
    /// # Errors
    /// What is wrong with it.
    fn decode(value: Value) -> Result<Self, String>;

    /// The required member that is missing. JSON and protobuf accept an empty message as any.
    fn missing(&self) -> Option<&'static str> {
        None
    }
}

/// For a method without a result: accepts any.
impl Decode for () {
    fn decode(_: Value) -> Result<Self, String> {
        Ok(())
    }
}

impl Decode for Task {
    fn decode(value: Value) -> Result<Self, String> {
        proto_json(value).and_then(complete)
    }

    fn missing(&self) -> Option<&'static str> {
        self.id.is_empty().then_some("a task without an id")
    }
}

impl Decode for SendMessageResponse {
    fn decode(value: Value) -> Result<Self, String> {
        proto_json(value).and_then(complete)
    }

    fn missing(&self) -> Option<&'static str> {
        match self {
            Self::Task(task) => task.missing(),
            Self::Message(_) => None,
        }
    }
}

impl Decode for StreamResponse {
    fn decode(value: Value) -> Result<Self, String> {
        proto_json(value).and_then(complete)
    }

    fn missing(&self) -> Option<&'static str> {
        let task = match self {
            Self::Task(task) => &task.id,
            Self::StatusUpdate(update) => &update.task_id,
            Self::ArtifactUpdate(update) => &update.task_id,
            Self::Message(_) => return None,
        };
        task.is_empty().then_some("an event without a task's id")
    }
}

impl Decode for ListTasksResponse {
    fn decode(value: Value) -> Result<Self, String> {
        // ProtoJSON leaves out empty members, so an empty object may be an empty list. An object
        // with none of these members is something else.
        const MEMBERS: [&str; 4] = ["tasks", "nextPageToken", "pageSize", "totalSize"];
        require(has_one_of(&value, &MEMBERS), "no list of tasks")?;
        proto_json(value)
    }
}

impl Decode for AgentCard {
    fn decode(value: Value) -> Result<Self, String> {
        proto_json(value).and_then(complete)
    }

    fn missing(&self) -> Option<&'static str> {
        self.name.is_empty().then_some("a card without a name")
    }
}

/// Servers write push notification configurations as the SDK's own JSON, or as ProtoJSON.
impl Decode for TaskPushNotificationConfig {
    fn decode(value: Value) -> Result<Self, String> {
        plain_or_proto_json(value).and_then(complete)
    }

    fn missing(&self) -> Option<&'static str> {
        self.url
            .is_empty()
            .then_some("a configuration without a URL")
    }
}

/// Some servers write a list of them as a bare array.
impl Decode for ListTaskPushNotificationConfigsResponse {
    fn decode(value: Value) -> Result<Self, String> {
        let response = match value {
            Value::Array(configs) => Self {
                configs: configs
                    .into_iter()
                    .map(Decode::decode)
                    .collect::<Result<_, _>>()?,
                next_page_token: None,
            },
            value => {
                require(
                    has_one_of(&value, &["configs", "nextPageToken"]),
                    "no list of configurations",
                )?;
                plain_or_proto_json(value)?
            }
        };
        complete(response)
    }

    fn missing(&self) -> Option<&'static str> {
        self.configs.iter().find_map(Decode::missing)
    }
}

/// Rejects a result without a required member.
fn complete<T: Decode>(result: T) -> Result<T, String> {
    match result.missing() {
        None => Ok(result),
        Some(missing) => Err(missing.to_owned()),
    }
}

fn proto_json<T: ProtoJsonPayload>(value: Value) -> Result<T, String> {
    require(!value.is_null(), "there is no result")?;
    protojson_conv::from_value(value).map_err(|e| e.to_string())
}

fn plain_or_proto_json<T: ProtoJsonPayload + DeserializeOwned>(value: Value) -> Result<T, String> {
    match serde_json::from_value(value.clone()) {
        Ok(result) => Ok(result),
        Err(_) => proto_json(value),
    }
}

/// Whether an object is empty, or has one of these members.
fn has_one_of(value: &Value, members: &[&str]) -> bool {
    let object = value.as_object();
    object.is_some_and(|object| {
        object.is_empty() || members.iter().any(|member| object.contains_key(*member))
    })
}

fn require(is_there: bool, otherwise: &str) -> Result<(), String> {
    if is_there {
        Ok(())
    } else {
        Err(otherwise.to_owned())
    }
}

#[cfg(test)]
mod tests;
