//! The three calls that a long task makes, over a transport or the SDK's client.

use std::fmt;
use std::sync::Arc;

use a2a::{
    A2AError, GetTaskRequest, SVC_PARAM_VERSION, SendMessageRequest, StreamResponse,
    SubscribeToTaskRequest, Task, VERSION,
};
use a2a_client::{A2AClient, BoxStream, ServiceParams, Transport};
use async_trait::async_trait;

pub(super) type Events = BoxStream<'static, Result<StreamResponse, A2AError>>;

/// The agent of a [`LongTask`](super::LongTask), made from the SDK's [`A2AClient`], whose
/// interceptors see every call, or from a [`Transport`]. Clones are cheap and share it.
#[derive(Clone)]
pub struct Agent(Arc<dyn AgentCalls>);

impl Agent {
    /// An agent behind a transport, each call with these service parameters.
    pub fn new(transport: Arc<dyn Transport>, parameters: ServiceParams) -> Self {
        Self(Arc::new(TransportCalls {
            transport,
            parameters,
        }))
    }

    pub(super) fn calls(&self) -> Arc<dyn AgentCalls> {
        Arc::clone(&self.0)
    }
}

impl<T: Transport + 'static> From<Arc<A2AClient<T>>> for Agent {
    fn from(client: Arc<A2AClient<T>>) -> Self {
        Self(client)
    }
}

impl<T: Transport + 'static> From<A2AClient<T>> for Agent {
    fn from(client: A2AClient<T>) -> Self {
        Self(Arc::new(client))
    }
}

impl From<Arc<dyn Transport>> for Agent {
    /// With `A2A-Version` as the only service parameter.
    fn from(transport: Arc<dyn Transport>) -> Self {
        let version = (SVC_PARAM_VERSION.to_owned(), vec![VERSION.to_owned()]);
        Self::new(transport, ServiceParams::from([version]))
    }
}

impl From<Box<dyn Transport>> for Agent {
    /// With `A2A-Version` as the only service parameter.
    fn from(transport: Box<dyn Transport>) -> Self {
        Self::from(Arc::<dyn Transport>::from(transport))
    }
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent").finish_non_exhaustive()
    }
}

#[async_trait]
pub(super) trait AgentCalls: Send + Sync {
    async fn send(&self, request: &SendMessageRequest) -> Result<Events, A2AError>;
    async fn subscribe(&self, request: &SubscribeToTaskRequest) -> Result<Events, A2AError>;
    async fn task(&self, request: &GetTaskRequest) -> Result<Task, A2AError>;
}

struct TransportCalls {
    transport: Arc<dyn Transport>,
    parameters: ServiceParams,
}

#[async_trait]
impl AgentCalls for TransportCalls {
    async fn send(&self, request: &SendMessageRequest) -> Result<Events, A2AError> {
        self.transport
            .send_streaming_message(&self.parameters, request)
            .await
    }

    async fn subscribe(&self, request: &SubscribeToTaskRequest) -> Result<Events, A2AError> {
        self.transport
            .subscribe_to_task(&self.parameters, request)
            .await
    }

    async fn task(&self, request: &GetTaskRequest) -> Result<Task, A2AError> {
        self.transport.get_task(&self.parameters, request).await
    }
}

#[async_trait]
impl<T: Transport> AgentCalls for A2AClient<T> {
    async fn send(&self, request: &SendMessageRequest) -> Result<Events, A2AError> {
        self.send_streaming_message(request).await
    }

    async fn subscribe(&self, request: &SubscribeToTaskRequest) -> Result<Events, A2AError> {
        self.subscribe_to_task(request).await
    }

    async fn task(&self, request: &GetTaskRequest) -> Result<Task, A2AError> {
        self.get_task(request).await
    }
}
