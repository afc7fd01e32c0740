//! Executes the actions of the state machine: calls, reads streams, waits. It decides nothing.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use a2a::{A2AError, GetTaskRequest, SendMessageRequest, SubscribeToTaskRequest};
use futures_util::StreamExt;
use tokio::time::{Instant, sleep, timeout};

use super::agent::{AgentCalls, Events};
use super::error::LongTaskError;
use super::event::{Counts, TaskEvent};
use super::machine::{Action, Event, Machine};

/// Maximum time to read a stream to its end once its task has ended. On HTTP/1.1 this keeps the
/// connection usable for another call.
const MAX_DRAIN_TIME: Duration = Duration::from_secs(1);
/// Maximum number of events read meanwhile: a stream that is always ready never hits a time-out.
const MAX_DRAINED_EVENTS: usize = 64;

pub(super) struct Driver {
    calls: Arc<dyn AgentCalls>,
    machine: Machine,
    /// The message, until it is sent.
    message: Option<SendMessageRequest>,
    tenant: Option<String>,
    idle_timeout: Option<Duration>,
    counts: Arc<Mutex<Counts>>,
    actions: VecDeque<Action>,
    stream: Option<Events>,
}

impl Driver {
    pub(super) fn sending(
        calls: Arc<dyn AgentCalls>,
        machine: Machine,
        message: SendMessageRequest,
        idle_timeout: Option<Duration>,
    ) -> Self {
        let tenant = message.tenant.clone();
        let message = Some(message);
        Self::new(calls, machine, message, tenant, idle_timeout)
    }

    pub(super) fn subscribing(
        calls: Arc<dyn AgentCalls>,
        machine: Machine,
        request: SubscribeToTaskRequest,
        idle_timeout: Option<Duration>,
    ) -> Self {
        let mut driver = Self::new(calls, machine, None, request.tenant, idle_timeout);
        driver.actions.push_back(Action::Subscribe(request.id));
        driver
    }

    fn new(
        calls: Arc<dyn AgentCalls>,
        machine: Machine,
        message: Option<SendMessageRequest>,
        tenant: Option<String>,
        idle_timeout: Option<Duration>,
    ) -> Self {
        Self {
            calls,
            machine,
            message,
            tenant,
            idle_timeout,
            counts: Arc::default(),
            actions: VecDeque::new(),
            stream: None,
        }
    }

    pub(super) fn counts(&self) -> Arc<Mutex<Counts>> {
        Arc::clone(&self.counts)
    }

    /// The next event; `None` at the end, and after an error.
    pub(super) async fn next(&mut self) -> Option<Result<TaskEvent, LongTaskError>> {
        loop {
            let event = match self.actions.pop_front() {
                Some(Action::Emit(event)) => return Some(Ok(event)),
                Some(Action::Fail(error)) => {
                    self.stream = None;
                    return Some(Err(error));
                }
                Some(Action::Finish) => {
                    self.drain().await;
                    return None;
                }
                Some(Action::Pause(pause)) => {
                    self.stream = None;
                    sleep(pause).await;
                    continue;
                }
                Some(Action::Subscribe(id)) => {
                    self.stream = None;
                    let tenant = self.tenant.clone();
                    let request = SubscribeToTaskRequest { id, tenant };
                    let opened = within(self.idle_timeout, self.calls.subscribe(&request)).await;
                    self.opened(opened)
                }
                Some(Action::GetTask(id)) => {
                    self.stream = None;
                    Some(self.get_task(id).await)
                }
                None => match self.message.take() {
                    Some(request) => {
                        let opened = within(self.idle_timeout, self.calls.send(&request)).await;
                        self.opened(opened)
                    }
                    None => Some(self.next_event().await?),
                },
            };
            if let Some(event) = event {
                self.handle(event);
            }
        }
    }

    /// The next event of the stream; `None` if there is no stream.
    async fn next_event(&mut self) -> Option<Event> {
        let stream = self.stream.as_mut()?;
        Some(match within(self.idle_timeout, stream.next()).await {
            None => Event::IdleTimeout,
            Some(None) => Event::Ended,
            Some(Some(Ok(event))) => Event::Received(event),
            Some(Some(Err(error))) => Event::Failed(error),
        })
    }

    fn opened(&mut self, opened: Option<Result<Events, A2AError>>) -> Option<Event> {
        match opened {
            None => Some(Event::IdleTimeout),
            Some(Err(error)) => Some(Event::Failed(error)),
            Some(Ok(stream)) => {
                self.stream = Some(stream);
                None
            }
        }
    }

    async fn get_task(&mut self, id: String) -> Event {
        let request = GetTaskRequest {
            id,
            history_length: None,
            tenant: self.tenant.clone(),
        };
        match within(self.idle_timeout, self.calls.task(&request)).await {
            None => Event::IdleTimeout,
            Some(answer) => Event::GotTask(answer),
        }
    }

    fn handle(&mut self, event: Event) {
        let now = Instant::now().into_std();
        self.actions
            .extend(self.machine.handle(now, fastrand::f64(), event));
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner) = self.machine.counts();
    }

    async fn drain(&mut self) {
        if let Some(mut stream) = self.stream.take() {
            let to_its_end = async {
                for _ in 0..MAX_DRAINED_EVENTS {
                    let Some(Ok(_)) = stream.next().await else {
                        return;
                    };
                }
            };
            // A stream that does not end in time is dropped.
            let _ = timeout(MAX_DRAIN_TIME, to_its_end).await;
        }
    }
}

/// Awaits a future; `None` if it takes longer than `limit`.
async fn within<F: Future>(limit: Option<Duration>, future: F) -> Option<F::Output> {
    match limit {
        Some(limit) => timeout(limit, future).await.ok(),
        None => Some(future.await),
    }
}
