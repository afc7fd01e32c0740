//! The driver over a scripted transport. Time is paused, so pauses and limits are exact and fast.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use a2a::*;
use a2a_client::middleware::CallInterceptor;
use a2a_client::{A2AClient, BoxStream, ServiceParams, Transport};
use async_trait::async_trait;
use futures_util::{FutureExt, Stream, StreamExt, stream};
use tokio::time::{Instant, timeout};

use super::fixture::{TASK, after, completed, submitted, working};
use crate::error::{Error, ErrorKind as Below};
use crate::long_task::{Agent, Cause, LongTask, LongTaskErrorKind, RetryPolicy, TaskEvent};

type Item = Result<StreamResponse, A2AError>;

/// The response to a call.
enum Answer {
    Error(A2AError),
    Task(Box<Task>),
    /// These events, and then the end.
    Events(Vec<Item>),
    /// These events, and then nothing.
    EventsThenSilence(Vec<Item>),
    /// Nothing at all.
    Silence,
}

/// A transport with a script. It records each call.
#[derive(Clone, Default)]
struct Scripted {
    script: Arc<Mutex<VecDeque<Answer>>>,
    calls: Arc<Mutex<Vec<(String, ServiceParams)>>>,
    /// Whether a stream was dropped before its end.
    has_dropped: Arc<AtomicBool>,
}

impl Scripted {
    fn new(script: impl IntoIterator<Item = Answer>) -> Self {
        let this = Self::default();
        this.script.lock().unwrap().extend(script);
        this
    }

    fn calls(&self) -> Vec<String> {
        self.calls
            .lock()
            .unwrap()
            .iter()
            .map(|(call, _)| call.clone())
            .collect()
    }

    fn agent(&self) -> Agent {
        let transport: Arc<dyn Transport> = Arc::new(self.clone());
        transport.into()
    }

    fn answer(&self, call: String, parameters: &ServiceParams) -> Answer {
        self.calls.lock().unwrap().push((call, parameters.clone()));
        self.script
            .lock()
            .unwrap()
            .pop_front()
            .expect("an answer in the script")
    }

    async fn stream(
        &self,
        call: String,
        parameters: &ServiceParams,
    ) -> Result<BoxStream<'static, Item>, A2AError> {
        let items = match self.answer(call, parameters) {
            Answer::Error(error) => return Err(error),
            Answer::Events(items) => stream::iter(items).boxed(),
            Answer::EventsThenSilence(items) => {
                stream::iter(items).chain(stream::pending()).boxed()
            }
            Answer::Silence => return std::future::pending().await,
            Answer::Task(_) => panic!("a task is not a stream"),
        };
        Ok(Box::pin(Noticed {
            items,
            has_ended: false,
            has_dropped: Arc::clone(&self.has_dropped),
        }))
    }
}

struct Noticed {
    items: BoxStream<'static, Item>,
    has_ended: bool,
    has_dropped: Arc<AtomicBool>,
}

impl Stream for Noticed {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        let polled = self.items.poll_next_unpin(cx);
        self.has_ended |= matches!(polled, Poll::Ready(None));
        polled
    }
}

impl Drop for Noticed {
    fn drop(&mut self) {
        self.has_dropped
            .fetch_or(!self.has_ended, Ordering::Relaxed);
    }
}

#[async_trait]
impl Transport for Scripted {
    async fn send_streaming_message(
        &self,
        parameters: &ServiceParams,
        request: &SendMessageRequest,
    ) -> Result<BoxStream<'static, Item>, A2AError> {
        let tenant = request.tenant.as_deref().unwrap_or("-");
        self.stream(format!("send {tenant}"), parameters).await
    }

    async fn subscribe_to_task(
        &self,
        parameters: &ServiceParams,
        request: &SubscribeToTaskRequest,
    ) -> Result<BoxStream<'static, Item>, A2AError> {
        let tenant = request.tenant.as_deref().unwrap_or("-");
        self.stream(format!("subscribe {} {tenant}", request.id), parameters)
            .await
    }

    async fn get_task(
        &self,
        parameters: &ServiceParams,
        request: &GetTaskRequest,
    ) -> Result<Task, A2AError> {
        let tenant = request.tenant.as_deref().unwrap_or("-");
        match self.answer(format!("get {} {tenant}", request.id), parameters) {
            Answer::Error(error) => Err(error),
            Answer::Task(task) => Ok(*task),
            _ => std::future::pending().await,
        }
    }

    async fn send_message(
        &self,
        _: &ServiceParams,
        _: &SendMessageRequest,
    ) -> Result<SendMessageResponse, A2AError> {
        unused()
    }

    async fn list_tasks(
        &self,
        _: &ServiceParams,
        _: &ListTasksRequest,
    ) -> Result<ListTasksResponse, A2AError> {
        unused()
    }

    async fn cancel_task(
        &self,
        _: &ServiceParams,
        _: &CancelTaskRequest,
    ) -> Result<Task, A2AError> {
        unused()
    }

    async fn create_push_config(
        &self,
        _: &ServiceParams,
        _: &TaskPushNotificationConfig,
    ) -> Result<TaskPushNotificationConfig, A2AError> {
        unused()
    }

    async fn get_push_config(
        &self,
        _: &ServiceParams,
        _: &GetTaskPushNotificationConfigRequest,
    ) -> Result<TaskPushNotificationConfig, A2AError> {
        unused()
    }

    async fn list_push_configs(
        &self,
        _: &ServiceParams,
        _: &ListTaskPushNotificationConfigsRequest,
    ) -> Result<ListTaskPushNotificationConfigsResponse, A2AError> {
        unused()
    }

    async fn delete_push_config(
        &self,
        _: &ServiceParams,
        _: &DeleteTaskPushNotificationConfigRequest,
    ) -> Result<(), A2AError> {
        unused()
    }

    async fn get_extended_agent_card(
        &self,
        _: &ServiceParams,
        _: &GetExtendedAgentCardRequest,
    ) -> Result<AgentCard, A2AError> {
        unused()
    }

    async fn destroy(&self) -> Result<(), A2AError> {
        Ok(())
    }
}

fn unused<T>() -> Result<T, A2AError> {
    panic!("a long task does not make this call")
}

fn request() -> SendMessageRequest {
    SendMessageRequest {
        message: Message::new(Role::User, vec![Part::text("do it")]),
        configuration: None,
        metadata: None,
        tenant: Some("acme".to_owned()),
    }
}

fn cut() -> Item {
    Err(Error::new(Below::StreamCut, "cut").into())
}

fn begun() -> Item {
    Ok(StreamResponse::Task(submitted(&request().message)))
}

fn task(events: &[StreamResponse]) -> Task {
    let begun = submitted(&request().message);
    events
        .iter()
        .fold(begun, |task, event| after(&task, event, true))
}

/// The statuses that are emitted, with each reconnect as `reconnect`.
async fn observed(task: &mut LongTask) -> Vec<String> {
    let mut observed = Vec::new();
    // If nothing else happens, paused time advances to this.
    let never = Duration::from_secs(86_400);
    while let Some(event) = timeout(never, task.next())
        .await
        .expect("something happens")
    {
        match event {
            Ok(TaskEvent::Reconnect(_)) => observed.push("reconnect".to_owned()),
            Ok(event) => {
                observed.extend(event.status().map(|status| format!("{:?}", status.state)))
            }
            Err(error) => observed.push(format!("{:?}", error.kind())),
        }
    }
    observed
}

#[tokio::test(start_paused = true)]
async fn a_task_is_followed_across_three_streams_with_one_message() {
    let agent = Scripted::new([
        Answer::Events(vec![begun(), Ok(working(1)), cut()]),
        Answer::Events(vec![Ok(StreamResponse::Task(task(&[
            working(1),
            working(2),
        ])))]),
        Answer::Error(A2AError::unsupported_operation("it has ended")),
        Answer::Task(Box::new(task(&[working(1), working(2), completed(3)]))),
    ]);
    let mut task = LongTask::send(agent.agent(), request(), RetryPolicy::default());
    assert!(
        agent.calls().is_empty(),
        "nothing is sent before the stream is polled"
    );
    let observed = observed(&mut task).await;
    assert_eq!(
        observed,
        [
            "Submitted",
            "Working",
            "reconnect",
            "Working",
            "reconnect",
            "Completed"
        ]
    );
    assert_eq!(
        agent.calls(),
        [
            "send acme",
            "subscribe t acme",
            "subscribe t acme",
            "get t acme"
        ]
    );
    let calls = std::mem::take(&mut *agent.calls.lock().unwrap());
    assert!(
        calls
            .iter()
            .all(|(_, parameters)| parameters[SVC_PARAM_VERSION] == [VERSION])
    );
    let reconnects = task.counts().reconnects;
    assert_eq!(
        reconnects.into_iter().collect::<Vec<_>>(),
        [(Cause::StreamCut, 1), (Cause::StreamEnded, 1)]
    );
    assert!(task.next().await.is_none(), "the end stays the end");
}

#[tokio::test(start_paused = true)]
async fn the_counts_can_be_read_while_the_stream_runs() {
    let agent = Scripted::new([
        Answer::Events(vec![begun(), cut()]),
        Answer::EventsThenSilence(vec![begun(), Ok(working(1))]),
    ]);
    let mut task = LongTask::send(agent.agent(), request(), RetryPolicy::default());
    let counter = task.counter();
    assert_eq!(counter.counts().reconnects(), 0);
    let mut events = 0;
    while let Some(event) = task.next().now_or_never() {
        event.unwrap().unwrap();
        events += 1;
    }
    assert_eq!(events, 4, "two tasks, a reconnect, a status");
    assert_eq!(counter.counts().reconnects(), 1);
    drop(task);
    assert!(
        agent.has_dropped.load(Ordering::Relaxed),
        "no stream is held during a pause"
    );
    assert_eq!(agent.calls().len(), 2, "and cancels nothing");
}

#[tokio::test(start_paused = true)]
async fn the_stream_is_dropped_before_a_pause() {
    let away = || Answer::Error(Error::new(Below::Connection, "away").into());
    let agent = Scripted::new([
        Answer::EventsThenSilence(vec![begun(), cut()]),
        away(),
        away(),
        Answer::Events(vec![Ok(StreamResponse::Task(task(&[completed(1)])))]),
    ]);
    let mut task = LongTask::send(agent.agent(), request(), RetryPolicy::default());
    let began = Instant::now();
    assert_eq!(
        observed(&mut task).await,
        [
            "Submitted",
            "reconnect",
            "reconnect",
            "reconnect",
            "Completed"
        ]
    );
    let waited = began.elapsed();
    let (least, most) = (Duration::from_millis(750), Duration::from_millis(1502));
    assert!(
        least <= waited && waited <= most,
        "500 ms and 1 s, or down to half of it: {waited:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn with_no_attempts_the_first_broken_stream_is_the_end() {
    let agent = Scripted::new([Answer::Events(vec![begun(), cut()])]);
    let policy = RetryPolicy {
        max_attempts: 0,
        ..RetryPolicy::default()
    };
    let mut task = LongTask::send(agent.agent(), request(), policy);
    assert_eq!(observed(&mut task).await, ["Submitted", "GaveUp"]);
    assert_eq!(agent.calls().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_idle_timeout_breaks_a_silent_stream() {
    let policy = RetryPolicy {
        idle_timeout: Some(Duration::from_secs(60)),
        max_attempts: 2,
        ..RetryPolicy::default()
    };
    let agent = Scripted::new([
        Answer::EventsThenSilence(vec![begun(), Ok(working(1))]),
        Answer::Silence,
        Answer::Error(A2AError::unsupported_operation("it has ended")),
        Answer::Silence,
    ]);
    let mut task = LongTask::send(agent.agent(), request(), policy);
    let began = Instant::now();
    assert_eq!(
        observed(&mut task).await,
        ["Submitted", "Working", "reconnect", "reconnect", "GaveUp"]
    );
    assert_eq!(task.counts().reconnects[&Cause::IdleTimeout], 2);
    assert!(
        began.elapsed() >= Duration::from_secs(180),
        "a stream, a call, and the task asked for in vain"
    );

    let agent = Scripted::new([Answer::Silence]);
    let mut task = LongTask::send(agent.agent(), request(), policy);
    let error = task.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), LongTaskErrorKind::Unanswered);
    assert!(
        error
            .to_string()
            .ends_with("nothing came within the idle timeout"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_last_stream_is_drained_up_to_a_limit() {
    let agent = Scripted::new([Answer::Events(vec![
        begun(),
        Ok(completed(1)),
        Ok(working(2)),
    ])]);
    let mut task = LongTask::send(agent.agent(), request(), RetryPolicy::default());
    assert_eq!(observed(&mut task).await, ["Submitted", "Completed"]);
    assert!(!agent.has_dropped.load(Ordering::Relaxed));

    let agent = Scripted::new([Answer::EventsThenSilence(vec![begun(), Ok(completed(1))])]);
    let mut task = LongTask::send(agent.agent(), request(), RetryPolicy::default());
    let began = Instant::now();
    assert_eq!(observed(&mut task).await, ["Submitted", "Completed"]);
    assert!(agent.has_dropped.load(Ordering::Relaxed));
    assert!(began.elapsed() <= Duration::from_millis(1001));

    // A stream that is always ready, so that no time-out would end it.
    let more = (0..10_000).map(|_| Ok(working(2)));
    let agent = Scripted::new([Answer::Events(
        [begun(), Ok(completed(1))]
            .into_iter()
            .chain(more)
            .collect(),
    )]);
    let mut task = LongTask::send(agent.agent(), request(), RetryPolicy::default());
    assert_eq!(observed(&mut task).await, ["Submitted", "Completed"]);
    assert!(agent.has_dropped.load(Ordering::Relaxed));
}

/// Records the calls that it sees.
struct Interceptor(Arc<Mutex<Vec<String>>>);

#[async_trait]
impl CallInterceptor for Interceptor {
    async fn before(&self, method: &str, _: &mut ServiceParams) -> Result<(), A2AError> {
        self.0.lock().unwrap().push(method.to_owned());
        Ok(())
    }

    async fn after(&self, _: &str, _: &Result<(), A2AError>) -> Result<(), A2AError> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn through_the_sdk_s_client_interceptors_see_every_call_and_the_tenant_is_used() {
    let agent = Scripted::new([
        Answer::Events(vec![begun()]),
        Answer::Error(A2AError::unsupported_operation("it has ended")),
        Answer::Task(Box::new(task(&[completed(3)]))),
    ]);
    let seen = Arc::<Mutex<Vec<String>>>::default();
    let client = A2AClient::new(agent.clone())
        .with_interceptors(vec![Arc::new(Interceptor(Arc::clone(&seen)))])
        .with_tenant("other");
    let request = SubscribeToTaskRequest {
        id: TASK.to_owned(),
        tenant: None,
    };
    let mut task = LongTask::subscribe(client, request, RetryPolicy::default());
    assert_eq!(
        observed(&mut task).await,
        ["Submitted", "reconnect", "Completed"]
    );
    assert_eq!(
        agent.calls(),
        ["subscribe t other", "subscribe t other", "get t other"]
    );
    let seen = seen.lock().unwrap();
    assert_eq!(
        *seen,
        [
            jsonrpc::methods::SUBSCRIBE_TO_TASK,
            jsonrpc::methods::SUBSCRIBE_TO_TASK,
            jsonrpc::methods::GET_TASK
        ]
    );
}
