//! What became of each request: which connection it took, and which proof it carried.
//!
//! The client's events name an operation. Each of the workers that send requests has one of its
//! own, and sends one request at a time: so an event tells whose request it is about.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bowline::client::{
    BindingUsed, Cause, CloseReason, ConnectionId, ConnectionUse, Event, HttpVersion, Observer,
    Operation, Presented, Protocol, TlsVersion,
};

/// The operations of the workers, and what was seen of the request that each has under way.
pub(super) struct Tracer {
    operations: Vec<Operation>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    requests: HashMap<Operation, Trace>,
    connections: BTreeMap<ConnectionId, Opened>,
    /// Connections that no request has been seen on.
    fresh: Vec<ConnectionId>,
}

/// How a connection was opened.
#[derive(Clone, Debug)]
pub(super) struct Opened {
    http: HttpVersion,
    tls: Option<(TlsVersion, bool)>,
    certificate: &'static str,
    handshake: Option<Duration>,
}

/// What was seen of one request.
#[derive(Clone, Debug, Default)]
pub(super) struct Trace {
    connection: Option<ConnectionId>,
    opened: Option<Opened>,
    usage: Option<ConnectionUse>,
    binding: Option<BindingUsed>,
    request_bound: bool,
    /// In order: a refused proof is followed by another.
    minted: Vec<(Cause, Option<CloseReason>, Duration)>,
    reused: bool,
    refused: u32,
}

impl Tracer {
    pub(super) fn new(workers: u16) -> Self {
        let operation = |worker| {
            // As many as there are workers, for as long as the process lives.
            let name: &'static str = Box::leak(format!("worker-{worker}").into_boxed_str());
            Operation::new(Protocol::HTTP, name)
        };
        Self {
            operations: (0..workers).map(operation).collect(),
            seen: Mutex::default(),
        }
    }

    pub(super) fn operation(&self, worker: usize) -> Operation {
        self.operations[worker]
    }

    /// What was seen of a worker's last request, which is forgotten.
    pub(super) fn take(&self, worker: usize) -> Trace {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = &mut *seen;
        let mut trace = seen
            .requests
            .remove(&self.operations[worker])
            .unwrap_or_default();
        if trace.connection.is_none() {
            // A request without a proof names no connection; where there is but one, it is that.
            trace.connection = match (trace.usage, seen.fresh.as_slice()) {
                (Some(ConnectionUse::New), [only]) => Some(*only),
                _ => None,
            };
        }
        if let Some(id) = trace.connection {
            seen.fresh.retain(|fresh| *fresh != id);
            trace.opened = seen.connections.get(&id).cloned();
        }
        trace
    }
}

impl Observer for Tracer {
    fn event(&self, event: &Event<'_>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = &mut *seen;
        match *event {
            Event::ConnectionOpened { facts, handshake } => {
                let tls = facts.tls();
                seen.fresh.push(facts.id());
                let opened = Opened {
                    http: facts.http(),
                    tls: tls.map(|tls| (tls.version(), tls.is_resumed())),
                    certificate: match tls.map(|tls| tls.presented()) {
                        None => "no TLS",
                        Some(Presented::Certificate(_)) => "client certificate presented",
                        Some(Presented::NotRequested) => "client certificate not asked for",
                        Some(Presented::Nothing) => "client certificate asked for, none presented",
                    },
                    handshake,
                };
                seen.connections.insert(facts.id(), opened);
            }
            Event::ConnectionClosed { facts, .. } => {
                seen.fresh.retain(|fresh| *fresh != facts.id());
            }
            Event::ProofMinted {
                operation,
                connection,
                cause,
                after,
                took,
                ..
            } => {
                let trace = seen.requests.entry(operation).or_default();
                trace.connection = Some(connection);
                trace.minted.push((cause, after, took));
            }
            Event::ProofReused {
                operation,
                connection,
            } => {
                let trace = seen.requests.entry(operation).or_default();
                trace.connection = Some(connection);
                trace.reused = true;
            }
            Event::ProofRefused { operation, .. } => {
                seen.requests.entry(operation).or_default().refused += 1;
            }
            Event::RequestFinished {
                operation,
                connection,
                binding,
                request_bound,
                ..
            } => {
                let trace = seen.requests.entry(operation).or_default();
                trace.usage = connection;
                trace.binding = Some(binding);
                trace.request_bound = request_bound;
            }
            _ => {}
        }
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("connection ")?;
        if let Some(id) = self.connection {
            write!(f, "{id} ")?;
        }
        match (self.usage, &self.opened) {
            (None, _) => f.write_str("not had")?,
            (Some(ConnectionUse::New), Some(opened)) => write!(f, "{opened}")?,
            (Some(usage), _) => f.write_str(usage.label())?,
        }
        let class = self.binding.map_or("none", BindingUsed::label);
        write!(f, "; class {class}; proof ")?;
        match (self.binding, self.minted.is_empty(), self.reused) {
            (None | Some(BindingUsed::None), true, _) => f.write_str("none"),
            (_, true, true) => f.write_str("reused"),
            // Another request, which wanted the same proof at the same time, had it signed.
            (_, true, false) => f.write_str("shared"),
            (_, false, _) => {
                f.write_str("minted")?;
                for (index, (cause, after, took)) in self.minted.iter().enumerate() {
                    let and = if index == 0 { "" } else { ", then" };
                    write!(f, "{and} (cause {}", cause.label())?;
                    if let Some(after) = after {
                        write!(f, " after {}", after.label())?;
                    }
                    write!(f, ", {})", millis(*took))?;
                }
                Ok(())
            }
        }?;
        if self.request_bound {
            f.write_str(", for this request alone")?;
        }
        match self.refused {
            0 => Ok(()),
            refused => write!(f, ", refused {refused} times"),
        }
    }
}

impl fmt::Display for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_resumed = self.tls.is_some_and(|(_, resumed)| resumed);
        f.write_str(if is_resumed { "resumed" } else { "new" })?;
        write!(f, " ({}, ", self.http.label())?;
        if let Some((version, _)) = self.tls {
            f.write_str(match version {
                TlsVersion::Tls12 => "TLS 1.2, ",
                _ => "TLS 1.3, ",
            })?;
        }
        f.write_str(self.certificate)?;
        if let Some(took) = self.handshake {
            write!(f, ", handshake {}", millis(took))?;
        }
        f.write_str(")")
    }
}

pub(super) fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}
