//! What a connection hands to its successor.

use std::time::SystemTime;

use bowline_proof::{Thumbprint, TokenHash};

use crate::bind::TokenSourceId;
use crate::observe::Operation;

/// The tokens that were lately in use on a connection, for the one that takes over from it.
#[derive(Clone, Debug, Default)]
pub struct TokensInUse {
    /// The certificate of the connection.
    pub(crate) certificate: Option<Thumbprint>,
    /// The last used first.
    pub(crate) tokens: Vec<TokenInUse>,
}

/// So many proofs are made ahead at most (CL-3).
pub(crate) const MOST_AHEAD: usize = 8;

#[derive(Clone, Debug)]
pub(crate) struct TokenInUse {
    pub(crate) token: TokenHash,
    pub(crate) source: Option<TokenSourceId>,
    pub(crate) operation: Operation,
    /// `None`: it does not say.
    pub(crate) expires_at: Option<SystemTime>,
}
