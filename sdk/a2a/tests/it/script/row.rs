//! What came of a call, so that two runs of the script can be compared: no row has an id, a time or
//! an address in it.

use std::fmt::Write;

use a2a::{
    A2AError, AgentCard, Artifact, ListTaskPushNotificationConfigsResponse, ListTasksResponse,
    SendMessageResponse, StreamResponse, Task, TaskPushNotificationConfig, TaskState, TaskStatus,
};
use serde_json::{Value, json};

/// One call and its outcome.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) method: &'static str,
    pub(crate) variant: &'static str,
    /// In a few words, for the table.
    pub(crate) outcome: String,
    /// In full: the answer as JSON, or the error's code and message. The error's details are not
    /// compared: they are where a transport may add what it knows.
    pub(crate) answer: Value,
}

impl Row {
    pub(super) fn new<T: Told>(
        method: &'static str,
        variant: &'static str,
        result: &Result<T, A2AError>,
        names: &mut Names,
    ) -> Self {
        let (outcome, answer) = match result {
            Ok(answer) => (answer.told(), answer.json()),
            Err(error) => (
                format!("{} {}", error.code, error.message),
                json!({ "code": error.code, "message": error.message }),
            ),
        };
        let mut answer = answer;
        names.replace_in(&mut answer);
        Self {
            method,
            variant,
            outcome: names.replaced(&outcome),
            answer,
        }
    }

    pub(crate) fn call(&self) -> String {
        match self.variant {
            "" => format!("`{}`", self.method),
            variant => format!("`{}`, {variant}", self.method),
        }
    }
}

/// An answer of the transport's.
pub(super) trait Told {
    fn told(&self) -> String;
    fn json(&self) -> Value;
}

impl Told for () {
    fn told(&self) -> String {
        "done".to_owned()
    }

    fn json(&self) -> Value {
        Value::Null
    }
}

impl Told for Task {
    fn told(&self) -> String {
        let mut told = format!("task {}", of_status(&self.status));
        for artifact in self.artifacts.iter().flatten() {
            let _ = write!(told, ", {}", of_artifact(artifact));
        }
        if let Some(history) = self.history.as_ref().filter(|history| !history.is_empty()) {
            let _ = write!(told, ", history of {}", history.len());
        }
        told
    }

    fn json(&self) -> Value {
        value(self)
    }
}

impl Told for SendMessageResponse {
    fn told(&self) -> String {
        match self {
            Self::Task(task) => task.told(),
            Self::Message(message) => format!("message {:?}", message.text().unwrap_or_default()),
        }
    }

    fn json(&self) -> Value {
        value(self)
    }
}

impl Told for Vec<StreamResponse> {
    fn told(&self) -> String {
        let events = self.iter().map(|event| match event {
            StreamResponse::Task(task) => task.told(),
            StreamResponse::Message(message) => {
                format!("message {:?}", message.text().unwrap_or_default())
            }
            StreamResponse::StatusUpdate(update) => of_status(&update.status),
            StreamResponse::ArtifactUpdate(update) => of_artifact(&update.artifact),
        });
        let events: Vec<_> = events.collect();
        match &*events {
            [] => "no event".to_owned(),
            events => events.join("; "),
        }
    }

    fn json(&self) -> Value {
        value(self)
    }
}

impl Told for ListTasksResponse {
    fn told(&self) -> String {
        let states: Vec<_> = self
            .tasks
            .iter()
            .map(|task| of_state(&task.status.state))
            .collect();
        format!(
            "{} of {}: {}",
            self.tasks.len(),
            self.total_size,
            states.join(", ")
        )
    }

    fn json(&self) -> Value {
        value(self)
    }
}

impl Told for TaskPushNotificationConfig {
    fn told(&self) -> String {
        format!(
            "{} to {}",
            self.id.as_deref().unwrap_or("nameless"),
            self.url
        )
    }

    fn json(&self) -> Value {
        value(self)
    }
}

impl Told for ListTaskPushNotificationConfigsResponse {
    fn told(&self) -> String {
        let configs: Vec<_> = self.configs.iter().map(Told::told).collect();
        configs.join(", ")
    }

    fn json(&self) -> Value {
        value(self)
    }
}

impl Told for AgentCard {
    fn told(&self) -> String {
        let skills: Vec<_> = self.skills.iter().map(|skill| &*skill.id).collect();
        format!("card of {}, skills {}", self.name, skills.join(", "))
    }

    fn json(&self) -> Value {
        value(self)
    }
}

fn value(answer: &impl serde::Serialize) -> Value {
    serde_json::to_value(answer).expect("answers are JSON")
}

fn of_status(status: &TaskStatus) -> String {
    let state = of_state(&status.state);
    match status.message.as_ref().and_then(|message| message.text()) {
        Some(text) => format!("{state} {text:?}"),
        None => state.to_owned(),
    }
}

fn of_artifact(artifact: &Artifact) -> String {
    let text: String = artifact
        .parts
        .iter()
        .filter_map(|part| part.as_text())
        .collect();
    format!("artifact {text:?}")
}

fn of_state(state: &TaskState) -> &'static str {
    match state {
        TaskState::Unspecified => "UNSPECIFIED",
        TaskState::Submitted => "SUBMITTED",
        TaskState::Working => "WORKING",
        TaskState::Completed => "COMPLETED",
        TaskState::Failed => "FAILED",
        TaskState::Canceled => "CANCELED",
        TaskState::InputRequired => "INPUT_REQUIRED",
        TaskState::Rejected => "REJECTED",
        TaskState::AuthRequired => "AUTH_REQUIRED",
    }
}

/// Names for what is another in every run: UUIDs by order of appearance, times, tokens of
/// pages, the agent's addresses.
pub(super) struct Names {
    here: Vec<String>,
    ids: Vec<String>,
}

impl Names {
    pub(super) fn new(here: &[&str]) -> Self {
        Self {
            here: here.iter().map(ToString::to_string).collect(),
            ids: Vec::new(),
        }
    }

    fn replace_in(&mut self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.replaced(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.replace_in(item)),
            Value::Object(fields) => {
                for (name, field) in fields {
                    // One that is there is told from one that is not, and from what is no text.
                    match (name.as_str(), field.as_str()) {
                        ("timestamp", Some(_)) => *field = json!("a time"),
                        ("nextPageToken", Some(token)) if !token.is_empty() => {
                            *field = json!("a token")
                        }
                        _ => self.replace_in(field),
                    }
                }
            }
            _ => {}
        }
    }

    fn replaced(&mut self, text: &str) -> String {
        let text = self.here.iter().fold(text.to_owned(), |text, here| {
            let text = text.replace(&format!("https://{here}"), "http://here");
            text.replace(here, "here")
        });
        let mut replaced = String::new();
        let mut rest = &*text;
        while let Some(first) = rest.chars().next() {
            match rest.get(..36).filter(|id| is_uuid(id)) {
                Some(id) => {
                    let _ = write!(replaced, "#{}", self.number(id));
                    rest = &rest[36..];
                }
                None => {
                    replaced.push(first);
                    rest = &rest[first.len_utf8()..];
                }
            }
        }
        replaced
    }

    fn number(&mut self, id: &str) -> usize {
        let known = self.ids.iter().position(|known| known == id);
        known.unwrap_or_else(|| {
            self.ids.push(id.to_owned());
            self.ids.len() - 1
        })
    }
}

/// RFC 9562 §4.
fn is_uuid(text: &str) -> bool {
    let mut bytes = text.bytes().enumerate();
    text.len() == 36
        && bytes.all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}
