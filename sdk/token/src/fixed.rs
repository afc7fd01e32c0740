//! One token that never changes.

use bowline_http_client::AccessToken;
use bowline_http_client::bind::TokenSourceId;
use futures_util::future::{BoxFuture, ready};

use crate::source::new_source_id;
use crate::{Clock, Error, ErrorKind, Token, TokenSource};

/// A source that has one token: for tools, tests, and a token that is replaced together with the
/// process.
#[derive(Clone, Debug)]
pub struct Fixed {
    token: Token,
    clock: Clock,
}

impl Fixed {
    /// The source of this token.
    pub fn new(token: AccessToken) -> Self {
        Self {
            token: Token::new(token, new_source_id()),
            clock: Clock::default(),
        }
    }

    /// Asks this clock whether the token has expired.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }
}

impl TokenSource for Fixed {
    fn id(&self) -> TokenSourceId {
        self.token.source()
    }

    /// # Errors
    /// [`ErrorKind::Expired`] if the token is a JWT that has expired. An opaque token is always
    /// given.
    fn token(&self) -> BoxFuture<'_, Result<Token, Error>> {
        let is_expired = self
            .token
            .expires_at()
            .is_some_and(|at| at <= self.clock.now());
        let token = if is_expired {
            Err(Error::new(
                ErrorKind::Expired,
                "the access token has expired, and this source has no other: give a new one, or \
                 use a source that \
                 gets its own",
            ))
        } else {
            Ok(self.token.clone())
        };
        Box::pin(ready(token))
    }

    fn refused(&self, _token: &Token) {}
}
