//! Requests that wait for a signature on an h1 connection, and would rather have another one that
//! holds a proof of their token.
//!
//! Such a request has a connection, so it is no waiting request to the machine, which would open
//! another one for it:
//!
//! ```text
//! request 1   A: proved, busy ------------> released
//! request 2   B: free ---> signing (300 ms)   |            (goes on, for later requests)
//!                   seeks, gets A <-----------+  B is released
//! ```

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bowline_proof::AccessToken;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::checkout::Checkout;
use super::machine::{Event, KeyId, Resend, WaiterId};
use super::{Pool, State, holds};
use crate::conn::facts::{ConnectionId, HttpVersion};
use crate::error::Error;

/// A request that seeks a connection.
pub(super) struct Seeker {
    waiter: WaiterId,
    key: KeyId,
    token: AccessToken,
    resend: Resend,
}

/// Completes with a connection. Dropped, the request seeks no more.
pub(crate) struct Seeking {
    pool: Arc<Pool>,
    waiter: WaiterId,
    receiver: oneshot::Receiver<Result<Checkout, Error>>,
}

impl Pool {
    /// Another connection of the same origin and identity that holds a proof of this token, once one
    /// is free. `None` on HTTP/2, where one connection serves all.
    pub(crate) fn seek(
        self: &Arc<Self>,
        instead_of: &Checkout,
        token: &AccessToken,
        resend: Resend,
    ) -> Option<Seeking> {
        if instead_of.facts().http() != HttpVersion::H1 {
            return None;
        }
        let key = instead_of.key();
        let (sender, receiver) = oneshot::channel();
        let mut state = self.lock();
        state.last_waiter += 1;
        let waiter = WaiterId(state.last_waiter);
        state.waiters.insert(waiter, sender);
        let seeker = Seeker {
            waiter,
            key,
            token: token.clone(),
            resend,
        };
        let now = Instant::now();
        // One may have come free since this request got its own.
        match state
            .machine
            .serves(now, key, |id| holds(&state.live, id, token))
        {
            true => state.serve(now, seeker),
            false => state.seekers.push(seeker),
        }
        self.apply(state, None);
        Some(Seeking {
            pool: self.clone(),
            waiter,
            receiver,
        })
    }
}

impl State {
    /// An h1 connection takes requests now: the first seeker whose token it holds gets it.
    pub(super) fn offer(&mut self, now: Instant, key: KeyId, id: ConnectionId) {
        if self.seekers.is_empty() || !self.machine.serves(now, key, |free| free == id) {
            return;
        }
        let first = self
            .seekers
            .iter()
            .position(|seeker| seeker.key == key && holds(&self.live, id, &seeker.token));
        if let Some(first) = first {
            let seeker = self.seekers.remove(first);
            self.serve(now, seeker);
        }
    }

    fn serve(&mut self, now: Instant, seeker: Seeker) {
        let live = &self.live;
        let holds = |id| holds(live, id, &seeker.token);
        let wanted = Event::Wanted(seeker.waiter, seeker.resend);
        let actions = &mut self.actions;
        self.machine.handle(now, seeker.key, wanted, holds, actions);
    }
}

impl Future for Seeking {
    type Output = Checkout;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Checkout> {
        match ready!(Pin::new(&mut self.receiver).poll(cx)) {
            Ok(Ok(checkout)) => Poll::Ready(checkout),
            // The client was shut down: the signature decides.
            Ok(Err(_)) | Err(_) => Poll::Pending,
        }
    }
}

impl Drop for Seeking {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        state.waiters.remove(&self.waiter);
        state.seekers.retain(|seeker| seeker.waiter != self.waiter);
    }
}
