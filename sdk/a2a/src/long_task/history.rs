//! What has been told of a task, and what of that which comes is new. No I/O, no clock.
//!
//! A subscription begins with the task as it stands. Agents begin to collect updates for the new
//! subscriber before they take that picture, or after, or both at once; so the first updates that
//! follow may be in it already. They come in order: if one of them is new, all that follow are. A
//! status is told from one in the picture by its message's id and by its time. A piece of an
//! artifact has neither, and is told by its contents: the pieces are held back for as long as they
//! fit what the picture brought, dropped once they have reached its end, and told if they do not.

use std::collections::HashMap;

use a2a::{
    Artifact, ArtifactId, Message, StreamResponse, Task, TaskArtifactUpdateEvent, TaskStatus,
    TaskStatusUpdateEvent,
};
use lru::LruCache;

use super::digest::Digests;
use super::event::{CaughtUp, TaskEvent};

/// As many messages are remembered by their ids. Of a longer history, what stands before a known
/// message counts as told.
const MAX_MESSAGES: usize = 10_000;

/// As many statuses are remembered: an agent's picture does not lag behind by more.
const MAX_STATUSES: usize = 1000;

/// As much is held back of updates that may be in the task already, in bytes of JSON.
const MAX_HELD: usize = 16 * 1024 * 1024;

/// As many parts are remembered, of eight bytes each, and an artifact for so many of them besides
/// its id. Of a task that has more, each artifact is told whole whenever the task comes as a whole.
const MAX_PARTS: usize = 1 << 19;
const PARTS_OF_AN_ARTIFACT: usize = 16;

/// What has been told of one task. Eight bytes for each message and each part of an artifact, up
/// to a bound.
#[derive(Debug)]
pub(super) struct TaskHistory {
    digests: Digests,
    status: Option<TaskStatus>,
    /// Those with a time that were told.
    statuses: LruCache<u64, ()>,
    messages: LruCache<u64, ()>,
    has_forgotten: bool,
    artifacts: HashMap<ArtifactId, Vec<u64>>,
    /// What they count as; nothing more is remembered of them once that was too much.
    remembered: Option<usize>,
    overlap: Option<Overlap>,
    is_uncertain: bool,
    /// Whether the last picture lacked the end of an artifact that was told: it lags behind, or the
    /// artifact was shortened.
    is_shortened: bool,
    repeated: u64,
}

/// After a subscription's first event: updates may come that are in it.
#[derive(Debug, Default)]
struct Overlap {
    /// What the subscription's task brought of each artifact.
    brought: HashMap<ArtifactId, Received>,
    /// Updates that may have been among it.
    held: Vec<TaskArtifactUpdateEvent>,
    /// The bytes of those, or somewhat more.
    held_bytes: usize,
    /// The status that was told last before it.
    since: Option<TaskStatus>,
}

/// Whence a task came that is caught up with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// It began a subscription: updates that are in it may follow.
    Subscription,
    /// It is one update among others.
    Update,
    /// It was asked for.
    Answer,
}

#[derive(Debug)]
struct Received {
    /// The first part that was new.
    from: usize,
    /// Where the updates that came again may have got to; before the first one, nowhere.
    reached: Option<Vec<usize>>,
}

/// Whether something that came is in the task already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Novelty {
    New,
    /// It is, and so is what came before it.
    Repeated,
    /// Nothing tells it from what was told before, or from a part of it.
    Alike,
}

impl TaskHistory {
    pub(super) fn new() -> Self {
        Self {
            digests: Digests::default(),
            status: None,
            // With a capacity it would take its memory at once.
            statuses: LruCache::unbounded(),
            messages: LruCache::unbounded(),
            has_forgotten: false,
            artifacts: HashMap::new(),
            remembered: Some(0),
            overlap: None,
            is_uncertain: false,
            is_shortened: false,
            repeated: 0,
        }
    }

    /// The status told last.
    pub(super) fn status(&self) -> Option<&TaskStatus> {
        self.status.as_ref()
    }

    /// Whether something was dropped, kept, or is held back, on no better evidence than its
    /// contents.
    pub(super) fn is_uncertain(&self) -> bool {
        self.is_uncertain
            || self.is_shortened
            || self
                .overlap
                .as_ref()
                .is_some_and(|overlap| !overlap.held.is_empty())
    }

    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.artifacts.values().map(Vec::len).sum()
    }

    /// Updates that were dropped.
    pub(super) fn repeated(&self) -> u64 {
        self.repeated
    }

    /// A message of the caller's own is no news to him.
    pub(super) fn know(&mut self, message: &Message) {
        self.record_message(self.digests.message(message));
    }

    /// Takes in the task as it stands.
    pub(super) fn catch_up(&mut self, task: Task, source: Source) -> CaughtUp {
        // What is held is in the task, if it happened.
        let before = self
            .overlap
            .take()
            .filter(|_| source == SnapshotSource::Update);
        self.is_uncertain = false;
        self.is_shortened = false;
        // Only what was asked for at the end shows every artifact as it is.
        let may_be_older = before.is_some() || source == SnapshotSource::Subscription;
        let mut overlap = Overlap {
            since: self.status.clone(),
            ..Overlap::default()
        };
        let status =
            (self.status_novelty(&task.status) == Novelty::New).then(|| task.status.clone());
        let messages = self.new_messages(&task);
        if status.is_some() {
            self.record_status(&task.status);
        }
        let artifacts = task.artifacts.iter().flatten();
        let artifacts = artifacts
            .filter_map(|artifact| self.new_parts(&task, artifact, may_be_older, &mut overlap))
            .collect();
        let caught_up = CaughtUp {
            task,
            status,
            messages,
            artifacts,
        };
        self.overlap = match before {
            Some(before) if !caught_up.is_news() => Some(Overlap {
                held: Vec::new(),
                held_bytes: 0,
                ..before
            }),
            _ => (source == SnapshotSource::Subscription).then_some(overlap),
        };
        caught_up
    }

    /// What an update tells that is new, with what was held back before it.
    pub(super) fn update(&mut self, update: StreamResponse) -> Vec<TaskEvent> {
        match update {
            StreamResponse::Task(task) => self.whole_task(task),
            StreamResponse::StatusUpdate(update) => self.status_update(update),
            StreamResponse::ArtifactUpdate(update) => self.artifact_update(update),
            StreamResponse::Message(message) => self.message(message),
        }
    }

    /// What was held back, when nothing follows that would show whether it was told.
    pub(super) fn release(&mut self) -> Vec<TaskEvent> {
        let held = self
            .overlap
            .take()
            .map(|overlap| overlap.held)
            .unwrap_or_default();
        self.is_uncertain |= !held.is_empty();
        held.iter().for_each(|update| self.record_artifact(update));
        held.into_iter().map(TaskEvent::Artifact).collect()
    }

    fn whole_task(&mut self, task: Task) -> Vec<TaskEvent> {
        let may_be_repeated = self.overlap.is_some();
        let caught_up = self.catch_up(task, SnapshotSource::Update);
        if may_be_repeated && !caught_up.is_news() {
            return self.drop_one();
        }
        vec![TaskEvent::CaughtUp(Box::new(caught_up))]
    }

    fn status_update(&mut self, update: TaskStatusUpdateEvent) -> Vec<TaskEvent> {
        if let Some(overlap) = &self.overlap {
            match self.status_novelty(&update.status) {
                Novelty::New if self.is_overtaken(&update.status, overlap) => {
                    return self.overtaken(update.status);
                }
                Novelty::New => {}
                Novelty::Repeated => return self.drop_held(),
                Novelty::Ambiguous => return self.drop_one(),
            }
        }
        let mut told = self.release();
        self.record_status(&update.status);
        told.push(TaskEvent::Status(update));
        told
    }

    fn artifact_update(&mut self, update: TaskArtifactUpdateEvent) -> Vec<TaskEvent> {
        match self.artifact_novelty(&update) {
            Novelty::New => self.new_artifact_update(update),
            Novelty::Repeated => {
                let told = self.drop_held();
                self.is_uncertain = true;
                told
            }
            Novelty::Ambiguous => self.hold_back(update),
        }
    }

    fn new_artifact_update(&mut self, update: TaskArtifactUpdateEvent) -> Vec<TaskEvent> {
        let mut told = self.release();
        self.record_artifact(&update);
        told.push(TaskEvent::Artifact(update));
        told
    }

    /// Until another update shows whether it was told; or until there is too much of it.
    fn hold_back(&mut self, update: TaskArtifactUpdateEvent) -> Vec<TaskEvent> {
        let bytes = serde_json::to_vec(&update).map_or(MAX_HELD, |json| json.len());
        match &mut self.overlap {
            Some(overlap) if overlap.held_bytes.saturating_add(bytes) <= MAX_HELD => {
                overlap.held_bytes += bytes;
                overlap.held.push(update);
                Vec::new()
            }
            _ => self.new_artifact_update(update),
        }
    }

    fn message(&mut self, message: Message) -> Vec<TaskEvent> {
        let digest = self.digests.message(&message);
        if self.overlap.is_some() && self.messages.contains(&digest) {
            return self.drop_held();
        }
        let mut told = self.release();
        self.record_message(digest);
        told.push(TaskEvent::Message(message));
        told
    }

    /// This update is in the task, and so are those that came before it.
    fn drop_held(&mut self) -> Vec<TaskEvent> {
        self.is_uncertain = false;
        if let Some(overlap) = &mut self.overlap {
            self.repeated += overlap.held.len() as u64;
            overlap.held.clear();
            overlap.held_bytes = 0;
        }
        self.drop_one()
    }

    fn drop_one(&mut self) -> Vec<TaskEvent> {
        self.repeated += 1;
        Vec::new()
    }

    /// Whether a status is the one told last or older.
    fn status_novelty(&self, status: &TaskStatus) -> Novelty {
        let Some(told) = &self.status else {
            return Novelty::New;
        };
        let digest = |status: &TaskStatus| status.message.as_ref().map(|m| self.digests.message(m));
        let message = digest(status);
        let later = status
            .timestamp
            .zip(told.timestamp)
            .map(|(this, last)| this.cmp(&last));
        let is_same_message = message == digest(told);
        if status.state == told.state && is_same_message && later.is_none_or(|later| later.is_eq())
        {
            let is_certain = later.is_some() || message.is_some();
            return if is_certain {
                Novelty::Repeated
            } else {
                Novelty::Ambiguous
            };
        }
        // Said before the one told last, to the letter: a picture that lags behind, or an agent
        // that repeats itself.
        let is_older = later.is_some_and(|later| later.is_lt());
        let was_told = |digest| self.statuses.contains(&digest);
        if is_older && self.digests.status(status).is_some_and(was_told) {
            return Novelty::Repeated;
        }
        // Nothing follows a terminal state: it cannot be older than another one.
        if status.state.is_terminal() {
            return Novelty::New;
        }
        let is_known = match message {
            // An id that is not known is new, whatever an agent's clock says.
            Some(message) if !self.messages.contains(&message) => false,
            Some(_) => later.map_or(!is_same_message, |later| later.is_lt()),
            None => false,
        };
        if is_known {
            Novelty::Repeated
        } else {
            Novelty::New
        }
    }

    /// A status that the task has left behind is its status no more, and would be told out of
    /// order; what the agent said with it is told if it was not.
    fn overtaken(&mut self, status: TaskStatus) -> Vec<TaskEvent> {
        let mut told = self.drop_held();
        if let Some(message) = status.message {
            let digest = self.digests.message(&message);
            if !self.messages.contains(&digest) {
                self.record_message(digest);
                told.push(TaskEvent::Message(message));
            }
        }
        told
    }

    /// Whether a status was said after the one told last before the break, and before the one that
    /// the subscription's task had. One from before the break is no such one: then the agent's
    /// clock was set back.
    fn is_overtaken(&self, status: &TaskStatus, overlap: &Overlap) -> bool {
        let time = |of: &Option<TaskStatus>| of.as_ref().and_then(|status| status.timestamp);
        let (since, told) = (time(&overlap.since), time(&self.status));
        let is_between =
            |at| told.is_some_and(|told| at < told) && since.is_none_or(|since| since < at);
        !status.state.is_terminal() && status.timestamp.is_some_and(is_between)
    }

    /// Whether an artifact update is among what the subscription's task brought.
    fn artifact_novelty(&mut self, update: &TaskArtifactUpdateEvent) -> Novelty {
        let Some(overlap) = &mut self.overlap else {
            return Novelty::New;
        };
        let id = &update.artifact.artifact_id;
        let (Some(brought), Some(all)) = (overlap.brought.get_mut(id), self.artifacts.get(id))
        else {
            return Novelty::New;
        };
        let parts = self.digests.parts(&update.artifact.parts);
        let begins = match (appends(update), brought.reached.take()) {
            (false, _) if brought.from == 0 => vec![0],
            (false, _) => Vec::new(),
            (true, Some(reached)) => reached,
            (true, None) => (brought.from..all.len()).collect(),
        };
        let fitting = begins
            .into_iter()
            .filter(|begin| all[*begin..].starts_with(&parts));
        let reached: Vec<usize> = fitting.map(|begin| begin + parts.len()).collect();
        if reached.is_empty() {
            return Novelty::New;
        }
        if reached.contains(&all.len()) {
            overlap.brought.remove(id);
            return Novelty::Repeated;
        }
        brought.reached = Some(reached);
        Novelty::Ambiguous
    }

    fn new_messages(&mut self, task: &Task) -> Vec<Message> {
        let history = task.history.as_deref().unwrap_or_default();
        let digests: Vec<u64> = history.iter().map(|m| self.digests.message(m)).collect();
        let last_known = digests
            .iter()
            .rposition(|digest| self.messages.contains(digest));
        let told_before = if self.has_forgotten { last_known } else { None };
        let of_status = task
            .status
            .message
            .as_ref()
            .map(|m| self.digests.message(m));
        let mut messages = Vec::new();
        for (place, (message, digest)) in history.iter().zip(digests).enumerate() {
            let is_new =
                !self.messages.contains(&digest) && told_before.is_none_or(|told| place > told);
            if is_new && of_status != Some(digest) {
                messages.push(message.clone());
            }
            self.record_message(digest);
        }
        messages
    }

    /// The update that leads from what was told of an artifact to what it is. One that
    /// `may_be_older` than what was told may lack its end.
    fn new_parts(
        &mut self,
        task: &Task,
        artifact: &Artifact,
        may_be_older: bool,
        overlap: &mut Overlap,
    ) -> Option<TaskArtifactUpdateEvent> {
        let parts = self.digests.parts(&artifact.parts);
        let told = self.artifacts.get(&artifact.artifact_id);
        if may_be_older && told.is_some_and(|told| told.starts_with(&parts)) {
            self.is_shortened |= told.is_some_and(|told| told.len() > parts.len());
            return None;
        }
        let told = told.filter(|told| parts.starts_with(told)).map(Vec::len);
        if told == Some(parts.len()) {
            return None;
        }
        let from = told.unwrap_or(0);
        self.remember(&artifact.artifact_id, parts, false);
        let brought = Received {
            from,
            reached: None,
        };
        overlap
            .brought
            .insert(artifact.artifact_id.clone(), brought);
        Some(TaskArtifactUpdateEvent {
            task_id: task.id.clone(),
            context_id: task.context_id.clone(),
            artifact: Artifact {
                parts: artifact.parts[from..].to_vec(),
                ..artifact.clone()
            },
            append: Some(told.is_some()),
            last_chunk: None,
            metadata: None,
        })
    }

    fn record_status(&mut self, status: &TaskStatus) {
        if let Some(message) = &status.message {
            self.know(message);
        }
        if let Some(digest) = self.digests.status(status) {
            self.statuses.put(digest, ());
            if self.statuses.len() > MAX_STATUSES {
                self.statuses.pop_lru();
            }
        }
        self.status = Some(status.clone());
    }

    fn record_message(&mut self, digest: u64) {
        self.messages.put(digest, ());
        if self.messages.len() > MAX_MESSAGES {
            self.messages.pop_lru();
            self.has_forgotten = true;
        }
    }

    fn record_artifact(&mut self, update: &TaskArtifactUpdateEvent) {
        let parts = self.digests.parts(&update.artifact.parts);
        self.remember(&update.artifact.artifact_id, parts, appends(update));
    }

    fn remember(&mut self, id: &ArtifactId, parts: Vec<u64>, append: bool) {
        let Some(remembered) = &mut self.remembered else {
            return;
        };
        let told = self.artifacts.entry(id.clone()).or_insert_with(|| {
            *remembered += PARTS_OF_AN_ARTIFACT + id.len() / size_of::<u64>();
            Vec::new()
        });
        *remembered += parts.len();
        if append {
            told.extend(parts);
        } else {
            *remembered -= told.len();
            *told = parts;
        }
        if *remembered > MAX_PARTS {
            self.remembered = None;
            self.artifacts = HashMap::new();
        }
    }
}

fn appends(update: &TaskArtifactUpdateEvent) -> bool {
    update.append.unwrap_or(false)
}
