//! The `GRPC` binding: the SDK's generated stub over the client.
//!
//! tonic encodes and decodes messages. What comes from the agent otherwise (head, trailers, the
//! end) is read here and never shown to tonic, which takes a stream that was cut for one that ended
//! in some cases, and panics at details that are no base64.
//!
//! Nothing is compressed: requests are not, and answers may not be. No `grpc-timeout` is sent: the
//! client's own time-outs say how long is waited.

mod answer;
mod channel;
mod ending;
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

use crate::failure::{ErrorKind, Failure};
use crate::results::Outcome;
use crate::wire::{Outbound, Wire};

use answer::Shape;
use channel::Channel;

pub(crate) use target::{origin_of, target};

/// One agent's gRPC interface.
pub(crate) struct Grpc {
    /// For calls that are answered by one message.
    answers: A2aServiceClient<Channel>,
    /// For calls that are answered by a stream of them.
    events: A2aServiceClient<Channel>,
}

type Events = BoxStream<'static, Result<StreamResponse, A2AError>>;

impl Grpc {
    /// The interface at `origin`, which has no path.
    pub(crate) fn new(wire: Wire, longest_event: usize, origin: &Uri) -> Self {
        let wire = Arc::new(wire);
        let stub = |shape, longest| {
            A2aServiceClient::with_origin(Channel::new(wire.clone(), shape), origin.clone())
                .max_decoding_message_size(longest)
        };
        Self {
            answers: stub(Shape::Message, wire.longest_answer),
            events: stub(Shape::Stream, longest_event),
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
        let request = asked(
            methods::SEND_MESSAGE,
            params,
            pbconv::to_proto_send_message_request(req),
        );
        let answer = told(self.answers.clone().send_message(request).await)?;
        let answer = pbconv::from_proto_send_message_response(&answer);
        answer
            .ok_or_else(|| empty("neither a task nor a message"))
            .and_then(whole)
    }

    async fn send_streaming_message(
        &self,
        params: &ServiceParams,
        req: &SendMessageRequest,
    ) -> Result<Events, A2AError> {
        let message = pbconv::to_proto_send_message_request(req);
        let request = asked(methods::SEND_STREAMING_MESSAGE, params, message);
        let answer = told(self.events.clone().send_streaming_message(request).await)?;
        Ok(events(answer))
    }

    async fn get_task(
        &self,
        params: &ServiceParams,
        req: &GetTaskRequest,
    ) -> Result<Task, A2AError> {
        let request = asked(
            methods::GET_TASK,
            params,
            pbconv::to_proto_get_task_request(req),
        );
        let answer = told(self.answers.clone().get_task(request).await)?;
        whole(pbconv::from_proto_task(&answer))
    }

    async fn list_tasks(
        &self,
        params: &ServiceParams,
        req: &ListTasksRequest,
    ) -> Result<ListTasksResponse, A2AError> {
        let request = asked(
            methods::LIST_TASKS,
            params,
            pbconv::to_proto_list_tasks_request(req),
        );
        let answer = told(self.answers.clone().list_tasks(request).await)?;
        Ok(pbconv::from_proto_list_tasks_response(&answer))
    }

    async fn cancel_task(
        &self,
        params: &ServiceParams,
        req: &CancelTaskRequest,
    ) -> Result<Task, A2AError> {
        let request = asked(
            methods::CANCEL_TASK,
            params,
            pbconv::to_proto_cancel_task_request(req),
        );
        let answer = told(self.answers.clone().cancel_task(request).await)?;
        whole(pbconv::from_proto_task(&answer))
    }

    async fn subscribe_to_task(
        &self,
        params: &ServiceParams,
        req: &SubscribeToTaskRequest,
    ) -> Result<Events, A2AError> {
        let message = pbconv::to_proto_subscribe_to_task_request(req);
        let request = asked(methods::SUBSCRIBE_TO_TASK, params, message);
        let answer = told(self.events.clone().subscribe_to_task(request).await)?;
        Ok(events(answer))
    }

    async fn create_push_config(
        &self,
        params: &ServiceParams,
        req: &TaskPushNotificationConfig,
    ) -> Result<TaskPushNotificationConfig, A2AError> {
        let message = pbconv::to_proto_create_task_push_notification_config_request(req);
        let request = asked(methods::CREATE_PUSH_CONFIG, params, message);
        let answer = told(
            self.answers
                .clone()
                .create_task_push_notification_config(request)
                .await,
        )?;
        whole(pbconv::from_proto_task_push_notification_config(&answer))
    }

    async fn get_push_config(
        &self,
        params: &ServiceParams,
        req: &GetTaskPushNotificationConfigRequest,
    ) -> Result<TaskPushNotificationConfig, A2AError> {
        let message = pbconv::to_proto_get_task_push_notification_config_request(req);
        let request = asked(methods::GET_PUSH_CONFIG, params, message);
        let answer = told(
            self.answers
                .clone()
                .get_task_push_notification_config(request)
                .await,
        )?;
        whole(pbconv::from_proto_task_push_notification_config(&answer))
    }

    async fn list_push_configs(
        &self,
        params: &ServiceParams,
        req: &ListTaskPushNotificationConfigsRequest,
    ) -> Result<ListTaskPushNotificationConfigsResponse, A2AError> {
        let message = pbconv::to_proto_list_task_push_notification_configs_request(req);
        let request = asked(methods::LIST_PUSH_CONFIGS, params, message);
        let answer = told(
            self.answers
                .clone()
                .list_task_push_notification_configs(request)
                .await,
        )?;
        whole(pbconv::from_proto_list_task_push_notification_configs_response(&answer))
    }

    async fn delete_push_config(
        &self,
        params: &ServiceParams,
        req: &DeleteTaskPushNotificationConfigRequest,
    ) -> Result<(), A2AError> {
        let message = pbconv::to_proto_delete_task_push_notification_config_request(req);
        let request = asked(methods::DELETE_PUSH_CONFIG, params, message);
        told(
            self.answers
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
        let request = asked(methods::GET_EXTENDED_AGENT_CARD, params, message);
        let answer = told(self.answers.clone().get_extended_agent_card(request).await)?;
        whole(pbconv::from_proto_agent_card(&answer))
    }

    /// Nothing to do: the connections are the client's.
    async fn destroy(&self) -> Result<(), A2AError> {
        Ok(())
    }
}

/// A call, with what [`Channel`] needs to know of it.
fn asked<T>(method: &'static str, params: &ServiceParams, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(Outbound {
        method,
        params: params.clone(),
    });
    request
}

fn told<T>(answer: Result<Response<T>, Status>) -> Result<T, A2AError> {
    answer.map(Response::into_inner).map_err(error)
}

/// The events of an answer. An error is the last item, and nothing is left of the call by then;
/// nothing is once the stream is dropped.
fn events(answer: Streaming<proto::StreamResponse>) -> Events {
    let next = |answer: Option<Streaming<proto::StreamResponse>>| async move {
        let mut answer = answer?;
        let event = match answer.message().await.map_err(error).transpose()? {
            Ok(event) => pbconv::from_proto_stream_response(&event)
                .ok_or_else(|| empty("an event of no kind"))
                .and_then(whole),
            Err(e) => Err(e),
        };
        let rest = event.is_ok().then_some(answer);
        Some((event, rest))
    };
    Box::pin(stream::unfold(Some(answer), next))
}

/// A result that lacks nothing which the other bindings would miss.
fn whole<T: Outcome>(result: T) -> Result<T, A2AError> {
    match result.lack() {
        None => Ok(result),
        Some(lack) => Err(empty(lack)),
    }
}

fn empty(what: &str) -> A2AError {
    Failure::new(ErrorKind::NotA2a, format!("the agent answered with {what}")).into()
}

/// What we put into tonic's status; or what tonic itself has to say, which is about messages that
/// it cannot decode.
fn error(status: Status) -> A2AError {
    if let Some(error) = status
        .source()
        .and_then(|source| source.downcast_ref::<A2AError>())
    {
        return error.clone();
    }
    let (kind, what) = match status.code() {
        Code::OutOfRange => (ErrorKind::TooLong, "a message that is too long"),
        _ => (ErrorKind::NotA2a, "what is no message of A2A"),
    };
    Failure::new(
        kind,
        format!("the agent answered with {what}: {}", status.message()),
    )
    .into()
}
