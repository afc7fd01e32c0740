//! Does what the machine says: calls, listens, waits. Decides nothing.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use a2a::{A2AError, GetTaskRequest, SendMessageRequest, SubscribeToTaskRequest};
use futures_util::StreamExt;
use tokio::time::{Instant, sleep, timeout};

use super::agent::{Calls, Events};
use super::error::Error;
use super::event::{Counts, TaskEvent};
use super::machine::{Action, Event, Machine};

/// A stream whose task has ended is read to its end for so long: on HTTP/1.1 its connection is then
/// good for another call.
const FAREWELL: Duration = Duration::from_secs(1);
/// And for so many events: no time-out ends what never has to be waited for.
const MAX_FAREWELLS: usize = 64;

pub(super) struct Driver {
    calls: Arc<dyn Calls>,
    machine: Machine,
    /// The message that is still to be sent.
    message: Option<SendMessageRequest>,
    tenant: Option<String>,
    silence: Option<Duration>,
    counts: Arc<Mutex<Counts>>,
    actions: VecDeque<Action>,
    stream: Option<Events>,
}

impl Driver {
    pub(super) fn sending(
        calls: Arc<dyn Calls>,
        machine: Machine,
        message: SendMessageRequest,
        silence: Option<Duration>,
    ) -> Self {
        let tenant = message.tenant.clone();
        let message = Some(message);
        Self::new(calls, machine, message, tenant, silence)
    }

    pub(super) fn subscribing(
        calls: Arc<dyn Calls>,
        machine: Machine,
        request: SubscribeToTaskRequest,
        silence: Option<Duration>,
    ) -> Self {
        let mut driver = Self::new(calls, machine, None, request.tenant, silence);
        driver.actions.push_back(Action::Subscribe(request.id));
        driver
    }

    fn new(
        calls: Arc<dyn Calls>,
        machine: Machine,
        message: Option<SendMessageRequest>,
        tenant: Option<String>,
        silence: Option<Duration>,
    ) -> Self {
        Self {
            calls,
            machine,
            message,
            tenant,
            silence,
            counts: Arc::default(),
            actions: VecDeque::new(),
            stream: None,
        }
    }

    pub(super) fn counts(&self) -> Arc<Mutex<Counts>> {
        Arc::clone(&self.counts)
    }

    /// What the task's stream tells next; after an error, nothing.
    pub(super) async fn next(&mut self) -> Option<Result<TaskEvent, Error>> {
        loop {
            let event = match self.actions.pop_front() {
                Some(Action::Tell(event)) => return Some(Ok(event)),
                Some(Action::Fail(error)) => {
                    self.stream = None;
                    return Some(Err(error));
                }
                Some(Action::Finish) => {
                    self.read_out().await;
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
                    let called = patiently(self.silence, self.calls.subscribe(&request)).await;
                    self.opened(called)
                }
                Some(Action::Ask(id)) => {
                    self.stream = None;
                    Some(self.ask(id).await)
                }
                None => match self.message.take() {
                    Some(request) => {
                        let called = patiently(self.silence, self.calls.send(&request)).await;
                        self.opened(called)
                    }
                    None => Some(self.listen().await?),
                },
            };
            if let Some(event) = event {
                self.handle(event);
            }
        }
    }

    /// The next event of the stream; none after the end.
    async fn listen(&mut self) -> Option<Event> {
        let stream = self.stream.as_mut()?;
        Some(match patiently(self.silence, stream.next()).await {
            None => Event::Silent,
            Some(None) => Event::Ended,
            Some(Some(Ok(event))) => Event::Came(event),
            Some(Some(Err(error))) => Event::Failed(error),
        })
    }

    fn opened(&mut self, called: Option<Result<Events, A2AError>>) -> Option<Event> {
        match called {
            None => Some(Event::Silent),
            Some(Err(error)) => Some(Event::Failed(error)),
            Some(Ok(stream)) => {
                self.stream = Some(stream);
                None
            }
        }
    }

    async fn ask(&mut self, id: String) -> Event {
        let request = GetTaskRequest {
            id,
            history_length: None,
            tenant: self.tenant.clone(),
        };
        match patiently(self.silence, self.calls.task(&request)).await {
            None => Event::Silent,
            Some(answer) => Event::Answered(answer),
        }
    }

    fn handle(&mut self, event: Event) {
        let now = Instant::now().into_std();
        self.actions
            .extend(self.machine.handle(now, fastrand::f64(), event));
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner) = self.machine.counts();
    }

    async fn read_out(&mut self) {
        if let Some(mut stream) = self.stream.take() {
            let to_its_end = async {
                for _ in 0..MAX_FAREWELLS {
                    let Some(Ok(_)) = stream.next().await else {
                        return;
                    };
                }
            };
            // One that does not end in time is dropped.
            let _ = timeout(FAREWELL, to_its_end).await;
        }
    }
}

/// `None` if it took longer than `limit`.
async fn patiently<F: Future>(limit: Option<Duration>, what: F) -> Option<F::Output> {
    match limit {
        Some(limit) => timeout(limit, what).await.ok(),
        None => Some(what.await),
    }
}
