//! The limits on connections, and on what requests make this server do and store.

use std::time::Duration;

/// Limits of the connections of one [`Listener`](crate::Listener). The defaults suit a server whose
/// peers are not fully trusted.
///
/// They bound connections, not requests: the service must bound request bodies itself. Below 80 %
/// of [`max_connections`](Self::max_connections) no owner and no address is limited.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionLimits {
    /// Connections at a time, those in their handshake included. Default: 10,000.
    ///
    /// From 80 % of this on, each new connection takes the place of another one, which is closed:
    /// the idlest one of the owner that holds most. An owner is a SPIFFE ID, else subject and
    /// issuer of the client's certificate, else its thumbprint, else an IPv4 address or the /64 of
    /// an IPv6 address.
    ///
    /// 1. While connections without a client certificate hold more than 20 %, it is the largest
    ///    holder among them.
    /// 2. Otherwise it is the largest holder among the clients of the certification authority
    ///    whose clients hold most.
    ///
    /// A connection with an open request (a silent event stream too), or in its first 10 s, is
    /// never closed for another one. If that leaves none, new connections take the places that are
    /// left, and then they are closed before their handshakes. From 80 % on, an address (or /64)
    /// may also begin 20 handshakes a second only, and 100 at once; further ones are closed.
    pub max_connections: usize,
    /// Handshakes at a time. At the limit the oldest one is cancelled for a new one, if it has
    /// taken more than a second. Default: 4,096.
    pub max_handshakes: usize,
    /// Connections of one owner at a time, whatever the load: a further one takes the place of the
    /// owner's idlest one, or is closed after its handshake. Default: none, because a fleet may
    /// share one identity.
    pub max_connections_per_owner: Option<usize>,
    /// How long a new connection may take until the head of its first request has arrived. Default:
    /// 30 s.
    pub first_request_timeout: Duration,
    /// How long a connection may stay without a request afterwards. Default: 5 minutes, because
    /// each closed connection costs its client a new proof.
    pub idle_timeout: Duration,
    /// How long a peer may take nothing of a response of which a part is ready; then the stream of
    /// HTTP/2 is reset, or the connection closed. Default: 60 s. An event stream with nothing to
    /// say is not limited by it.
    pub stalled_response_timeout: Duration,
    /// How old a connection may become; then it is drained. Default: none, because each closed
    /// connection costs its client a new proof, and client certificates are verified again every
    /// 5 minutes anyway.
    pub max_connection_age: Option<Duration>,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_handshakes: 4096,
            max_connections_per_owner: None,
            first_request_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(300),
            stalled_response_timeout: Duration::from_secs(60),
            max_connection_age: None,
        }
    }
}

/// A limit that was reached: of a [`Listener`](crate::Listener), or of a
/// [`BindingLayer`](crate::BindingLayer) and its validator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// An idle connection was closed, to make room for a new one.
    Evicted,
    /// A new connection was closed before its handshake: all places are taken, and no connection
    /// could be closed for it.
    Full,
    /// A new connection was closed before its handshake: few places are left, and its address
    /// begins too many handshakes.
    HandshakeRate,
    /// A slow handshake was cancelled for a new one, at
    /// [`max_handshakes`](ConnectionLimits::max_handshakes).
    Handshakes,
    /// An owner has [`max_connections_per_owner`](ConnectionLimits::max_connections_per_owner).
    OwnerFull,
    /// No request came in time.
    FirstRequest,
    /// No further request came in time.
    Idle,
    /// A response was reset, because the peer took nothing of it.
    StalledResponse,
    /// A connection was drained for its age.
    Age,
    /// A client presented too many tokens that the authorization server does not know (429).
    InactiveTokens,
    /// There was no room to remember another used proof, or none for another one of this token's
    /// owner (503).
    UsedProofs,
    /// A connection stores as many used `jti` values as it may (401, RS-9).
    JtiQuota,
}

impl Limit {
    /// A short name in snake case, for metric labels.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Evicted => "evicted",
            Self::Full => "full",
            Self::HandshakeRate => "handshake_rate",
            Self::Handshakes => "handshakes",
            Self::OwnerFull => "owner_full",
            Self::FirstRequest => "first_request",
            Self::Idle => "idle",
            Self::StalledResponse => "stalled_response",
            Self::Age => "age",
            Self::InactiveTokens => "inactive_tokens",
            Self::UsedProofs => "used_proofs",
            Self::JtiQuota => "jti_quota",
        }
    }
}
