//! Which tokens a connection may have a proof of, told without a lock.

use std::sync::atomic::{AtomicU64, Ordering};

use bowline_proof::TokenHash;

/// A set of tokens that only grows and may hold some that were never added (a Bloom filter with one
/// hash). For a request the pool asks every free connection of an origin whether it holds the
/// token's proof; most of those that do not need take no lock to say so.
#[derive(Debug)]
pub(super) struct TokenFilter([AtomicU64; WORDS]);

/// 512 bytes: with a hundred tokens on a connection one question in forty is answered too often
/// with yes.
const WORDS: usize = 64;

impl TokenFilter {
    pub(super) fn new() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }

    pub(super) fn add(&self, token: &TokenHash) {
        let (word, bit) = self.place(token);
        word.fetch_or(bit, Ordering::Release);
    }

    /// `false`: the token was not added.
    pub(super) fn may_hold(&self, token: &TokenHash) -> bool {
        let (word, bit) = self.place(token);
        word.load(Ordering::Acquire) & bit != 0
    }

    /// The hash is SHA-256's: any of its bits will do.
    fn place(&self, token: &TokenHash) -> (&AtomicU64, u64) {
        let [a, b, ..] = *token.as_bytes();
        (&self.0[usize::from(a) % WORDS], 1 << (b % 64))
    }
}

#[cfg(test)]
mod tests {
    use bowline_proof::AccessToken;

    use super::*;

    #[test]
    fn it_holds_what_was_added_and_little_else() {
        let filter = TokenFilter::new();
        let token = |n: usize| AccessToken::new(format!("token-{n}")).unwrap();
        for n in 0..100 {
            filter.add(token(n).hash());
        }
        assert!((0..100).all(|n| filter.may_hold(token(n).hash())));
        let wrong = (100..1100)
            .filter(|n| filter.may_hold(token(*n).hash()))
            .count();
        assert!(wrong < 50, "{wrong} of 1000");
    }
}
