//! The calls of a protocol above HTTP: which operation a method is counted as, and whether the call
//! gets a proof of its own.
//!
//! It knows no protocol: an adapter brings the table of its methods, and says of each message which
//! [`Call`] it is.

use std::collections::BTreeSet;

use http::Extensions;

use bowline_http_client::{Operation, Protocol, RequestBoundProof};

/// The methods of one protocol, each the operation of the same name.
#[derive(Clone, Copy, Debug)]
pub struct Operations {
    protocol: Protocol,
    methods: &'static [&'static str],
}

impl Operations {
    /// A protocol's methods. The table is the whole set of labels: nothing from the wire is added
    /// to it.
    pub const fn new(protocol: Protocol, methods: &'static [&'static str]) -> Self {
        Self { protocol, methods }
    }

    /// The operation of a method; [`other`](Self::other) if the table has none of this name.
    pub fn of(self, method: &str) -> Operation {
        match self.methods.iter().find(|known| **known == method) {
            Some(known) => Operation::new(self.protocol, known),
            None => self.other(),
        }
    }

    /// The operation under which unknown methods are counted.
    pub const fn other(self) -> Operation {
        Operation::new(self.protocol, "other")
    }
}

/// One call of a protocol's method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call<'a> {
    /// The method's name on the wire, whether or not a table has it.
    pub method: &'a str,
    /// What it is applied to, such as the name of a tool; `None` if the method has no such thing.
    pub target: Option<&'a str>,
    /// Whether it may destroy something. `false` for a protocol that says nothing about it.
    pub is_destructive: bool,
}

/// Which calls carry a proof for this one request, with `htm`, `htu` and `jti` (PR-6), whatever the
/// client's [`ProofScope`](bowline_http_client::ProofScope) says: those that must not be repeated even
/// on the same connection (R1).
///
/// The default is none. Each condition adds calls; a call that meets any of them is covered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestBoundCalls {
    methods: BTreeSet<Box<str>>,
    targets: BTreeSet<(Box<str>, Box<str>)>,
    destructive: bool,
}

impl RequestBoundCalls {
    /// No call.
    pub fn none() -> Self {
        Self::default()
    }

    /// Also every call of this method, named as on the wire.
    #[must_use]
    pub fn for_method(mut self, method: impl Into<Box<str>>) -> Self {
        self.methods.insert(method.into());
        self
    }

    /// Also every call of this method that is applied to `target`, both named as on the wire.
    #[must_use]
    pub fn for_target(mut self, method: impl Into<Box<str>>, target: impl Into<Box<str>>) -> Self {
        self.targets.insert((method.into(), target.into()));
        self
    }

    /// Also every call that may destroy something, as far as the protocol says.
    #[must_use]
    pub fn for_destructive(mut self) -> Self {
        self.destructive = true;
        self
    }

    /// Whether it matters if a call is destructive. If not, an adapter need not find out.
    pub fn ask_about_destruction(&self) -> bool {
        self.destructive
    }

    /// Whether this call is one of them.
    pub fn cover(&self, call: &Call<'_>) -> bool {
        (self.destructive && call.is_destructive)
            || self.methods.contains(call.method)
            || call.target.is_some_and(|target| {
                let mut targets = self.targets.iter();
                targets.any(|(method, listed)| **method == *call.method && **listed == *target)
            })
    }

    /// Marks the request that makes this call with [`RequestBoundProof`], if it is one of them.
    pub fn apply_to(&self, call: &Call<'_>, extensions: &mut Extensions) {
        if self.cover(call) {
            extensions.insert(RequestBoundProof);
        }
    }
}

#[cfg(test)]
mod tests;
