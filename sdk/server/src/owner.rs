//! Who a connection belongs to, for every quota.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use bowline_proof::Thumbprint;

/// The owner of a connection, or of a request that a trusted proxy attests. Cheap to clone and to
/// compare. [`Owner::of`] names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    /// The SPIFFE ID of the client's certificate.
    Spiffe(Arc<str>),
    /// The subject and the issuer of the client's certificate, as RFC 4514 writes them: a client
    /// with many short-lived certificates is one owner.
    Name { subject: Arc<str>, issuer: Arc<str> },
    /// The client's certificate itself, because it names no owner.
    Certificate(Thumbprint),
    /// Where the connection came from, because it has no certificate.
    Address(AddressPrefix),
    /// Neither a certificate nor an address is known.
    Unknown,
}

/// An IPv4 address, or the /64 of an IPv6 address: every host can have all addresses of its /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum AddressPrefix {
    V4(Ipv4Addr),
    /// With the lower 64 bits cleared.
    V6(Ipv6Addr),
}

impl Owner {
    /// The owner named by a certificate.
    pub(crate) fn of_certificate(
        spiffe_id: Option<&str>,
        subject: &str,
        issuer: &Arc<str>,
        thumbprint: Thumbprint,
    ) -> Self {
        match spiffe_id {
            Some(id) => Self::Spiffe(id.into()),
            None if subject.is_empty() => Self::Certificate(thumbprint),
            None => Self::Name {
                subject: subject.into(),
                issuer: issuer.clone(),
            },
        }
    }

    /// What the owner is named by, for metric labels.
    pub(crate) fn class(&self) -> OwnerClass {
        match self {
            Self::Spiffe(_) => OwnerClass::SpiffeId,
            Self::Name { .. } => OwnerClass::Subject,
            Self::Certificate(_) => OwnerClass::Certificate,
            Self::Address(_) | Self::Unknown => OwnerClass::Address,
        }
    }
}

impl AddressPrefix {
    /// An IPv4-mapped IPv6 address counts as the IPv4 address: otherwise all IPv4 clients of a
    /// socket for both would be one owner.
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => {
                const UPPER_HALF: u128 = !0 << 64;
                Self::V6(Ipv6Addr::from_bits(address.to_bits() & UPPER_HALF))
            }
        }
    }
}

impl fmt::Display for AddressPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(address) => write!(f, "{address}/32"),
            Self::V6(address) => write!(f, "{address}/64"),
        }
    }
}

/// For the log.
impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spiffe(id) => f.write_str(id),
            Self::Name { subject, issuer } => write!(f, "{subject} (issued by {issuer})"),
            Self::Certificate(thumbprint) => write!(f, "certificate {thumbprint}"),
            Self::Address(prefix) => prefix.fmt(f),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// What the owner of a connection is named by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OwnerClass {
    /// The SPIFFE ID of its client certificate.
    SpiffeId,
    /// Subject and issuer of its client certificate.
    Subject,
    /// The thumbprint of its client certificate, which names no subject.
    Certificate,
    /// Its address: it has no client certificate.
    Address,
}

impl OwnerClass {
    /// A short name in snake case, for metric labels.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SpiffeId => "spiffe_id",
            Self::Subject => "subject",
            Self::Certificate => "certificate",
            Self::Address => "address",
        }
    }
}

#[cfg(test)]
mod tests;
