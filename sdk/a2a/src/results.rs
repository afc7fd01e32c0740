//! Results of A2A's methods, out of JSON. `a2a_pb` reads ProtoJSON, which takes any object for any
//! message: what is none of the expected kind is found out here.

use a2a::{
    A2AError, AgentCard, ListTaskPushNotificationConfigsResponse, ListTasksResponse,
    SendMessageResponse, StreamResponse, Task, TaskPushNotificationConfig,
};
use a2a_pb::protojson_conv::{self, ProtoJsonPayload};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::failure::{ErrorKind, Failure, shown};

/// Why what came is not the result that was asked for.
pub(crate) enum Misread {
    /// The agent reports an error.
    Reported(A2AError),
    /// It is no A2A, and why.
    NotA2a(String),
}

impl Misread {
    /// Of an event of a stream.
    pub(crate) fn in_event(self) -> A2AError {
        match self {
            Self::Reported(error) => error,
            Self::NotA2a(why) => {
                let message = format!("the agent sent what is no event of A2A's ({})", shown(&why));
                Failure::new(ErrorKind::NotA2a, message).into()
            }
        }
    }
}

/// JSON out of bytes.
pub(crate) fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Misread> {
    serde_json::from_slice(bytes).map_err(|e| Misread::NotA2a(e.to_string()))
}

/// A request as ProtoJSON.
///
/// # Errors
/// `InvalidCall` if it cannot be written so.
pub(crate) fn written<Q: ProtoJsonPayload>(request: &Q) -> Result<Value, Failure> {
    protojson_conv::to_value(request).map_err(|e| {
        Failure::new(
            ErrorKind::InvalidCall,
            format!("the request cannot be written as ProtoJSON: {e}"),
        )
    })
}

/// What a method answers.
pub(crate) trait Outcome: Sized {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with it.
    fn read(value: Value) -> Result<Self, String>;

    /// What no result of its kind may be, in JSON or protobuf: both take an empty message for any.
    fn lack(&self) -> Option<&'static str> {
        None
    }
}

/// Of a method that answers nothing: whatever it answers.
impl Outcome for () {
    fn read(_: Value) -> Result<Self, String> {
        Ok(())
    }
}

impl Outcome for Task {
    fn read(value: Value) -> Result<Self, String> {
        proto_json(value).and_then(whole)
    }

    fn lack(&self) -> Option<&'static str> {
        self.id.is_empty().then_some("a task without an id")
    }
}

impl Outcome for SendMessageResponse {
    fn read(value: Value) -> Result<Self, String> {
        proto_json(value).and_then(whole)
    }

    fn lack(&self) -> Option<&'static str> {
        match self {
            Self::Task(task) => task.lack(),
            Self::Message(_) => None,
        }
    }
}

impl Outcome for StreamResponse {
    fn read(value: Value) -> Result<Self, String> {
        proto_json(value).and_then(whole)
    }

    fn lack(&self) -> Option<&'static str> {
        let task = match self {
            Self::Task(task) => &task.id,
            Self::StatusUpdate(update) => &update.task_id,
            Self::ArtifactUpdate(update) => &update.task_id,
            Self::Message(_) => return None,
        };
        task.is_empty().then_some("an event without a task's id")
    }
}

impl Outcome for ListTasksResponse {
    fn read(value: Value) -> Result<Self, String> {
        // ProtoJSON leaves out what is empty, so that an empty list may be an empty object; but no
        // other one.
        const MEMBERS: [&str; 4] = ["tasks", "nextPageToken", "pageSize", "totalSize"];
        is_there(has_one_of(&value, &MEMBERS), "no list of tasks")?;
        proto_json(value)
    }
}

impl Outcome for AgentCard {
    fn read(value: Value) -> Result<Self, String> {
        proto_json(value).and_then(whole)
    }

    fn lack(&self) -> Option<&'static str> {
        self.name.is_empty().then_some("a card without a name")
    }
}

/// Servers write push notification configurations as the SDK's own JSON, or as ProtoJSON.
impl Outcome for TaskPushNotificationConfig {
    fn read(value: Value) -> Result<Self, String> {
        either(value).and_then(whole)
    }

    fn lack(&self) -> Option<&'static str> {
        self.url
            .is_empty()
            .then_some("a configuration without a URL")
    }
}

/// And lists of them as a bare array besides.
impl Outcome for ListTaskPushNotificationConfigsResponse {
    fn read(value: Value) -> Result<Self, String> {
        let response = match value {
            Value::Array(configs) => Self {
                configs: configs
                    .into_iter()
                    .map(Outcome::read)
                    .collect::<Result<_, _>>()?,
                next_page_token: None,
            },
            value => {
                is_there(
                    has_one_of(&value, &["configs", "nextPageToken"]),
                    "no list of configurations",
                )?;
                either(value)?
            }
        };
        whole(response)
    }

    fn lack(&self) -> Option<&'static str> {
        self.configs.iter().find_map(Outcome::lack)
    }
}

/// A result that lacks nothing.
fn whole<T: Outcome>(result: T) -> Result<T, String> {
    match result.lack() {
        None => Ok(result),
        Some(lack) => Err(lack.to_owned()),
    }
}

fn proto_json<T: ProtoJsonPayload>(value: Value) -> Result<T, String> {
    is_there(!value.is_null(), "there is no result")?;
    protojson_conv::from_value(value).map_err(|e| e.to_string())
}

fn either<T: ProtoJsonPayload + DeserializeOwned>(value: Value) -> Result<T, String> {
    match serde_json::from_value(value.clone()) {
        Ok(read) => Ok(read),
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

fn is_there(is_there: bool, otherwise: &str) -> Result<(), String> {
    if is_there {
        Ok(())
    } else {
        Err(otherwise.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reads<T: Outcome>(value: Value) -> bool {
        T::read(value).is_ok()
    }

    #[test]
    fn what_is_of_another_kind_is_no_result() {
        let task =
            json!({ "id": "t", "contextId": "c", "status": { "state": "TASK_STATE_WORKING" } });
        let update =
            json!({ "taskId": "t", "contextId": "c", "status": { "state": "TASK_STATE_WORKING" } });
        let message = json!({ "messageId": "m", "role": "ROLE_AGENT", "parts": [{ "text": "x" }] });
        let other = json!({ "foo": 1 });
        assert!(reads::<Task>(task.clone()));
        assert!(!reads::<Task>(json!({ "task": task })));
        assert!(!reads::<Task>(other.clone()));
        assert!(reads::<SendMessageResponse>(json!({ "task": task })));
        assert!(reads::<SendMessageResponse>(json!({ "message": message })));
        assert!(!reads::<SendMessageResponse>(json!({ "task": {} })));
        assert!(!reads::<SendMessageResponse>(task.clone()));
        assert!(reads::<StreamResponse>(json!({ "statusUpdate": update })));
        assert!(reads::<StreamResponse>(json!({ "message": message })));
        assert!(!reads::<StreamResponse>(json!({ "statusUpdate": {} })));
        assert!(!reads::<StreamResponse>(json!({ "artifactUpdate": {} })));
        assert!(!reads::<StreamResponse>(json!({ "task": {} })));
        assert!(!reads::<StreamResponse>(other.clone()));
        assert!(!reads::<AgentCard>(other.clone()));
        assert!(!reads::<ListTasksResponse>(other.clone()));
        assert!(reads::<ListTasksResponse>(json!({})));
        assert!(reads::<ListTasksResponse>(json!({ "tasks": [task] })));
        for none in [json!(null), json!([]), json!("x"), json!(1)] {
            assert!(
                !reads::<Task>(none.clone()) && !reads::<ListTasksResponse>(none.clone()),
                "{none}"
            );
        }
    }

    #[test]
    fn fields_that_nobody_knows_yet_are_passed_over() {
        let task = json!({ "id": "t", "mood": "good", "status": { "state": "TASK_STATE_WORKING", "since": [1] } });
        let event = StreamResponse::read(json!({ "task": task, "weather": {} })).unwrap();
        assert!(matches!(event, StreamResponse::Task(task) if task.id == "t"));
    }

    #[test]
    fn push_configurations_are_read_in_each_form_that_servers_write() {
        let plain = json!({ "taskId": "t", "id": "c", "url": "https://example.com/hook" });
        let snake = json!({ "task_id": "t", "id": "c", "url": "https://example.com/hook", "authentication": null });
        let expected = TaskPushNotificationConfig::read(plain.clone()).unwrap();
        assert_eq!(
            (&*expected.task_id, expected.id.as_deref()),
            ("t", Some("c"))
        );
        for list in [
            json!({ "configs": [plain], "nextPageToken": "n" }),
            json!({ "configs": [plain] }),
            json!([plain]),
        ] {
            let read = ListTaskPushNotificationConfigsResponse::read(list.clone()).unwrap();
            assert_eq!(read.configs, std::slice::from_ref(&expected), "{list}");
            assert_eq!(
                read.next_page_token.is_some(),
                list.get("nextPageToken").is_some()
            );
        }
        let read = TaskPushNotificationConfig::read(snake).unwrap();
        assert_eq!(read.url, expected.url);
        for none in [
            json!({ "foo": 1 }),
            json!([{ "foo": 1 }]),
            json!({ "configs": [{ "id": "x" }] }),
        ] {
            assert!(!reads::<TaskPushNotificationConfig>(none.clone()));
            assert!(
                !reads::<ListTaskPushNotificationConfigsResponse>(none.clone()),
                "{none}"
            );
        }
        assert!(reads::<ListTaskPushNotificationConfigsResponse>(json!({})));
        assert!(reads::<ListTaskPushNotificationConfigsResponse>(json!([])));
    }
}
