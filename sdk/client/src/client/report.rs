//! Counts each request once.

use crate::bind::Attachment;
use crate::error::Error;
use crate::observe::{BindingUsed, ConnectionUse, Event, Observers, Operation, Outcome};

/// Counts its request when it is closed, or when the request's future is dropped.
pub(super) struct RequestReport<'a> {
    observers: &'a Observers,
    operation: Operation,
    connection: Option<ConnectionUse>,
    binding: BindingUsed,
    request_bound: bool,
    /// Whether it was written, the last time that it was sent.
    written: bool,
    /// Whether an earlier sending was written and not answered: that one may have been processed,
    /// whatever becomes of the later ones (CL-7).
    may_have_left: bool,
    closed: bool,
}

impl<'a> RequestReport<'a> {
    pub(super) fn open(observers: &'a Observers, operation: Operation) -> Self {
        Self {
            observers,
            operation,
            connection: None,
            binding: BindingUsed::None,
            request_bound: false,
            written: false,
            may_have_left: false,
            closed: false,
        }
    }

    pub(super) fn writing(&mut self, used: ConnectionUse, attached: Option<&Attachment>) {
        self.connection = Some(used);
        self.binding = attached.map_or(BindingUsed::None, |attached| attached.used);
        self.request_bound = attached.is_some_and(|attached| attached.request_bound);
        self.written = true;
        if let Some(attached) = attached {
            attached.count_use();
        }
    }

    pub(super) fn unsent(&mut self, attached: Option<&Attachment>) {
        self.written = false;
        if let Some(attached) = attached {
            attached.take_back_use();
        }
    }

    /// It was written, at least in part, and the peer has said that it did not process it.
    pub(super) fn unprocessed(&mut self) {
        self.written = false;
    }

    /// It was written and not answered, and is sent again.
    pub(super) fn may_have_left(&mut self) {
        self.may_have_left = true;
    }

    pub(super) fn close<T>(&mut self, result: &Result<T, Error>) {
        let outcome = match result {
            Ok(_) => Outcome::Answered,
            Err(e) if e.may_have_been_processed() => Outcome::MayHaveBeenProcessed,
            Err(_) => Outcome::Failed,
        };
        self.report(outcome);
    }

    fn report(&mut self, outcome: Outcome) {
        self.closed = true;
        self.observers.emit(&Event::RequestFinished {
            operation: self.operation,
            connection: self.connection,
            binding: self.binding,
            request_bound: self.request_bound,
            outcome,
        });
    }
}

impl Drop for RequestReport<'_> {
    fn drop(&mut self) {
        if !self.closed {
            let outcome = if self.written || self.may_have_left {
                Outcome::MayHaveBeenProcessed
            } else {
                Outcome::Failed
            };
            self.report(outcome);
        }
    }
}
