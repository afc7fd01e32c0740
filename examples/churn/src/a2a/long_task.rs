//! One long task, followed to its end: by bowline with `LongTask`, by the stock client to the end
//! of its stream.

use std::sync::Arc;
use std::time::Instant;

use a2a::{Message, Part, StreamResponse, TaskState, TaskStatus};
use a2a_client::{A2AClient, Transport};
use bowline_a2a::long_task::{LongTask, RetryPolicy, TaskEvent};
use futures_util::StreamExt;
use indicatif::ProgressBar;

use super::message;
use crate::agent::{Calls, Measured};

type Client = Arc<A2AClient<Box<dyn Transport>>>;

/// What was received from a task that sends `steps` status updates and then completes.
struct Received<'a> {
    /// How often each step was received.
    steps: Vec<u32>,
    has_completed: bool,
    measured: Measured,
    last: Instant,
    progress: &'a ProgressBar,
}

impl Received<'_> {
    fn status(&mut self, status: &TaskStatus) {
        self.has_completed |= status.state == TaskState::Completed;
        if let Some(message) = &status.message {
            self.message(message);
        }
    }

    /// The message's text is the step's number, from 1.
    fn message(&mut self, message: &Message) {
        let text = message.parts.first().and_then(Part::as_text);
        let step = text.and_then(|text| text.parse::<usize>().ok()?.checked_sub(1));
        if let Some(times) = step.and_then(|step| self.steps.get_mut(step)) {
            *times += 1;
            self.measured.add(self.last, true);
            self.last = Instant::now();
            self.progress.inc(1);
        }
    }

    /// Every state that was not received exactly once is an error.
    fn measured(mut self) -> Measured {
        let wrong = self.steps.iter().filter(|times| **times != 1).count() as u64;
        self.measured.errors += wrong + u64::from(!self.has_completed);
        self.measured
    }
}

/// The time between two states is its latency.
pub(super) async fn follow(client: &Client, is_ours: bool, calls: Calls<'_>) -> Measured {
    let mut received = Received {
        steps: vec![0; calls.number as usize],
        has_completed: false,
        measured: Measured::default(),
        last: Instant::now(),
        progress: calls.progress,
    };
    if is_ours {
        let mut task = LongTask::send(client.clone(), message("go"), RetryPolicy::default());
        while let Some(Ok(event)) = task.next().await {
            match &event {
                TaskEvent::CaughtUp(caught_up) => {
                    caught_up
                        .messages
                        .iter()
                        .for_each(|message| received.message(message));
                    caught_up
                        .status
                        .iter()
                        .for_each(|status| received.status(status));
                }
                TaskEvent::Status(update) => received.status(&update.status),
                TaskEvent::Message(message) => received.message(message),
                _ => {}
            }
        }
    } else if let Ok(mut stream) = client.send_streaming_message(&message("go")).await {
        while let Some(Ok(event)) = stream.next().await {
            match &event {
                StreamResponse::Task(task) => received.status(&task.status),
                StreamResponse::StatusUpdate(update) => received.status(&update.status),
                _ => {}
            }
        }
    }
    received.measured()
}
