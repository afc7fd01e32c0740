//! The two bindings that are plain HTTP: JSON-RPC and HTTP+JSON.

mod calls;
mod connections;
mod refusals;
pub(crate) mod scripted;
mod streams;

use a2a::{A2AError, GetTaskRequest, StreamResponse, SubscribeToTaskRequest, Task};
use a2a_client::{ServiceParams, Transport};
use bowline_a2a::{Error, Transports};
use bowline_http_client::Client;
use bowline_testkit::a2a::card;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use crate::binding::Binding;
use crate::soon;

pub(crate) const BOTH: [Binding; 2] = [Binding::JsonRpc, Binding::HttpJson];

/// The longest answer and the longest event of [`plain`], in bytes.
const LIMIT: usize = 1000;

/// Transports to an origin in plaintext.
pub(crate) fn plain(origin: &str) -> Transports {
    let client = Client::builder()
        .allow_plaintext_on_loopback()
        .build()
        .unwrap();
    let transports = Transports::new(client, origin).unwrap();
    transports.max_response(LIMIT).max_event(LIMIT)
}

pub(crate) async fn create(
    binding: Binding,
    transports: &Transports,
    origin: &str,
) -> Box<dyn Transport> {
    binding.create(transports, &card(origin)).await.unwrap()
}

pub(crate) async fn get_task(
    transport: &dyn Transport,
    params: &ServiceParams,
) -> Result<Task, A2AError> {
    let request = GetTaskRequest {
        id: "t".to_owned(),
        history_length: None,
        tenant: None,
    };
    soon(transport.get_task(params, &request)).await
}

type Events = BoxStream<'static, Result<StreamResponse, A2AError>>;

async fn subscribe(transport: &dyn Transport) -> Result<Events, A2AError> {
    subscribe_with(transport, &ServiceParams::new()).await
}

async fn subscribe_with(
    transport: &dyn Transport,
    params: &ServiceParams,
) -> Result<Events, A2AError> {
    let request = SubscribeToTaskRequest {
        id: "t".to_owned(),
        tenant: None,
    };
    soon(transport.subscribe_to_task(params, &request)).await
}

/// All that a subscription yields, its refusal included.
async fn subscribed(transport: &dyn Transport) -> Vec<Result<StreamResponse, A2AError>> {
    subscribed_with(transport, &ServiceParams::new()).await
}

pub(crate) async fn subscribed_with(
    transport: &dyn Transport,
    params: &ServiceParams,
) -> Vec<Result<StreamResponse, A2AError>> {
    match subscribe_with(transport, params).await {
        Ok(events) => soon(events.collect()).await,
        Err(e) => vec![Err(e)],
    }
}

fn failure(error: &A2AError) -> Error {
    Error::from_a2a(error).unwrap_or_else(|| panic!("no failure of ours: {error:?}"))
}
