//! What has been emitted of a task, and what of the events that come is new. No I/O, no clock.
//!
//! A subscription begins with a snapshot of the task, and updates follow. An agent may begin to
//! collect updates for a new subscriber before it takes the snapshot, or after it. So the first
//! updates may repeat what the snapshot has:
//!
//! ```text
//!                       snapshot: parts a b c
//!                             |
//! agent's updates    a    b   |c    d
//!                         +---------+---> what this subscriber receives: snapshot, b, c, d
//! ```
//!
//! Updates come in order: once one of them is new, all that follow are new. Example: before the
//! break part `a` was emitted. The snapshot has `a b c`, so `b c` is emitted at once. Then
//!
//! 1. update `b` fits the beginning of what the snapshot brought (`b c`): it is held back, because
//!    it may be that `b`, or another part that is equal to it.
//! 2. update `c` fits too, and reaches the end of it: `b` and `c` were in the snapshot. Both are
//!    dropped, and counted as repeated.
//! 3. update `d` is new, and is emitted. Had it come in place of `c`, then `b` would not have been
//!    the `b` of the snapshot: `b` and `d` would both be emitted.
//!
//! A status is recognised by the id of its message and by its time; nothing of it is held back.

use std::collections::HashMap;

use a2a::{
    Artifact, ArtifactId, Message, StreamResponse, Task, TaskArtifactUpdateEvent, TaskStatus,
    TaskStatusUpdateEvent,
};
use lru::LruCache;

use super::digest::Digests;
use super::event::{CaughtUp, TaskEvent};
use super::search::Search;

/// Maximum number of messages remembered by their ids. In a longer history, what stands before a
/// known message counts as emitted.
const MAX_MESSAGES: usize = 10_000;

/// Maximum number of statuses remembered: a snapshot is not older than that.
const MAX_STATUSES: usize = 1000;

/// Maximum size of the updates held back, in bytes of JSON.
const MAX_HELD: usize = 16 * 1024 * 1024;

/// Maximum number of parts remembered, of eight bytes each. An artifact counts for as many parts as
/// [`PARTS_OF_AN_ARTIFACT`], and for its id. Of a task that has more, each artifact is emitted
/// whole whenever a snapshot comes.
const MAX_PARTS: usize = 1 << 19;
const PARTS_OF_AN_ARTIFACT: usize = 16;

/// What has been emitted of one task. Eight bytes for each message and each part of an artifact, up
/// to a bound.
#[derive(Debug)]
pub(super) struct TaskHistory {
    digests: Digests,
    status: Option<TaskStatus>,
    /// The emitted statuses that have a time.
    statuses: LruCache<u64, ()>,
    messages: LruCache<u64, ()>,
    has_forgotten: bool,
    artifacts: HashMap<ArtifactId, Vec<u64>>,
    /// How many parts `artifacts` counts for; `None` once that was too much: then nothing of
    /// artifacts is remembered any more.
    remembered: Option<usize>,
    overlap: Option<Overlap>,
    is_uncertain: bool,
    /// Whether the last snapshot lacked the end of an artifact that was emitted: the snapshot is
    /// older, or the artifact was shortened.
    is_shortened: bool,
    repeated: u64,
}

/// After a subscription's first event: updates may come that are in it.
#[derive(Debug, Default)]
struct Overlap {
    /// What the subscription's task brought of each artifact.
    brought: HashMap<ArtifactId, Received>,
    /// Updates that may repeat it.
    held: Vec<TaskArtifactUpdateEvent>,
    /// Their size in bytes of JSON, or somewhat more.
    held_bytes: usize,
    /// The last status emitted before the subscription.
    since: Option<TaskStatus>,
}

/// Where a full task snapshot came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SnapshotSource {
    /// It began a subscription: updates that are in it may follow.
    Subscription,
    /// It is one update among others.
    Update,
    /// It is the response to `GetTask`.
    GetTask,
}

/// What a snapshot brought of one artifact.
#[derive(Debug)]
struct Received {
    /// The first part that was new.
    from: usize,
    /// Where the updates that may be repeated are in it; `None` before the first one.
    search: Option<Search>,
}

/// Whether an update is in the last snapshot already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Novelty {
    New,
    /// It is, and so is what came before it.
    Repeated,
    /// It equals a part of what the snapshot brought: only the next update can tell.
    Ambiguous,
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

    /// The last status emitted.
    pub(super) fn status(&self) -> Option<&TaskStatus> {
        self.status.as_ref()
    }

    /// Whether something was dropped, kept, or is held back, only because of its contents.
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

    /// Records a message that the caller has sent: it is not new to the caller.
    pub(super) fn record_sent(&mut self, message: &Message) {
        self.record_message(self.digests.message(message));
    }

    /// Takes in a snapshot of the task.
    pub(super) fn catch_up(&mut self, task: Task, source: SnapshotSource) -> CaughtUp {
        // What is held back is in the snapshot, if it happened.
        let before = self
            .overlap
            .take()
            .filter(|_| source == SnapshotSource::Update);
        self.is_uncertain = false;
        self.is_shortened = false;
        // Only the response to `GetTask` at the end shows every artifact as it is.
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

    /// What is new in an update, with what was held back before it.
    pub(super) fn update(&mut self, update: StreamResponse) -> Vec<TaskEvent> {
        match update {
            StreamResponse::Task(task) => self.whole_task(task),
            StreamResponse::StatusUpdate(update) => self.status_update(update),
            StreamResponse::ArtifactUpdate(update) => self.artifact_update(update),
            StreamResponse::Message(message) => self.message(message),
        }
    }

    /// What was held back, when nothing follows that would show whether it was emitted.
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
        let mut emitted = self.release();
        self.record_status(&update.status);
        emitted.push(TaskEvent::Status(update));
        emitted
    }

    fn artifact_update(&mut self, update: TaskArtifactUpdateEvent) -> Vec<TaskEvent> {
        match self.artifact_novelty(&update) {
            Novelty::New => self.new_artifact_update(update),
            Novelty::Repeated => {
                let emitted = self.drop_held();
                self.is_uncertain = true;
                emitted
            }
            Novelty::Ambiguous => self.hold_back(update),
        }
    }

    fn new_artifact_update(&mut self, update: TaskArtifactUpdateEvent) -> Vec<TaskEvent> {
        let mut emitted = self.release();
        self.record_artifact(&update);
        emitted.push(TaskEvent::Artifact(update));
        emitted
    }

    /// Holds an update back until the next one shows whether it is new, or until too much is held.
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
        let mut emitted = self.release();
        self.record_message(digest);
        emitted.push(TaskEvent::Message(message));
        emitted
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

    /// Whether a status is the last one emitted, or older.
    fn status_novelty(&self, status: &TaskStatus) -> Novelty {
        let Some(emitted) = &self.status else {
            return Novelty::New;
        };
        let digest = |status: &TaskStatus| status.message.as_ref().map(|m| self.digests.message(m));
        let message = digest(status);
        let later = status
            .timestamp
            .zip(emitted.timestamp)
            .map(|(this, last)| this.cmp(&last));
        let is_same_message = message == digest(emitted);
        if status.state == emitted.state
            && is_same_message
            && later.is_none_or(|later| later.is_eq())
        {
            let is_certain = later.is_some() || message.is_some();
            return if is_certain {
                Novelty::Repeated
            } else {
                Novelty::Ambiguous
            };
        }
        // Emitted before the last one, and equal to it in all: an old snapshot, or an agent that
        // repeats itself.
        let is_older = later.is_some_and(|later| later.is_lt());
        let was_emitted = |digest| self.statuses.contains(&digest);
        if is_older && self.digests.status(status).is_some_and(was_emitted) {
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

    /// The task has left this status behind: to emit it would break the order. Its message is
    /// emitted if it is new.
    fn overtaken(&mut self, status: TaskStatus) -> Vec<TaskEvent> {
        let mut emitted = self.drop_held();
        if let Some(message) = status.message {
            let digest = self.digests.message(&message);
            if !self.messages.contains(&digest) {
                self.record_message(digest);
                emitted.push(TaskEvent::Message(message));
            }
        }
        emitted
    }

    /// Whether a status lies between the last one emitted before the break and the one of the
    /// snapshot. One from before the break does not: then the agent's clock was set back.
    fn is_overtaken(&self, status: &TaskStatus, overlap: &Overlap) -> bool {
        let time = |of: &Option<TaskStatus>| of.as_ref().and_then(|status| status.timestamp);
        let (since, emitted) = (time(&overlap.since), time(&self.status));
        let is_between = |at| {
            emitted.is_some_and(|emitted| at < emitted) && since.is_none_or(|since| since < at)
        };
        !status.state.is_terminal() && status.timestamp.is_some_and(is_between)
    }

    /// Whether an artifact update repeats what the snapshot brought.
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
        let mut search = match (appends(update), brought.search.take()) {
            (false, _) => (brought.from == 0).then(Search::at_start),
            (true, Some(search)) => Some(search),
            (true, None) => {
                let search = Search::from(brought.from, self.digests.search_base());
                (brought.from < all.len()).then_some(search)
            }
        };
        let Some(mut search) = search.take_if(|search| search.find(&parts, all)) else {
            return Novelty::New;
        };
        if search.is_at_end(all) {
            overlap.brought.remove(id);
            return Novelty::Repeated;
        }
        brought.search = Some(search);
        Novelty::Ambiguous
    }

    fn new_messages(&mut self, task: &Task) -> Vec<Message> {
        let history = task.history.as_deref().unwrap_or_default();
        let digests: Vec<u64> = history.iter().map(|m| self.digests.message(m)).collect();
        let last_known = digests
            .iter()
            .rposition(|digest| self.messages.contains(digest));
        let emitted_before = if self.has_forgotten { last_known } else { None };
        let of_status = task
            .status
            .message
            .as_ref()
            .map(|m| self.digests.message(m));
        let mut messages = Vec::new();
        for (place, (message, digest)) in history.iter().zip(digests).enumerate() {
            let is_new = !self.messages.contains(&digest)
                && emitted_before.is_none_or(|emitted| place > emitted);
            if is_new && of_status != Some(digest) {
                messages.push(message.clone());
            }
            self.record_message(digest);
        }
        messages
    }

    /// The update that leads from what was emitted of an artifact to what the snapshot has. A
    /// snapshot that `may_be_older` than what was emitted may lack its end.
    fn new_parts(
        &mut self,
        task: &Task,
        artifact: &Artifact,
        may_be_older: bool,
        overlap: &mut Overlap,
    ) -> Option<TaskArtifactUpdateEvent> {
        let parts = self.digests.parts(&artifact.parts);
        let emitted = self.artifacts.get(&artifact.artifact_id);
        if may_be_older && emitted.is_some_and(|emitted| emitted.starts_with(&parts)) {
            self.is_shortened |= emitted.is_some_and(|emitted| emitted.len() > parts.len());
            return None;
        }
        let emitted = emitted
            .filter(|emitted| parts.starts_with(emitted))
            .map(Vec::len);
        if emitted == Some(parts.len()) {
            return None;
        }
        let from = emitted.unwrap_or(0);
        self.remember(&artifact.artifact_id, parts, false);
        let brought = Received { from, search: None };
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
            append: Some(emitted.is_some()),
            last_chunk: None,
            metadata: None,
        })
    }

    fn record_status(&mut self, status: &TaskStatus) {
        if let Some(message) = &status.message {
            self.record_sent(message);
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
        let emitted = self.artifacts.entry(id.clone()).or_insert_with(|| {
            *remembered += PARTS_OF_AN_ARTIFACT + id.len() / size_of::<u64>();
            Vec::new()
        });
        *remembered += parts.len();
        if append {
            emitted.extend(parts);
        } else {
            *remembered -= emitted.len();
            *emitted = parts;
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
