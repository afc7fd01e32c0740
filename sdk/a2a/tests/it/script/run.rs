//! The script: every method of `a2a_client::Transport`, and the errors that a user meets, in one
//! order.

use std::collections::HashMap;

use a2a::{
    A2AError, AuthenticationInfo, CancelTaskRequest, DeleteTaskPushNotificationConfigRequest,
    GetExtendedAgentCardRequest, GetTaskPushNotificationConfigRequest, GetTaskRequest,
    ListTaskPushNotificationConfigsRequest, ListTasksRequest, Message, Part, Role,
    SVC_PARAM_EXTENSIONS, SVC_PARAM_VERSION, SendMessageConfiguration, SendMessageRequest,
    SendMessageResponse, StreamResponse, SubscribeToTaskRequest, Task, TaskPushNotificationConfig,
    TaskState, VERSION, new_context_id, new_task_id,
};
use a2a_client::{ServiceParams, Transport};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use serde_json::json;

use super::row::{Names, Row};
use crate::soon;

/// A URI of nobody's, to see whether it arrives.
const EXTENSION: &str = "https://example.com/some-extension";

/// Plays the script on an agent that does as `bowline_testkit::a2a::Echo` does, and tells how each
/// call went. `here` are the authorities that the agent's card names (`localhost:1234`), which no
/// row does.
pub(super) async fn run_script(transport: &dyn Transport, here: &[&str]) -> Vec<Row> {
    let mut play = Play {
        transport,
        params: HashMap::from([
            (SVC_PARAM_VERSION.to_owned(), vec![VERSION.to_owned()]),
            (SVC_PARAM_EXTENSIONS.to_owned(), vec![EXTENSION.to_owned()]),
        ]),
        context: new_context_id(),
        names: Names::new(here),
        rows: Vec::new(),
    };
    let finished = play.messages().await;
    let held = play.running().await;
    play.reading(&finished).await;
    play.push_configs(&finished).await;
    play.card().await;
    play.errors(&finished, &held).await;
    let destroyed = soon(play.transport.destroy()).await;
    play.row("destroy", "", destroyed);
    play.rows
}

struct Play<'a> {
    transport: &'a dyn Transport,
    params: ServiceParams,
    context: String,
    names: Names,
    rows: Vec<Row>,
}

impl Play<'_> {
    /// Messages that are answered; the id of a task that is finished.
    async fn messages(&mut self) -> String {
        let sent = self.send(self.message("ahoy")).await;
        let finished = task_id(&sent);
        self.row("send_message", "", sent);

        // The answer's history has it all, so it is seen there.
        let mut rich = self.message("Ω & \"quotes\"\n");
        rich.message.parts.extend([
            Part::raw(vec![0, 159, 146, 150]).with_filename("four bytes.bin"),
            Part::url("https://example.com/a?b=c").with_media_type("text/html"),
            Part::data(
                json!({ "whole": 3, "half": 0.5, "none": null, "nested": [{ "deep": true }] }),
            ),
        ]);
        rich.message.metadata = Some(HashMap::from([(
            "key".to_owned(),
            json!({ "of": ["the message"] }),
        )]));
        rich.message.extensions = Some(vec![EXTENSION.to_owned()]);
        rich.message.reference_task_ids = Some(vec![finished.clone()]);
        let sent = self.send(rich).await;
        self.row("send_message", "parts of each kind", sent);

        for name in [SVC_PARAM_VERSION, SVC_PARAM_EXTENSIONS] {
            let sent = self.send(self.message(&format!("parameter {name}"))).await;
            self.row("send_message", name, sent);
        }

        let streamed = self.stream(self.message("count 3")).await;
        let events = drain(streamed).await;
        self.row("send_streaming_message", "to its end", events);
        finished
    }

    /// A task that runs until it is cancelled, and who listens to it; its id.
    async fn running(&mut self) -> String {
        let mut message = self.message("hold");
        message.configuration = Some(SendMessageConfiguration {
            accepted_output_modes: None,
            task_push_notification_config: None,
            history_length: None,
            return_immediately: Some(true),
        });
        let sent = self.send(message).await;
        let held = task_id(&sent);
        self.row("send_message", "returns at once", sent);

        let subscribed = self.subscribe(&held).await;
        let (first, rest) = match subscribed {
            Ok(mut stream) => (soon(stream.next()).await.transpose(), Some(stream)),
            Err(error) => (Err(error), None),
        };
        // A client that has read the first event is subscribed, so it reads of the cancellation.
        let canceled = self.cancel(&held).await;
        self.row("cancel_task", "running", canceled);
        let mut events = first.map(Vec::from_iter);
        if let (Ok(events), Some(rest)) = (&mut events, rest) {
            match drain(Ok(rest)).await {
                Ok(more) => events.extend(more),
                Err(error) => self.row(
                    "subscribe_to_task",
                    "the rest",
                    Err::<Vec<StreamResponse>, _>(error),
                ),
            }
        }
        self.row("subscribe_to_task", "running, until cancelled", events);
        held
    }

    async fn reading(&mut self, finished: &str) {
        for (variant, history_length) in [("", None), ("without history", Some(0))] {
            let request = GetTaskRequest {
                id: finished.to_owned(),
                history_length,
                tenant: None,
            };
            let task = soon(self.transport.get_task(&self.params, &request)).await;
            self.row("get_task", variant, task);
        }

        let all = self.list(None, None, None).await;
        self.row("list_tasks", "of the context", all);
        let canceled = self.list(Some(TaskState::Canceled), None, None).await;
        self.row("list_tasks", "cancelled ones", canceled);
        let page = self.list(None, Some(2), None).await;
        let token = page.as_ref().map(|page| page.next_page_token.clone()).ok();
        self.row("list_tasks", "two of them", page);
        let page = self.list(None, Some(2), token).await;
        self.row("list_tasks", "the next two", page);
    }

    async fn push_configs(&mut self, task: &str) {
        // The second id has to be escaped where it is part of a path.
        for (variant, id) in [("first", "first"), ("second", "second, 100%?")] {
            let config = TaskPushNotificationConfig {
                url: format!("https://example.com/{variant}"),
                id: Some(id.to_owned()),
                task_id: task.to_owned(),
                token: Some(format!("{id} token")),
                authentication: Some(AuthenticationInfo {
                    scheme: "Bearer".to_owned(),
                    credentials: Some("of the receiver".to_owned()),
                }),
                tenant: None,
            };
            let created = soon(self.transport.create_push_config(&self.params, &config)).await;
            self.row("create_push_config", variant, created);
            let got = self.push_config(task, id).await;
            self.row("get_push_config", variant, got);
        }
        let listed = self.push_config_list(task).await;
        self.row("list_push_configs", "two", listed);
        let request = DeleteTaskPushNotificationConfigRequest {
            task_id: task.to_owned(),
            id: "first".to_owned(),
            tenant: None,
        };
        let deleted = soon(self.transport.delete_push_config(&self.params, &request)).await;
        self.row("delete_push_config", "", deleted);
        let listed = self.push_config_list(task).await;
        self.row("list_push_configs", "one", listed);
        let got = self.push_config(task, "first").await;
        self.row("get_push_config", "deleted", got);
    }

    async fn card(&mut self) {
        let request = GetExtendedAgentCardRequest { tenant: None };
        let card = soon(
            self.transport
                .get_extended_agent_card(&self.params, &request),
        )
        .await;
        self.row("get_extended_agent_card", "", card);
    }

    async fn errors(&mut self, finished: &str, held: &str) {
        let unknown = new_task_id();
        let request = GetTaskRequest {
            id: unknown.clone(),
            history_length: None,
            tenant: None,
        };
        let task = soon(self.transport.get_task(&self.params, &request)).await;
        self.row("get_task", "unknown", task);
        for (variant, id) in [
            ("unknown", &*unknown),
            ("finished", finished),
            ("cancelled", held),
        ] {
            let canceled = self.cancel(id).await;
            self.row("cancel_task", variant, canceled);
        }
        for (variant, id) in [("unknown", &*unknown), ("finished", finished)] {
            let subscribed = self.subscribe(id).await;
            let events = drain(subscribed).await;
            self.row("subscribe_to_task", variant, events);
        }
        for (variant, id) in [
            ("to an unknown task", &*unknown),
            ("to a finished task", finished),
        ] {
            let mut message = self.message("ahoy");
            message.message.task_id = Some(id.to_owned());
            let sent = self.send(message.clone()).await;
            self.row("send_message", variant, sent);
            let streamed = self.stream(message).await;
            let events = drain(streamed).await;
            self.row("send_streaming_message", variant, events);
        }
        let listed = self.list(None, None, Some("no token".to_owned())).await;
        self.row("list_tasks", "a wrong page token", listed);
        let params = std::mem::take(&mut self.params);
        self.params
            .insert(SVC_PARAM_VERSION.to_owned(), vec!["9.9".to_owned()]);
        let sent = self.send(self.message("ahoy")).await;
        self.row("send_message", "a version that is none", sent);
        self.params = params;
    }

    fn message(&self, text: &str) -> SendMessageRequest {
        let mut message = Message::new(Role::User, vec![Part::text(text)]);
        message.context_id = Some(self.context.clone());
        SendMessageRequest {
            message,
            configuration: None,
            metadata: None,
            tenant: None,
        }
    }

    async fn send(&self, message: SendMessageRequest) -> Result<SendMessageResponse, A2AError> {
        soon(self.transport.send_message(&self.params, &message)).await
    }

    async fn stream(&self, message: SendMessageRequest) -> Result<Events, A2AError> {
        soon(
            self.transport
                .send_streaming_message(&self.params, &message),
        )
        .await
    }

    async fn subscribe(&self, id: &str) -> Result<Events, A2AError> {
        let request = SubscribeToTaskRequest {
            id: id.to_owned(),
            tenant: None,
        };
        soon(self.transport.subscribe_to_task(&self.params, &request)).await
    }

    async fn cancel(&self, id: &str) -> Result<Task, A2AError> {
        let request = CancelTaskRequest {
            id: id.to_owned(),
            metadata: None,
            tenant: None,
        };
        soon(self.transport.cancel_task(&self.params, &request)).await
    }

    async fn list(
        &self,
        status: Option<TaskState>,
        page_size: Option<i32>,
        page_token: Option<String>,
    ) -> Result<a2a::ListTasksResponse, A2AError> {
        let request = ListTasksRequest {
            context_id: Some(self.context.clone()),
            status,
            page_size,
            page_token,
            history_length: None,
            status_timestamp_after: None,
            include_artifacts: Some(true),
            tenant: None,
        };
        soon(self.transport.list_tasks(&self.params, &request)).await
    }

    async fn push_config(
        &self,
        task: &str,
        id: &str,
    ) -> Result<TaskPushNotificationConfig, A2AError> {
        let request = GetTaskPushNotificationConfigRequest {
            task_id: task.to_owned(),
            id: id.to_owned(),
            tenant: None,
        };
        soon(self.transport.get_push_config(&self.params, &request)).await
    }

    async fn push_config_list(
        &self,
        task: &str,
    ) -> Result<a2a::ListTaskPushNotificationConfigsResponse, A2AError> {
        let request = ListTaskPushNotificationConfigsRequest {
            task_id: task.to_owned(),
            page_size: None,
            page_token: None,
            tenant: None,
        };
        soon(self.transport.list_push_configs(&self.params, &request)).await
    }

    fn row<T: super::row::Told>(
        &mut self,
        method: &'static str,
        variant: &'static str,
        result: Result<T, A2AError>,
    ) {
        self.rows
            .push(Row::new(method, variant, &result, &mut self.names));
    }
}

type Events = BoxStream<'static, Result<StreamResponse, A2AError>>;

/// All events of a stream, or what it failed with.
async fn drain(stream: Result<Events, A2AError>) -> Result<Vec<StreamResponse>, A2AError> {
    let mut stream = stream?;
    let mut events = Vec::new();
    while let Some(event) = soon(stream.next()).await {
        events.push(event?);
    }
    Ok(events)
}

/// The id of the task that answers a message; an unknown one if none does, so that the script goes
/// on.
fn task_id(sent: &Result<SendMessageResponse, A2AError>) -> String {
    match sent {
        Ok(SendMessageResponse::Task(task)) => task.id.clone(),
        _ => new_task_id(),
    }
}
