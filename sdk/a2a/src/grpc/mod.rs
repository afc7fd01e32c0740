//! The `GRPC` binding: the SDK's generated stub over the client.
//!
//! tonic encodes and decodes messages. The rest of a response (head, trailers, end) is read here
//! and hidden from tonic, which in some cases mistakes a shortened stream for one that ended, and
//! panics at `grpc-status-details-bin` that is not base64.
//!
//! Upstream: <https://github.com/grpc/grpc-rust/pull/2618> for the panic; report 12 in
//! `docs/src/upstream.md` for streams that end in the middle of a message.
//!
//! Nothing is compressed: requests are not, and responses must not be. No `grpc-timeout` is sent:
//! the client's own time-outs apply.

mod body;
mod channel;
mod status;
mod target;

use std::error::Error as _;
use std::sync::Arc;

use a2a::jsonrpc::methods;
use a2a::{
    A2AError, AgentCard, CancelTaskRequest, DeleteTaskPushNotificationConfigRequest,
    GetExtendedAgentCardRequest, GetTaskPushNotificationConfigRequest, GetTaskRequest,
    ListTaskPushNotificationConfigsRequest, ListTaskPushNotificationConfigsResponse,
    ListTasksRequest, ListTasksResponse, SendMessageRequest, SendMessageResponse, StreamResponse,
    SubscribeToTaskRequest, Task, TaskPushNotificationConfig,
};
use a2a_client::{ServiceParams, Transport};
use a2a_pb::proto::a2a_service_client::A2aServiceClient;
use a2a_pb::{pbconv, proto};
use async_trait::async_trait;
use futures_util::stream::{self, BoxStream};
use http::Uri;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::decode::Decode;
use crate::endpoint::{AgentEndpoint, OutgoingCall};
use crate::error::{Error, ErrorKind};

use channel::Channel;
use status::ResponseShape;

pub(crate) use target::{absolute_url, without_path};

/// One agent's gRPC interface.
pub(crate) struct Grpc {
    /// For unary calls.
    unary: A2aServiceClient<Channel>,
    /// For server streaming calls.
    streaming: A2aServiceClient<Channel>,
}

type Events = BoxStream<'static, Result<StreamResponse, A2AError>>;

impl Grpc {
    /// The interface at `origin`, which has no path.
    pub(crate) fn new(endpoint: AgentEndpoint, max_event_bytes: usize, origin: &Uri) -> Self {
        let endpoint = Arc::new(endpoint);
        let stub = |shape, limits| {
            A2aServiceClient::with_origin(Channel::new(endpoint.clone(), shape), origin.clone())
                .max_decoding_message_size(limits)
        };
        Self {
            unary: stub(ResponseShape::Unary, endpoint.max_response_bytes),
            streaming: stub(ResponseShape::Streaming, max_event_bytes),
        }
    }
}

#[async_trait]
impl Transport for Grpc {
    async fn send_message(
        &self,
        params: &ServiceParams,
        req: &SendMessageRequest,
    ) -> Result<SendMessageResponse, A2AError> {
        let request = request_for(
            methods::SEND_MESSAGE,
            params,
            pbconv::to_proto_send_message_request(req),
        );
        let response = into_message(self.unary.clone().send_message(request).await)?;
        let response = pbconv::from_proto_send_message_response(&response);
        response
            .ok_or_else(|| not_a2a("neither a task nor a message"))
            .and_then(complete)
    }

    async fn send_streaming_message(
        &self,
        params: &ServiceParams,
        req: &SendMessageRequest,
    ) -> Result<Events, A2AError> {
        let message = pbconv::to_proto_send_message_request(req);
        let request = request_for(methods::SEND_STREAMING_MESSAGE, params, message);
        let response = into_message(self.streaming.clone().send_streaming_message(request).await)?;
        Ok(events(response))
    }

    async fn get_task(
        &self,
        params: &ServiceParams,
        req: &GetTaskRequest,
    ) -> Result<Task, A2AError> {
        let request = request_for(
            methods::GET_TASK,
            params,
            pbconv::to_proto_get_task_request(req),
        );
        let response = into_message(self.unary.clone().get_task(request).await)?;
        complete(pbconv::from_proto_task(&response))
    }

    async fn list_tasks(
        &self,
        params: &ServiceParams,
        req: &ListTasksRequest,
    ) -> Result<ListTasksResponse, A2AError> {
        let request = request_for(
            methods::LIST_TASKS,
            params,
            pbconv::to_proto_list_tasks_request(req),
        );
        let response = into_message(self.unary.clone().list_tasks(request).await)?;
        Ok(pbconv::from_proto_list_tasks_response(&response))
    }

    async fn cancel_task(
        &self,
        params: &ServiceParams,
        req: &CancelTaskRequest,
    ) -> Result<Task, A2AError> {
        let request = request_for(
            methods::CANCEL_TASK,
            params,
            pbconv::to_proto_cancel_task_request(req),
        );
        let response = into_message(self.unary.clone().cancel_task(request).await)?;
        complete(pbconv::from_proto_task(&response))
    }

    async fn subscribe_to_task(
        &self,
        params: &ServiceParams,
        req: &SubscribeToTaskRequest,
    ) -> Result<Events, A2AError> {
        let message = pbconv::to_proto_subscribe_to_task_request(req);
        let request = request_for(methods::SUBSCRIBE_TO_TASK, params, message);
        let response = into_message(self.streaming.clone().subscribe_to_task(request).await)?;
        Ok(events(response))
    }

    async fn create_push_config(
        &self,
        params: &ServiceParams,
        req: &TaskPushNotificationConfig,
    ) -> Result<TaskPushNotificationConfig, A2AError> {
        let message = pbconv::to_proto_create_task_push_notification_config_request(req);
        let request = request_for(methods::CREATE_PUSH_CONFIG, params, message);
        let response = into_message(
            self.unary
                .clone()
                .create_task_push_notification_config(request)
                .await,
        )?;
        complete(pbconv::from_proto_task_push_notification_config(&response))
    }

    async fn get_push_config(
        &self,
        params: &ServiceParams,
        req: &GetTaskPushNotificationConfigRequest,
    ) -> Result<TaskPushNotificationConfig, A2AError> {
        let message = pbconv::to_proto_get_task_push_notification_config_request(req);
        let request = request_for(methods::GET_PUSH_CONFIG, params, message);
        let response = into_message(
            self.unary
                .clone()
                .get_task_push_notification_config(request)
                .await,
        )?;
        complete(pbconv::from_proto_task_push_notification_config(&response))
    }

    async fn list_push_configs(
        &self,
        params: &ServiceParams,
        req: &ListTaskPushNotificationConfigsRequest,
    ) -> Result<ListTaskPushNotificationConfigsResponse, A2AError> {
        let message = pbconv::to_proto_list_task_push_notification_configs_request(req);
        let request = request_for(methods::LIST_PUSH_CONFIGS, params, message);
        let response = into_message(
            self.unary
                .clone()
                .list_task_push_notification_configs(request)
                .await,
        )?;
        complete(pbconv::from_proto_list_task_push_notification_configs_response(&response))
    }

    async fn delete_push_config(
        &self,
        params: &ServiceParams,
        req: &DeleteTaskPushNotificationConfigRequest,
    ) -> Result<(), A2AError> {
        let message = pbconv::to_proto_delete_task_push_notification_config_request(req);
        let request = request_for(methods::DELETE_PUSH_CONFIG, params, message);
        into_message(
            self.unary
                .clone()
                .delete_task_push_notification_config(request)
                .await,
        )?;
        Ok(())
    }

    async fn get_extended_agent_card(
        &self,
        params: &ServiceParams,
        req: &GetExtendedAgentCardRequest,
    ) -> Result<AgentCard, A2AError> {
        let message = pbconv::to_proto_get_extended_agent_card_request(req);
        let request = request_for(methods::GET_EXTENDED_AGENT_CARD, params, message);
        let response = into_message(self.unary.clone().get_extended_agent_card(request).await)?;
        complete(pbconv::from_proto_agent_card(&response))
    }

    /// Nothing to do: the connections are the client's.
    async fn destroy(&self) -> Result<(), A2AError> {
        Ok(())
    }
}

/// A request that carries the call for [`Channel`].
fn request_for<T>(method: &'static str, params: &ServiceParams, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(OutgoingCall {
        method,
        params: params.clone(),
    });
    request
}

fn into_message<T>(response: Result<Response<T>, Status>) -> Result<T, A2AError> {
    response
        .map(Response::into_inner)
        .map_err(error_from_status)
}

/// The events of a response. An error is the last item. The call is released then, or once the
/// stream is dropped.
fn events(stream: Streaming<proto::StreamResponse>) -> Events {
    let next = |stream: Option<Streaming<proto::StreamResponse>>| async move {
        let mut stream = stream?;
        let event = match stream
            .message()
            .await
            .map_err(error_from_status)
            .transpose()?
        {
            Ok(event) => pbconv::from_proto_stream_response(&event)
                .ok_or_else(|| not_a2a("an event of no kind"))
                .and_then(complete),
            Err(e) => Err(e),
        };
        let rest = event.is_ok().then_some(stream);
        Some((event, rest))
    };
    Box::pin(stream::unfold(Some(stream), next))
}

/// Rejects a result without the members that are required in every binding.
fn complete<T: Decode>(result: T) -> Result<T, A2AError> {
    match result.missing() {
        None => Ok(result),
        Some(missing) => Err(not_a2a(missing)),
    }
}

fn not_a2a(what: &str) -> A2AError {
    Error::new(ErrorKind::NotA2a, format!("the agent answered with {what}")).into()
}

/// The error that [`Channel`] put into tonic's status, or tonic's own, which is about a message
/// that it cannot decode.
fn error_from_status(status: Status) -> A2AError {
    if let Some(error) = status
        .source()
        .and_then(|source| source.downcast_ref::<A2AError>())
    {
        return error.clone();
    }
    let (kind, what) = match status.code() {
        Code::OutOfRange => (ErrorKind::TooLong, "a message that is too long"),
        _ => (ErrorKind::NotA2a, "something that is not an A2A message"),
    };
    Error::new(
        kind,
        format!("the agent answered with {what}: {}", status.message()),
    )
    .into()
}
