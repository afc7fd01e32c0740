//! The HTTP+JSON binding (A2A §11): a path for each method below one URL.

mod target;

use a2a::jsonrpc::methods;
use a2a::{
    A2AError, AgentCard, CancelTaskRequest, DeleteTaskPushNotificationConfigRequest,
    GetExtendedAgentCardRequest, GetTaskPushNotificationConfigRequest, GetTaskRequest,
    ListTaskPushNotificationConfigsRequest, ListTaskPushNotificationConfigsResponse,
    ListTasksRequest, ListTasksResponse, SendMessageRequest, SendMessageResponse,
    SubscribeToTaskRequest, Task, TaskPushNotificationConfig,
};
use a2a_client::{ServiceParams, Transport};
use async_trait::async_trait;
use bowline_client::Body;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::response::Parts;
use http::{HeaderValue, Method, Request, Uri};
use http_body_util::Full;
use serde_json::Value;

use crate::events::{self, EVENT_STREAM, Events, Longest, may_be_stream};
use crate::failure::{Failure, shown};
use crate::reported::{ErrorObject, StatusBody};
use crate::results::{Misread, Outcome, json, written};
use crate::wire::{Outbound, Wire, answered, of_status, refused_with, says_more};
use target::Target;

/// The media type of requests. Both official servers take it.
const A2A_JSON: HeaderValue = HeaderValue::from_static("application/a2a+json");
/// Those of answers: agents may answer with either.
const EITHER_JSON: HeaderValue = HeaderValue::from_static("application/a2a+json, application/json");

/// A transport of the `HTTP+JSON` binding.
pub(crate) struct HttpJson {
    pub(crate) wire: Wire,
    pub(crate) endpoint: Uri,
    /// Longest event of a stream, in bytes.
    pub(crate) longest_event: usize,
}

/// One call: A2A's method, HTTP's, where, and what is sent.
struct Asking {
    method: &'static str,
    http: Method,
    target: Target,
    body: Option<Value>,
}

impl HttpJson {
    fn target(&self, tenant: Option<&str>) -> Result<Target, Failure> {
        Target::below(&self.endpoint, tenant)
    }

    fn task(&self, tenant: Option<&str>, id: &str) -> Result<Target, Failure> {
        self.target(tenant)?.fixed("/tasks/").segment("task id", id)
    }

    fn push_config(&self, tenant: Option<&str>, task: &str, id: &str) -> Result<Target, Failure> {
        let configs = self.task(tenant, task)?.fixed("/pushNotificationConfigs/");
        configs.segment("configuration id", id)
    }

    /// Sends a request; the answer is one of success.
    async fn ask(
        &self,
        params: &ServiceParams,
        asking: Asking,
        accept: HeaderValue,
    ) -> Result<(Parts, Body), A2AError> {
        let mut request = Request::new(Full::default());
        if let Some(body) = asking.body {
            *request.body_mut() = Full::new(body.to_string().into());
            request.headers_mut().insert(CONTENT_TYPE, A2A_JSON);
        }
        *request.method_mut() = asking.http;
        *request.uri_mut() = asking.target.uri(&self.endpoint)?;
        request.headers_mut().insert(ACCEPT, accept);
        let outbound = Outbound {
            method: asking.method,
            params: params.clone(),
        };
        let (head, body) = self.wire.send(&outbound, request).await?.into_parts();
        if !head.status.is_success() {
            return Err(self.refusal(&head, body).await);
        }
        Ok((head, body))
    }

    async fn call<T: Outcome>(
        &self,
        params: &ServiceParams,
        asking: Asking,
    ) -> Result<T, A2AError> {
        let (head, body) = self.ask(params, asking, EITHER_JSON).await?;
        let bytes = self.wire.json(&head, body).await?;
        outcome(&bytes).map_err(|misread| answered(misread, &head, &bytes))
    }

    async fn stream(&self, params: &ServiceParams, asking: Asking) -> Result<Events, A2AError> {
        let accept = HeaderValue::from_static(EVENT_STREAM);
        let (head, body) = self.ask(params, asking, accept).await?;
        if may_be_stream(&head.headers, &body) {
            let longest = Longest {
                event: self.longest_event,
                answer: self.wire.longest_answer,
            };
            return Ok(events::events(&head, body, longest, outcome));
        }
        let bytes = self.wire.json(&head, body).await?;
        let event = outcome(&bytes).map_err(|misread| answered(misread, &head, &bytes))?;
        Ok(events::only(event))
    }

    /// What an error status means, with the error that it may hold.
    async fn refusal(&self, head: &Parts, body: Body) -> A2AError {
        let bytes = self.wire.error_text(head, body).await;
        let Ok(status) = serde_json::from_slice::<StatusBody>(&bytes) else {
            return refused_with(head, &bytes).into();
        };
        let is_a2a = status.is_a2a();
        let mut error = A2AError::from(status);
        if is_a2a && !says_more(head.status) {
            return error;
        }
        if !is_a2a {
            error.message = shown(&error.message);
        }
        of_status(head, error.message.clone()).within(error)
    }
}

/// Reads an answer or an event. Either may be an error: as A2A writes it, or, in events of the
/// official Rust server, an error object of JSON-RPC's alone.
fn outcome<T: Outcome>(bytes: &[u8]) -> Result<T, Misread> {
    let value: Value = json(bytes)?;
    let is_text = |name: &str| value.get(name).is_some_and(Value::is_string);
    let reported = if value.get("error").is_some_and(Value::is_object) {
        serde_json::from_value(value).map(|status: StatusBody| status.into())
    } else if is_text("message") && value.get("code").is_some_and(Value::is_number) {
        serde_json::from_value(value).map(|object: ErrorObject| object.into())
    } else {
        return T::read(value).map_err(Misread::NotA2a);
    };
    Err(reported.map_or_else(|e| Misread::NotA2a(e.to_string()), Misread::Reported))
}

#[async_trait]
impl Transport for HttpJson {
    async fn send_message(
        &self,
        params: &ServiceParams,
        req: &SendMessageRequest,
    ) -> Result<SendMessageResponse, A2AError> {
        let asking = Asking {
            method: methods::SEND_MESSAGE,
            http: Method::POST,
            target: self.target(req.tenant.as_deref())?.fixed("/message:send"),
            body: Some(written(req)?),
        };
        self.call(params, asking).await
    }

    async fn send_streaming_message(
        &self,
        params: &ServiceParams,
        req: &SendMessageRequest,
    ) -> Result<Events, A2AError> {
        let asking = Asking {
            method: methods::SEND_STREAMING_MESSAGE,
            http: Method::POST,
            target: self.target(req.tenant.as_deref())?.fixed("/message:stream"),
            body: Some(written(req)?),
        };
        self.stream(params, asking).await
    }

    async fn get_task(
        &self,
        params: &ServiceParams,
        req: &GetTaskRequest,
    ) -> Result<Task, A2AError> {
        let task = self.task(req.tenant.as_deref(), &req.id)?;
        let asking = Asking {
            method: methods::GET_TASK,
            http: Method::GET,
            target: task.parameter("historyLength", req.history_length),
            body: None,
        };
        self.call(params, asking).await
    }

    async fn list_tasks(
        &self,
        params: &ServiceParams,
        req: &ListTasksRequest,
    ) -> Result<ListTasksResponse, A2AError> {
        // As ProtoJSON has them: states by name, times in RFC 3339.
        let fields = written(req)?;
        let text = |name: &str| fields.get(name).and_then(Value::as_str);
        let target = self
            .target(req.tenant.as_deref())?
            .fixed("/tasks")
            .parameter("contextId", req.context_id.as_deref())
            .parameter("status", text("status"))
            .parameter("pageSize", req.page_size)
            .parameter("pageToken", req.page_token.as_deref())
            .parameter("historyLength", req.history_length)
            .parameter("statusTimestampAfter", text("statusTimestampAfter"))
            .parameter("includeArtifacts", req.include_artifacts);
        let asking = Asking {
            method: methods::LIST_TASKS,
            http: Method::GET,
            target,
            body: None,
        };
        self.call(params, asking).await
    }

    async fn cancel_task(
        &self,
        params: &ServiceParams,
        req: &CancelTaskRequest,
    ) -> Result<Task, A2AError> {
        let asking = Asking {
            method: methods::CANCEL_TASK,
            http: Method::POST,
            target: self.task(req.tenant.as_deref(), &req.id)?.fixed(":cancel"),
            body: Some(written(req)?),
        };
        self.call(params, asking).await
    }

    async fn subscribe_to_task(
        &self,
        params: &ServiceParams,
        req: &SubscribeToTaskRequest,
    ) -> Result<Events, A2AError> {
        // §11.3.2 says POST, `a2a.proto` says GET; both official servers take either.
        let asking = Asking {
            method: methods::SUBSCRIBE_TO_TASK,
            http: Method::GET,
            target: self
                .task(req.tenant.as_deref(), &req.id)?
                .fixed(":subscribe"),
            body: None,
        };
        self.stream(params, asking).await
    }

    async fn create_push_config(
        &self,
        params: &ServiceParams,
        req: &TaskPushNotificationConfig,
    ) -> Result<TaskPushNotificationConfig, A2AError> {
        let task = self.task(req.tenant.as_deref(), &req.task_id)?;
        let asking = Asking {
            method: methods::CREATE_PUSH_CONFIG,
            http: Method::POST,
            target: task.fixed("/pushNotificationConfigs"),
            body: Some(written(req)?),
        };
        self.call(params, asking).await
    }

    async fn get_push_config(
        &self,
        params: &ServiceParams,
        req: &GetTaskPushNotificationConfigRequest,
    ) -> Result<TaskPushNotificationConfig, A2AError> {
        let asking = Asking {
            method: methods::GET_PUSH_CONFIG,
            http: Method::GET,
            target: self.push_config(req.tenant.as_deref(), &req.task_id, &req.id)?,
            body: None,
        };
        self.call(params, asking).await
    }

    async fn list_push_configs(
        &self,
        params: &ServiceParams,
        req: &ListTaskPushNotificationConfigsRequest,
    ) -> Result<ListTaskPushNotificationConfigsResponse, A2AError> {
        let target = self
            .task(req.tenant.as_deref(), &req.task_id)?
            .fixed("/pushNotificationConfigs")
            .parameter("pageSize", req.page_size)
            .parameter("pageToken", req.page_token.as_deref());
        let asking = Asking {
            method: methods::LIST_PUSH_CONFIGS,
            http: Method::GET,
            target,
            body: None,
        };
        self.call(params, asking).await
    }

    async fn delete_push_config(
        &self,
        params: &ServiceParams,
        req: &DeleteTaskPushNotificationConfigRequest,
    ) -> Result<(), A2AError> {
        let asking = Asking {
            method: methods::DELETE_PUSH_CONFIG,
            http: Method::DELETE,
            target: self.push_config(req.tenant.as_deref(), &req.task_id, &req.id)?,
            body: None,
        };
        // The official Rust server answers nothing, the Python one an empty object.
        let (head, rest) = self.ask(params, asking, EITHER_JSON).await?;
        let bytes = self.wire.json(&head, rest).await?;
        match outcome::<()>(&bytes) {
            Err(Misread::Reported(error)) => Err(error),
            _ => Ok(()),
        }
    }

    async fn get_extended_agent_card(
        &self,
        params: &ServiceParams,
        req: &GetExtendedAgentCardRequest,
    ) -> Result<AgentCard, A2AError> {
        let asking = Asking {
            method: methods::GET_EXTENDED_AGENT_CARD,
            http: Method::GET,
            target: self
                .target(req.tenant.as_deref())?
                .fixed("/extendedAgentCard"),
            body: None,
        };
        self.call(params, asking).await
    }

    async fn destroy(&self) -> Result<(), A2AError> {
        Ok(())
    }
}
