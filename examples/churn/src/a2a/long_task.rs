//! One task that takes its time, followed to its end: by ours with `LongTask`, by the stock client
//! as far as its stream goes.

use std::sync::Arc;
use std::time::Instant;

use a2a::{Message, Part, StreamResponse, TaskState, TaskStatus};
use a2a_client::{A2AClient, Transport};
use bowline_a2a::long_task::{LongTask, RetryPolicy, TaskEvent};
use futures_util::StreamExt;
use indicatif::ProgressBar;

use super::message;
use crate::agent::Driven;

type Client = Arc<A2AClient<Box<dyn Transport>>>;

/// What was heard of a task that says `steps` times that it works, and then that it has completed.
struct Heard<'a> {
    /// How often each step was heard.
    steps: Vec<u32>,
    has_completed: bool,
    driven: Driven,
    last: Instant,
    progress: &'a ProgressBar,
}

impl Heard<'_> {
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
            self.driven.add(self.last, true);
            self.last = Instant::now();
            self.progress.inc(1);
        }
    }

    /// A state that was not heard once and only once is an error.
    fn driven(mut self) -> Driven {
        let wrong = self.steps.iter().filter(|times| **times != 1).count() as u64;
        self.driven.errors += wrong + u64::from(!self.has_completed);
        self.driven
    }
}

/// The time between two states is its latency.
pub(super) async fn follow(
    client: &Client,
    is_ours: bool,
    steps: u32,
    progress: &ProgressBar,
) -> Driven {
    let mut heard = Heard {
        steps: vec![0; steps as usize],
        has_completed: false,
        driven: Driven::default(),
        last: Instant::now(),
        progress,
    };
    if is_ours {
        let mut task = LongTask::send(client.clone(), message("go"), RetryPolicy::default());
        while let Some(Ok(event)) = task.next().await {
            match &event {
                TaskEvent::CaughtUp(caught_up) => {
                    caught_up
                        .messages
                        .iter()
                        .for_each(|message| heard.message(message));
                    caught_up
                        .status
                        .iter()
                        .for_each(|status| heard.status(status));
                }
                TaskEvent::Status(update) => heard.status(&update.status),
                TaskEvent::Message(message) => heard.message(message),
                _ => {}
            }
        }
    } else if let Ok(mut stream) = client.send_streaming_message(&message("go")).await {
        while let Some(Ok(event)) = stream.next().await {
            match &event {
                StreamResponse::Task(task) => heard.status(&task.status),
                StreamResponse::StatusUpdate(update) => heard.status(&update.status),
                _ => {}
            }
        }
    }
    heard.driven()
}
