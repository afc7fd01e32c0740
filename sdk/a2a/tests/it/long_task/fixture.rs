//! What was heard of a task, and an agent whose streams can be ended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use a2a::{Message, Part, Role, SendMessageRequest, TaskState};
use a2a_client::{Transport, TransportFactory};
use axum::Router;
use axum::body::Body;
use axum::middleware::map_response;
use axum::response::Response;
use bowline_a2a::long_task::{Cause, LongTask, TaskEvent};
use bowline_testkit::a2a::card;
use futures_util::{StreamExt, stream};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::{BodyStream, StreamBody};
use tokio::sync::watch;

use crate::soon;

/// The transport of a binding to the agent at `origin`.
pub(super) async fn transport(factory: &dyn TransportFactory, origin: &str) -> Arc<dyn Transport> {
    let card = card(origin);
    let mut interfaces = card.supported_interfaces.iter();
    let interface = interfaces.find(|interface| interface.protocol_binding == factory.protocol());
    let transport = factory.create(&card, interface.expect("an interface of each binding"));
    soon(transport).await.expect("a transport").into()
}

pub(super) fn request(text: &str) -> SendMessageRequest {
    SendMessageRequest {
        message: Message::new(Role::User, vec![Part::text(text)]),
        configuration: None,
        metadata: None,
        tenant: None,
    }
}

/// What a consumer of a long task has heard so far.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// What the agent's messages say, in the order in which they were told: its number, for each
    /// step of the task.
    pub(super) texts: Vec<String>,
    pub(super) states: Vec<TaskState>,
    pub(super) pieces: Vec<String>,
    pub(super) causes: BTreeMap<Cause, u64>,
    pub(super) caught_up: u64,
    pub(super) reconnects: u64,
}

impl Heard {
    /// Listens until this is so.
    pub(super) async fn until(&mut self, task: &mut LongTask, reached: impl Fn(&Self) -> bool) {
        while !reached(self) {
            let event = soon(task.next()).await;
            self.hear(
                event
                    .expect("something is still to come")
                    .expect("no error"),
            );
        }
    }

    /// Listens to the end.
    pub(super) async fn hear_out(&mut self, task: &mut LongTask) {
        while let Some(event) = soon(task.next()).await {
            self.hear(event.expect("no error"));
        }
    }

    pub(super) fn hear(&mut self, event: TaskEvent) {
        if let TaskEvent::CaughtUp(caught_up) = &event {
            self.caught_up += 1;
            caught_up
                .messages
                .iter()
                .for_each(|message| self.message(message));
        }
        if let Some(status) = event.status() {
            self.states.push(status.state.clone());
            status
                .message
                .iter()
                .for_each(|message| self.message(message));
        }
        let updates = match &event {
            TaskEvent::CaughtUp(caught_up) => &caught_up.artifacts[..],
            TaskEvent::Artifact(update) => std::slice::from_ref(update),
            TaskEvent::Reconnect(reconnect) => {
                self.reconnects += 1;
                *self.causes.entry(reconnect.cause).or_default() += 1;
                &[]
            }
            _ => &[],
        };
        let parts = updates.iter().flat_map(|update| &update.artifact.parts);
        self.pieces
            .extend(parts.filter_map(|part| part.as_text().map(str::to_owned)));
    }

    fn message(&mut self, message: &Message) {
        self.texts
            .push(message.text().unwrap_or_default().to_owned());
    }
}

/// `1`, `2`, … as a [`Run`](bowline_testkit::a2a::Run) numbers its steps.
pub(super) fn numbers(last: usize) -> Vec<String> {
    (1..=last).map(|n| n.to_string()).collect()
}

/// Ends streams as an agent or a gateway does that has had enough of them: properly, with trailers
/// where gRPC wants them.
#[derive(Clone, Debug, Default)]
pub(super) struct Endings(watch::Sender<()>);

impl Endings {
    pub(super) fn end_all(&self) {
        self.0.send_replace(());
    }

    pub(super) fn before(&self, agent: Router) -> Router {
        let this = self.clone();
        agent.layer(map_response(move |response: Response| {
            let ended = this.ended_on_command(response);
            async move { ended }
        }))
    }

    fn ended_on_command(&self, response: Response) -> Response {
        let is_grpc = response
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|value| value == "application/grpc");
        let mut commands = self.0.subscribe();
        let was_told = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&was_told);
        response.map(|body| {
            let command = async move {
                let _ = commands.changed().await;
                told.store(true, Ordering::Relaxed);
            };
            let trailers = stream::once(async move { is_grpc && was_told.load(Ordering::Relaxed) });
            let trailers =
                trailers.filter_map(|are_due| async move { are_due.then(|| Ok(success())) });
            let frames = BodyStream::new(body)
                .take_until(Box::pin(command))
                .chain(Box::pin(trailers));
            Body::new(StreamBody::new(frames))
        })
    }
}

fn success() -> http_body::Frame<bytes::Bytes> {
    let status = (
        HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    );
    http_body::Frame::trailers(HeaderMap::from_iter([status]))
}
