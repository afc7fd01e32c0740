//! The gRPC binding.

mod hostile;
mod official;
pub(crate) mod peer;
mod random_answers;
mod statuses;
mod tokens;

use a2a::{A2AError, GetTaskRequest, StreamResponse, SubscribeToTaskRequest, Task};
use a2a_client::{ServiceParams, Transport};
use bowline_a2a::{Error, Transports};
use bowline_http_client::{Client, HttpVersions};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use crate::fixture::transport;
pub(crate) use official::Successive;
use peer::ScriptedPeer;

/// A client for HTTP/2 in plaintext on loopback.
fn plain_client() -> Client {
    let builder = Client::builder().http_versions(HttpVersions::Http2);
    builder.allow_plaintext_on_loopback().build().unwrap()
}

pub(crate) fn plain_transports(origin: &str) -> Transports {
    Transports::new(plain_client(), origin).unwrap()
}

/// A transport to a peer that a test scripts.
async fn plain_transport(peer: &ScriptedPeer) -> Box<dyn Transport> {
    let transports = plain_transports(peer.origin());
    let transport = transport(&*transports.grpc(), peer.origin()).await;
    transport.unwrap()
}

async fn get_task(transport: &dyn Transport, params: &ServiceParams) -> Result<Task, A2AError> {
    let request = GetTaskRequest {
        id: "t".to_owned(),
        history_length: None,
        tenant: None,
    };
    crate::soon(transport.get_task(params, &request)).await
}

type Subscription = Result<BoxStream<'static, Result<StreamResponse, A2AError>>, A2AError>;

async fn subscribe(transport: &dyn Transport) -> Subscription {
    let request = SubscribeToTaskRequest {
        id: "t".to_owned(),
        tenant: None,
    };
    crate::soon(transport.subscribe_to_task(&ServiceParams::new(), &request)).await
}

/// All that a subscription yields, its refusal included.
async fn subscribed(transport: &dyn Transport) -> Vec<Result<StreamResponse, A2AError>> {
    match subscribe(transport).await {
        Ok(events) => crate::soon(events.collect()).await,
        Err(e) => vec![Err(e)],
    }
}

fn failure(error: &A2AError) -> Error {
    Error::from_a2a(error).unwrap_or_else(|| panic!("no failure of ours: {error:?}"))
}
