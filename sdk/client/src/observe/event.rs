//! What the client tells the outside: events, and the fixed sets that their labels come from.
//!
//! No event carries a token, a proof or an exporter value (EX-7).

use std::time::Duration;

use crate::conn::facts::{ConnectionFacts, ConnectionId, HttpVersion};

/// Receives every [`Event`], on the task where it happens: be quick, do not block.
pub trait Observer: Send + Sync + 'static {
    /// Called once per event.
    fn event(&self, event: &Event<'_>);
}

/// Something that happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A connection is ready for its first request.
    ConnectionOpened {
        /// The new connection.
        facts: &'a ConnectionFacts,
        /// How long the TLS handshake took; `None` without TLS.
        handshake: Option<Duration>,
    },
    /// A connection has ended, and its proofs with it (CL-4).
    ConnectionClosed {
        /// The connection that ended.
        facts: &'a ConnectionFacts,
        /// Why.
        reason: CloseReason,
        /// How many requests it carried.
        requests: u64,
    },
    /// The key signed a proof.
    ProofMinted {
        /// For which operation.
        operation: Operation,
        /// On which connection.
        connection: ConnectionId,
        /// Which kind of proof.
        kind: ProofKind,
        /// Why it was needed.
        cause: Cause,
        /// With [`Cause::Reconnect`]: why the last connection that carried this token's proof
        /// closed.
        after: Option<CloseReason>,
        /// How long the key took.
        took: Duration,
    },
    /// A request carries a proof that was signed before.
    ProofReused {
        /// For which operation.
        operation: Operation,
        /// On which connection.
        connection: ConnectionId,
    },
    /// The server refused a proof with 401 `use_session_binding` or `invalid_proof`.
    ProofRefused {
        /// For which operation.
        operation: Operation,
        /// On which connection.
        connection: ConnectionId,
    },
    /// A proof was signed and never written: its connection or its request ended first (CL-3).
    ProofAbandoned {
        /// For which operation it was signed.
        operation: Operation,
        /// For which connection.
        connection: ConnectionId,
    },
    /// A proof will not be used again.
    ProofRetired {
        /// The operation it was signed for.
        operation: Operation,
        /// How many requests carried it.
        requests: u64,
    },
    /// A request was answered, or failed.
    RequestFinished {
        /// Which operation.
        operation: Operation,
        /// New or reused connection; `None` where no connection was had.
        connection: Option<ConnectionUse>,
        /// The kind of proof it carried.
        binding: BindingUsed,
        /// Whether the proof held per-request claims (`htm`, `htu`, `jti`).
        request_bound: bool,
        /// How it ended.
        outcome: Outcome,
    },
}

/// What a request is for: put it into the request's extensions to have it counted under its own
/// name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Operation {
    protocol: Protocol,
    name: &'static str,
}

impl Operation {
    /// A request that the caller did not name.
    pub const OTHER: Operation = Operation::new(Protocol::HTTP, "other");

    /// An operation of a fixed set. The name is `'static` so that nothing from the network becomes
    /// a label: code that maps wire names to operations folds unknown ones into `other`.
    pub const fn new(protocol: Protocol, name: &'static str) -> Self {
        Self { protocol, name }
    }

    /// The protocol.
    pub const fn protocol(self) -> Protocol {
        self.protocol
    }

    /// The operation's name, such as `tools/call`.
    pub const fn name(self) -> &'static str {
        self.name
    }
}

/// Defines an enum whose values are metric labels.
macro_rules! labels {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $label:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum $name { $($(#[$vmeta])* $variant,)+ }

        impl $name {
            /// Every value, in declaration order.
            pub const ALL: &[$name] = &[$($name::$variant),+];

            /// The value as a metric label.
            pub const fn label(self) -> &'static str {
                match self { $($name::$variant => $label),+ }
            }
        }
    };
}

/// The protocol that a request speaks above HTTP: a metric label. The client knows only
/// [`Protocol::HTTP`]; each adapter defines a constant for the protocol that it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Protocol(&'static str);

impl Protocol {
    /// No protocol above HTTP.
    pub const HTTP: Protocol = Protocol::new("http");

    /// A protocol, by its label. The label is `'static` so that nothing from the network becomes
    /// one: the set of labels stays fixed.
    pub const fn new(label: &'static str) -> Self {
        Self(label)
    }

    /// The value as a metric label.
    pub const fn label(self) -> &'static str {
        self.0
    }
}

labels! {
    /// The kind of a proof.
    ProofKind {
        /// One per (token, connection), reused (PR-8).
        Connection = "connection",
        /// For one request, with `htm`, `htu` and `jti` (PR-6).
        Request = "request",
        /// RFC 9449.
        Dpop = "dpop",
    }
}

labels! {
    /// Why a proof had to be signed: the first that fits, in this order.
    Cause {
        /// Made ahead, on a connection that is to take over from one that carried the token's
        /// proof.
        Ahead = "ahead",
        /// It replaces a refused proof.
        Challenge = "challenge",
        /// It replaces an over-age proof on the same connection.
        Age = "age",
        /// A proof for this (token, connection) was sent before; the policy asks for another. With
        /// DPoP: one of those that each request needs.
        Scope = "scope",
        /// The last proof of this token's source at this origin used another certificate.
        Identity = "identity",
        /// A successor token of a source that was proved at this origin before.
        Token = "token",
        /// The token is new to this origin.
        First = "first",
        /// Another live connection already holds this token's proof.
        Parallel = "parallel",
        /// All else: the connection that held this token's proof is gone.
        Reconnect = "reconnect",
    }
}

labels! {
    /// Why a connection ended.
    CloseReason {
        /// It was unused for too long.
        Idle = "idle",
        /// It had lived long enough.
        Age = "age",
        /// The peer closed it without a word.
        PeerClosed = "peer_closed",
        /// The peer sent GOAWAY (h2).
        Goaway = "goaway",
        /// A response said `Connection: close` (h1).
        ConnectionClose = "connection_close",
        /// It broke.
        Error = "error",
        /// The caller dropped a response before its end (h1: the connection cannot be used again).
        Cancelled = "cancelled",
        /// Its client certificate has expired.
        Identity = "identity",
        /// The pool let it go, or the client was dropped.
        Evicted = "evicted",
        /// One that was opened ahead took its place, before the peer would have ended it.
        Replaced = "replaced",
    }
}

labels! {
    /// Whether a request opened its connection.
    ConnectionUse {
        /// First request on its connection.
        New = "new",
        /// The connection had carried requests before.
        Reused = "reused",
    }
}

labels! {
    /// The kind of binding that a request carried.
    BindingUsed {
        /// A session-binding proof.
        Session = "session",
        /// A DPoP proof.
        Dpop = "dpop",
        /// No proof.
        None = "none",
    }
}

labels! {
    /// How a request ended.
    Outcome {
        /// The response's head arrived.
        Answered = "answered",
        /// It failed and was not processed.
        Failed = "failed",
        /// It failed and the server may have processed it (CL-7).
        MayHaveBeenProcessed = "may_have_been_processed",
    }
}

impl HttpVersion {
    /// The value as a metric label.
    pub const fn label(self) -> &'static str {
        match self {
            HttpVersion::H1 => "h1",
            HttpVersion::H2 => "h2",
        }
    }
}

/// The observers of a client, in the order in which they are called.
#[derive(Clone)]
pub(crate) struct Observers(pub(crate) std::sync::Arc<[std::sync::Arc<dyn Observer>]>);

impl Observers {
    pub(crate) fn emit(&self, event: &Event<'_>) {
        for observer in self.0.iter() {
            observer.event(event);
        }
    }
}
