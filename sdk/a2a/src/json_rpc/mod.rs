//! The JSON-RPC binding (A2A §9): one URL, `POST`, and a method's name in the body.

mod envelope;

use a2a::jsonrpc::methods;
use a2a::{
    A2AError, AgentCard, CancelTaskRequest, DeleteTaskPushNotificationConfigRequest,
    GetExtendedAgentCardRequest, GetTaskPushNotificationConfigRequest, GetTaskRequest,
    ListTaskPushNotificationConfigsRequest, ListTaskPushNotificationConfigsResponse,
    ListTasksRequest, ListTasksResponse, SendMessageRequest, SendMessageResponse,
    SubscribeToTaskRequest, Task, TaskPushNotificationConfig, new_message_id,
};
use a2a_client::{ServiceParams, Transport};
use a2a_pb::protojson_conv::ProtoJsonPayload;
use async_trait::async_trait;
use bowline_http_client::Body;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::response::Parts;
use http::{HeaderValue, Request, Uri};
use http_body_util::Full;

use crate::decode::{Decode, DecodeError, to_proto_json};
use crate::endpoint::{
    AgentEndpoint, OutgoingCall, decode_failed, error_from_body, error_from_status,
    overrides_a2a_error,
};
use crate::events::{self, EVENT_STREAM, Events, Limits, may_be_stream};
use crate::text::{redacted, sent_tokens};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A transport of the `JSONRPC` binding.
pub(crate) struct JsonRpc {
    pub(crate) endpoint: AgentEndpoint,
    pub(crate) url: Uri,
    /// Maximum length of an event, in bytes.
    pub(crate) max_event_bytes: usize,
}

/// The head and the unread body of a response, and the id that it must carry.
struct PendingResponse {
    id: String,
    head: Parts,
    body: Body,
}

impl JsonRpc {
    /// Sends a request whose response has a status of success.
    async fn post<Q: ProtoJsonPayload>(
        &self,
        params: &ServiceParams,
        method: &'static str,
        request: &Q,
        accept: HeaderValue,
    ) -> Result<PendingResponse, A2AError> {
        // Unique, so that it can be found in a server's log.
        let id = new_message_id();
        let body = envelope::request(&id, method, to_proto_json(request)?);
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.url.clone();
        request.headers_mut().insert(CONTENT_TYPE, JSON);
        request.headers_mut().insert(ACCEPT, accept);
        let call = OutgoingCall {
            method,
            params: params.clone(),
        };
        let (head, body) = self.endpoint.send(&call, request).await?.into_parts();
        if !head.status.is_success() {
            return Err(self.error_response(&id, &head, body).await);
        }
        Ok(PendingResponse { id, head, body })
    }

    async fn call<Q: ProtoJsonPayload + Sync, T: Decode>(
        &self,
        params: &ServiceParams,
        method: &'static str,
        request: &Q,
    ) -> Result<T, A2AError> {
        let PendingResponse { id, head, body } = self.post(params, method, request, JSON).await?;
        let bytes = self.endpoint.json(&head, body).await?;
        envelope::response(&id, &bytes).map_err(|error| decode_failed(error, &head, &bytes))
    }

    async fn stream<Q: ProtoJsonPayload + Sync>(
        &self,
        params: &ServiceParams,
        method: &'static str,
        request: &Q,
    ) -> Result<Events, A2AError> {
        let accept = HeaderValue::from_static(EVENT_STREAM);
        let PendingResponse { id, head, body } = self.post(params, method, request, accept).await?;
        if may_be_stream(&head.headers, &body) {
            let limits = Limits {
                event: self.max_event_bytes,
                response: self.endpoint.max_response_bytes,
            };
            return Ok(events::events(&head, body, limits, move |bytes| {
                envelope::response(&id, bytes)
            }));
        }
        let bytes = self.endpoint.json(&head, body).await?;
        let event =
            envelope::response(&id, &bytes).map_err(|error| decode_failed(error, &head, &bytes))?;
        Ok(events::only(event))
    }

    /// The error for a response with an error status, whose body may hold an A2A error.
    async fn error_response(&self, id: &str, head: &Parts, body: Body) -> A2AError {
        let bytes = self.endpoint.error_text(head, body).await;
        match envelope::response::<()>(id, &bytes) {
            Err(DecodeError::Reported(error)) => {
                let error = redacted(&sent_tokens(head), error);
                if overrides_a2a_error(head.status) {
                    error_from_status(head, error.message.clone()).attach_to(error)
                } else {
                    error
                }
            }
            _ => error_from_body(head, &bytes).into(),
        }
    }
}

#[async_trait]
impl Transport for JsonRpc {
    async fn send_message(
        &self,
        params: &ServiceParams,
        req: &SendMessageRequest,
    ) -> Result<SendMessageResponse, A2AError> {
        self.call(params, methods::SEND_MESSAGE, req).await
    }

    async fn send_streaming_message(
        &self,
        params: &ServiceParams,
        req: &SendMessageRequest,
    ) -> Result<Events, A2AError> {
        self.stream(params, methods::SEND_STREAMING_MESSAGE, req)
            .await
    }

    async fn get_task(
        &self,
        params: &ServiceParams,
        req: &GetTaskRequest,
    ) -> Result<Task, A2AError> {
        self.call(params, methods::GET_TASK, req).await
    }

    async fn list_tasks(
        &self,
        params: &ServiceParams,
        req: &ListTasksRequest,
    ) -> Result<ListTasksResponse, A2AError> {
        self.call(params, methods::LIST_TASKS, req).await
    }

    async fn cancel_task(
        &self,
        params: &ServiceParams,
        req: &CancelTaskRequest,
    ) -> Result<Task, A2AError> {
        self.call(params, methods::CANCEL_TASK, req).await
    }

    async fn subscribe_to_task(
        &self,
        params: &ServiceParams,
        req: &SubscribeToTaskRequest,
    ) -> Result<Events, A2AError> {
        self.stream(params, methods::SUBSCRIBE_TO_TASK, req).await
    }

    async fn create_push_config(
        &self,
        params: &ServiceParams,
        req: &TaskPushNotificationConfig,
    ) -> Result<TaskPushNotificationConfig, A2AError> {
        self.call(params, methods::CREATE_PUSH_CONFIG, req).await
    }

    async fn get_push_config(
        &self,
        params: &ServiceParams,
        req: &GetTaskPushNotificationConfigRequest,
    ) -> Result<TaskPushNotificationConfig, A2AError> {
        self.call(params, methods::GET_PUSH_CONFIG, req).await
    }

    async fn list_push_configs(
        &self,
        params: &ServiceParams,
        req: &ListTaskPushNotificationConfigsRequest,
    ) -> Result<ListTaskPushNotificationConfigsResponse, A2AError> {
        self.call(params, methods::LIST_PUSH_CONFIGS, req).await
    }

    async fn delete_push_config(
        &self,
        params: &ServiceParams,
        req: &DeleteTaskPushNotificationConfigRequest,
    ) -> Result<(), A2AError> {
        self.call(params, methods::DELETE_PUSH_CONFIG, req).await
    }

    async fn get_extended_agent_card(
        &self,
        params: &ServiceParams,
        req: &GetExtendedAgentCardRequest,
    ) -> Result<AgentCard, A2AError> {
        self.call(params, methods::GET_EXTENDED_AGENT_CARD, req)
            .await
    }

    async fn destroy(&self) -> Result<(), A2AError> {
        Ok(())
    }
}
