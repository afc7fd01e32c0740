//! What an origin wants to see repeated in the next proof (RFC 9449 §8.2): its newest nonce, and no
//! other.

use std::sync::{Mutex, PoisonError};

use bowline_proof::dpop::Nonce;
use http::HeaderMap;

/// The newest nonce of one origin. "Newest" is by arrival: where responses overtake each other it
/// may be an older one, and the server's next answer puts that right (§8).
#[derive(Default)]
pub(super) struct Nonces(Mutex<Option<Nonce>>);

impl Nonces {
    pub(super) fn newest(&self) -> Option<Nonce> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Takes note of the nonce of a response, if it brings one.
    pub(super) fn learn(&self, headers: &HeaderMap) -> Option<Nonce> {
        let nonce = Nonce::from_response(headers)?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(nonce.clone());
        Some(nonce)
    }
}
