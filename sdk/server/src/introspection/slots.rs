//! How many questions are under way at a time, shared fairly among those who cause them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::Requester;

/// A bounded number of slots. While all are taken, they go to the requesters in turn, so that one
/// with many questions does not make the others wait behind them.
pub(super) struct Slots(Mutex<State>);

struct State {
    free: usize,
    /// Those who wait, by requester and then in the order in which they came.
    waiting: HashMap<Key, BTreeMap<u64, oneshot::Sender<()>>>,
    /// The requesters that wait, the next one first.
    turns: VecDeque<Key>,
    arrivals: u64,
}

/// Questions without a known requester wait in one queue.
type Key = Option<Requester>;

/// One slot, which is free again when this is dropped.
pub(super) struct Slot(Arc<Slots>);

impl Slots {
    pub(super) fn new(slots: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            free: slots,
            waiting: HashMap::new(),
            turns: VecDeque::new(),
            arrivals: 0,
        })))
    }

    /// Waits for a slot. A caller that gives up leaves the queue.
    pub(super) async fn acquire(self: &Arc<Self>, requester: Key) -> Slot {
        let mut waiting = {
            let mut state = self.state();
            if state.free > 0 {
                state.free -= 1;
                return Slot(self.clone());
            }
            Waiting::new(self, &mut state, requester)
        };
        // The sender is dropped only after it has sent.
        let _ = (&mut waiting.granted).await;
        waiting.is_over = true;
        Slot(self.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.state().pass_on();
    }
}

impl State {
    /// Gives a slot to the next requester in turn; without one it is free.
    fn pass_on(&mut self) {
        while let Some(key) = self.turns.pop_front() {
            let Some(queue) = self.waiting.get_mut(&key) else {
                continue;
            };
            let first = queue.pop_first();
            if queue.is_empty() {
                self.waiting.remove(&key);
            } else {
                self.turns.push_back(key);
            }
            // One that has gone has left the queue, or gives the slot back: see `Waiting`.
            if let Some((_, caller)) = first
                && caller.send(()).is_ok()
            {
                return;
            }
        }
        self.free += 1;
    }
}

/// A place in the queue.
struct Waiting<'a> {
    slots: &'a Slots,
    key: Key,
    arrival: u64,
    granted: oneshot::Receiver<()>,
    is_over: bool,
}

impl<'a> Waiting<'a> {
    fn new(slots: &'a Slots, state: &mut State, key: Key) -> Self {
        let (sender, granted) = oneshot::channel();
        let arrival = state.arrivals;
        state.arrivals += 1;
        if !state.waiting.contains_key(&key) {
            state.turns.push_back(key.clone());
        }
        let queue = state.waiting.entry(key.clone()).or_default();
        queue.insert(arrival, sender);
        Self {
            slots,
            key,
            arrival,
            granted,
            is_over: false,
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut state = self.slots.state();
        let Some(queue) = state.waiting.get_mut(&self.key) else {
            state.pass_on();
            return;
        };
        if queue.remove(&self.arrival).is_none() {
            // The slot was granted and never taken.
            state.pass_on();
        } else if queue.is_empty() {
            state.waiting.remove(&self.key);
            state.turns.retain(|key| *key != self.key);
        }
    }
}

#[cfg(test)]
mod tests;
