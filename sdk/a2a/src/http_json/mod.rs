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
use bowline_http_client::Body;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::response::Parts;
use http::{HeaderValue, Method, Request, Uri};
use http_body_util::Full;
use serde_json::Value;

use crate::agent_error::{ErrorObject, StatusBody};
use crate::decode::{Decode, DecodeError, parse_json, to_proto_json};
use crate::endpoint::{
    AgentEndpoint, OutgoingCall, decode_failed, error_from_body, error_from_status,
    overrides_a2a_error,
};
use crate::error::Error;
use crate::events::{self, EVENT_STREAM, Events, Limits, may_be_stream};
use crate::text::{printable, redacted, sent_tokens};
use target::Target;

/// The media type of requests. Both official servers accept it.
const A2A_JSON: HeaderValue = HeaderValue::from_static("application/a2a+json");
/// The media types of responses: agents may use either.
const EITHER_JSON: HeaderValue = HeaderValue::from_static("application/a2a+json, application/json");

/// A transport of the `HTTP+JSON` binding.
pub(crate) struct HttpJson {
    pub(crate) endpoint: AgentEndpoint,
    pub(crate) url: Uri,
    /// Maximum length of an event, in bytes.
    pub(crate) max_event_bytes: usize,
}

/// One call as an HTTP request.
struct HttpCall {
    method: &'static str,
    http: Method,
    target: Target,
    body: Option<Value>,
}

impl HttpJson {
    fn target(&self, tenant: Option<&str>) -> Result<Target, Error> {
        Target::below(&self.url, tenant)
    }

    fn task(&self, tenant: Option<&str>, id: &str) -> Result<Target, Error> {
        self.target(tenant)?.fixed("/tasks/").segment("task id", id)
    }

    fn push_config(&self, tenant: Option<&str>, task: &str, id: &str) -> Result<Target, Error> {
        let configs = self.task(tenant, task)?.fixed("/pushNotificationConfigs/");
        configs.segment("configuration id", id)
    }

    /// Sends a request whose response has a status of success.
    async fn request(
        &self,
        params: &ServiceParams,
        call: HttpCall,
        accept: HeaderValue,
    ) -> Result<(Parts, Body), A2AError> {
        let mut request = Request::new(Full::default());
        if let Some(body) = call.body {
            *request.body_mut() = Full::new(body.to_string().into());
            request.headers_mut().insert(CONTENT_TYPE, A2A_JSON);
        }
        *request.method_mut() = call.http;
        *request.uri_mut() = call.target.uri(&self.url)?;
        request.headers_mut().insert(ACCEPT, accept);
        let outgoing = OutgoingCall {
            method: call.method,
            params: params.clone(),
        };
        let (head, body) = self.endpoint.send(&outgoing, request).await?.into_parts();
        if !head.status.is_success() {
            return Err(self.error_response(&head, body).await);
        }
        Ok((head, body))
    }

    async fn call<T: Decode>(&self, params: &ServiceParams, call: HttpCall) -> Result<T, A2AError> {
        let (head, body) = self.request(params, call, EITHER_JSON).await?;
        let bytes = self.endpoint.json(&head, body).await?;
        decode(&bytes).map_err(|error| decode_failed(error, &head, &bytes))
    }

    async fn stream(&self, params: &ServiceParams, call: HttpCall) -> Result<Events, A2AError> {
        let accept = HeaderValue::from_static(EVENT_STREAM);
        let (head, body) = self.request(params, call, accept).await?;
        if may_be_stream(&head.headers, &body) {
            let limits = Limits {
                event: self.max_event_bytes,
                response: self.endpoint.max_response_bytes,
            };
            return Ok(events::events(&head, body, limits, decode));
        }
        let bytes = self.endpoint.json(&head, body).await?;
        let event = decode(&bytes).map_err(|error| decode_failed(error, &head, &bytes))?;
        Ok(events::only(event))
    }

    /// The error for a response with an error status, whose body may hold an A2A error.
    async fn error_response(&self, head: &Parts, body: Body) -> A2AError {
        let bytes = self.endpoint.error_text(head, body).await;
        let Ok(status) = parse_json::<StatusBody>(&bytes) else {
            return error_from_body(head, &bytes).into();
        };
        let is_a2a = status.is_a2a();
        let sent = sent_tokens(head);
        let mut error = redacted(&sent, A2AError::from(status));
        if is_a2a && !overrides_a2a_error(head.status) {
            return error;
        }
        if !is_a2a {
            error.message = printable(&error.message);
        }
        error_from_status(head, error.message.clone()).attach_to(error)
    }
}

/// Decodes a response or an event. Either may be an error: in A2A's form or, in events of the
/// official Rust server, as a bare error object of JSON-RPC.
fn decode<T: Decode>(bytes: &[u8]) -> Result<T, DecodeError> {
    let value: Value = parse_json(bytes)?;
    let is_text = |name: &str| value.get(name).is_some_and(Value::is_string);
    let reported = if value.get("error").is_some_and(Value::is_object) {
        serde_json::from_value(value).map(|status: StatusBody| status.into())
    } else if is_text("message") && value.get("code").is_some_and(Value::is_number) {
        serde_json::from_value(value).map(|object: ErrorObject| object.into())
    } else {
        return T::decode(value).map_err(DecodeError::NotA2a);
    };
    Err(reported.map_or_else(
        |e| DecodeError::NotA2a(e.to_string()),
        DecodeError::Reported,
    ))
}

#[async_trait]
impl Transport for HttpJson {
    async fn send_message(
        &self,
        params: &ServiceParams,
        req: &SendMessageRequest,
    ) -> Result<SendMessageResponse, A2AError> {
        let call = HttpCall {
            method: methods::SEND_MESSAGE,
            http: Method::POST,
            target: self.target(req.tenant.as_deref())?.fixed("/message:send"),
            body: Some(to_proto_json(req)?),
        };
        self.call(params, call).await
    }

    async fn send_streaming_message(
        &self,
        params: &ServiceParams,
        req: &SendMessageRequest,
    ) -> Result<Events, A2AError> {
        let call = HttpCall {
            method: methods::SEND_STREAMING_MESSAGE,
            http: Method::POST,
            target: self.target(req.tenant.as_deref())?.fixed("/message:stream"),
            body: Some(to_proto_json(req)?),
        };
        self.stream(params, call).await
    }

    async fn get_task(
        &self,
        params: &ServiceParams,
        req: &GetTaskRequest,
    ) -> Result<Task, A2AError> {
        let task = self.task(req.tenant.as_deref(), &req.id)?;
        let call = HttpCall {
            method: methods::GET_TASK,
            http: Method::GET,
            target: task.parameter("historyLength", req.history_length),
            body: None,
        };
        self.call(params, call).await
    }

    async fn list_tasks(
        &self,
        params: &ServiceParams,
        req: &ListTasksRequest,
    ) -> Result<ListTasksResponse, A2AError> {
        // As in ProtoJSON: states by name, times in RFC 3339.
        let fields = to_proto_json(req)?;
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
        let call = HttpCall {
            method: methods::LIST_TASKS,
            http: Method::GET,
            target,
            body: None,
        };
        self.call(params, call).await
    }

    async fn cancel_task(
        &self,
        params: &ServiceParams,
        req: &CancelTaskRequest,
    ) -> Result<Task, A2AError> {
        let call = HttpCall {
            method: methods::CANCEL_TASK,
            http: Method::POST,
            target: self.task(req.tenant.as_deref(), &req.id)?.fixed(":cancel"),
            body: Some(to_proto_json(req)?),
        };
        self.call(params, call).await
    }

    async fn subscribe_to_task(
        &self,
        params: &ServiceParams,
        req: &SubscribeToTaskRequest,
    ) -> Result<Events, A2AError> {
        // §11.3.2 says POST, `a2a.proto` says GET; both official servers accept either.
        let call = HttpCall {
            method: methods::SUBSCRIBE_TO_TASK,
            http: Method::GET,
            target: self
                .task(req.tenant.as_deref(), &req.id)?
                .fixed(":subscribe"),
            body: None,
        };
        self.stream(params, call).await
    }

    async fn create_push_config(
        &self,
        params: &ServiceParams,
        req: &TaskPushNotificationConfig,
    ) -> Result<TaskPushNotificationConfig, A2AError> {
        let task = self.task(req.tenant.as_deref(), &req.task_id)?;
        let call = HttpCall {
            method: methods::CREATE_PUSH_CONFIG,
            http: Method::POST,
            target: task.fixed("/pushNotificationConfigs"),
            body: Some(to_proto_json(req)?),
        };
        self.call(params, call).await
    }

    async fn get_push_config(
        &self,
        params: &ServiceParams,
        req: &GetTaskPushNotificationConfigRequest,
    ) -> Result<TaskPushNotificationConfig, A2AError> {
        let call = HttpCall {
            method: methods::GET_PUSH_CONFIG,
            http: Method::GET,
            target: self.push_config(req.tenant.as_deref(), &req.task_id, &req.id)?,
            body: None,
        };
        self.call(params, call).await
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
        let call = HttpCall {
            method: methods::LIST_PUSH_CONFIGS,
            http: Method::GET,
            target,
            body: None,
        };
        self.call(params, call).await
    }

    async fn delete_push_config(
        &self,
        params: &ServiceParams,
        req: &DeleteTaskPushNotificationConfigRequest,
    ) -> Result<(), A2AError> {
        let call = HttpCall {
            method: methods::DELETE_PUSH_CONFIG,
            http: Method::DELETE,
            target: self.push_config(req.tenant.as_deref(), &req.task_id, &req.id)?,
            body: None,
        };
        // The official Rust server sends no body, the Python one an empty object.
        let (head, rest) = self.request(params, call, EITHER_JSON).await?;
        let bytes = self.endpoint.json(&head, rest).await?;
        match decode::<()>(&bytes) {
            Err(DecodeError::Reported(error)) => Err(redacted(&sent_tokens(&head), error)),
            _ => Ok(()),
        }
    }

    async fn get_extended_agent_card(
        &self,
        params: &ServiceParams,
        req: &GetExtendedAgentCardRequest,
    ) -> Result<AgentCard, A2AError> {
        let call = HttpCall {
            method: methods::GET_EXTENDED_AGENT_CARD,
            http: Method::GET,
            target: self
                .target(req.tenant.as_deref())?
                .fixed("/extendedAgentCard"),
            body: None,
        };
        self.call(params, call).await
    }

    async fn destroy(&self) -> Result<(), A2AError> {
        Ok(())
    }
}
