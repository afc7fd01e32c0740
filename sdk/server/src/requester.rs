//! The party that a request is counted for.

use std::fmt;

use crate::owner::Owner;

/// The party that a request is counted for in every quota: the SPIFFE ID of the client's
/// certificate, else its subject and issuer, else the certificate itself, else the prefix of the
/// client's address.
/// Cheap to clone and to compare.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requester(Owner);

impl Requester {
    pub(crate) fn new(owner: Owner) -> Self {
        Self(owner)
    }
}

/// For the log.
impl fmt::Display for Requester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
