//! What is counted for each request, without a lock.
//!
//! An operation's counters are found by the address of its name, which costs a few instructions.
//! The same name may have several addresses, and then several rows: they are added up when somebody
//! asks. Each row is divided by threads, so that cores do not take its cache line from one another.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::observe::stats::Row;
use crate::observe::{BindingUsed, Operation, Outcome};

/// Operations are a fixed set, so this is far more than a program has.
const ROWS: usize = 128;

/// Threads share a part if there are more of them.
const PARTS: usize = 8;

/// The counters of all operations.
pub(super) struct HotRows(Box<[OnceLock<Box<HotRow>>; ROWS]>);

pub(super) struct HotRow {
    operation: Operation,
    parts: [Part; PARTS],
}

/// One cache line.
#[derive(Default)]
#[repr(align(64))]
struct Part {
    answered: AtomicU64,
    failed: AtomicU64,
    may_have_been_processed: AtomicU64,
    with_proof: AtomicU64,
    request_bound: AtomicU64,
    reused: AtomicU64,
}

impl HotRows {
    /// The operation's counters; `None` if there are too many operations.
    pub(super) fn row(&self, operation: Operation) -> Option<&HotRow> {
        let name = operation.name().as_ptr().addr();
        // Names in one section lie side by side: the lower bits tell them apart.
        let start = (name ^ (name >> 7)) % ROWS;
        // The usual case.
        if let Some(row) = self.0[start].get()
            && row.is_of(operation)
        {
            return Some(row);
        }
        self.find_or_add(operation, start)
    }

    #[cold]
    fn find_or_add(&self, operation: Operation, start: usize) -> Option<&HotRow> {
        let places = self.0[start..].iter().chain(&self.0[..start]);
        places
            .map(|place| place.get_or_init(|| Box::new(HotRow::new(operation))))
            .find(|row| row.is_of(operation))
            .map(|row| &**row)
    }

    /// Each row that was counted in.
    pub(super) fn rows(&self) -> impl Iterator<Item = (Operation, Row)> {
        let rows = self.0.iter().filter_map(OnceLock::get);
        rows.map(|row| (row.operation, row.sum()))
    }
}

impl Default for HotRows {
    fn default() -> Self {
        Self(Box::new([const { OnceLock::new() }; ROWS]))
    }
}

impl HotRow {
    fn new(operation: Operation) -> Self {
        Self {
            operation,
            parts: Default::default(),
        }
    }

    fn is_of(&self, operation: Operation) -> bool {
        let (own, other) = (self.operation, operation);
        std::ptr::eq(own.name(), other.name())
            && std::ptr::eq(own.protocol().label(), other.protocol().label())
    }

    pub(super) fn finish(&self, binding: BindingUsed, request_bound: bool, outcome: Outcome) {
        let part = self.part();
        add(match outcome {
            Outcome::Answered => &part.answered,
            Outcome::Failed => &part.failed,
            Outcome::MayHaveBeenProcessed => &part.may_have_been_processed,
        });
        if binding != BindingUsed::None {
            add(&part.with_proof);
        }
        if request_bound {
            add(&part.request_bound);
        }
    }

    pub(super) fn reuse(&self) {
        add(&self.part().reused);
    }

    fn part(&self) -> &Part {
        &self.parts[own_part()]
    }

    fn sum(&self) -> Row {
        let mut row = Row::default();
        for part in &self.parts {
            let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
            row.answered += read(&part.answered);
            row.failed += read(&part.failed);
            row.may_have_been_processed += read(&part.may_have_been_processed);
            row.with_proof += read(&part.with_proof);
            row.request_bound += read(&part.request_bound);
            row.reused += read(&part.reused);
        }
        row.requests = row.answered + row.failed + row.may_have_been_processed;
        row
    }
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

/// The part that this thread counts in.
fn own_part() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    OWN.with(|own| {
        if own.get() == usize::MAX {
            own.set(NEXT.fetch_add(1, Ordering::Relaxed) % PARTS);
        }
        own.get()
    })
}

#[cfg(test)]
mod tests;
