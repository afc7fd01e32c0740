//! Requests that wait for a signature on an h1 connection.
//!
//! Such a request has been given a connection, so it is no waiting request to the machine, which
//! would open another one for it. It would rather have one that holds a proof of its token:
//!
//! ```text
//! request 1   A: proved, busy ------------> released
//! request 2   B: free ---> signing (300 ms)   |            (goes on, for later requests)
//!                   seeks, gets A <-----------+  B is released
//! ```
//!
//! Where requests are short, it does not keep its connection meanwhile either. The next one begins
//! the signature that it needs, or waits for the same one, and after one signature's time all of
//! them are served:
//!
//! ```text
//! request 1, token S   B -> signing 300 ms ------> B, 2 ms
//! request 2, token T     B -> signing 300 ms ------> B, 2 ms
//! request 3, token S       B -> waits for S -------> B, 2 ms
//! ```

use std::pin::Pin;
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll, ready};

use bowline_proof::AccessToken;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::checkout::Checkout;
use super::machine::{Event, KeyId, Resend, WaiterId};
use super::opening::signing_takes;
use super::{Pool, State, holds};
use crate::conn::facts::{ConnectionId, HttpVersion};
use crate::error::Error;

/// A request that seeks a connection.
pub(super) struct Seeker {
    waiter: WaiterId,
    key: KeyId,
    token: AccessToken,
    resend: Resend,
    /// The connection that it has given back, and that its proof is made for.
    shares: Option<ConnectionId>,
}

/// Completes with a connection that holds a proof. Dropped, the request seeks no more.
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
        Some(self.add_seeker(self.lock(), instead_of, token, resend, None))
    }

    /// The same for a request that gives its connection back while its proof for that is signed, if those
    /// that do so are soon served one after the other.
    ///
    /// # Errors
    /// The connection, if they are not.
    pub(crate) fn share(
        self: &Arc<Self>,
        own: Checkout,
        token: &AccessToken,
        resend: Resend,
    ) -> Result<Seeking, Checkout> {
        if own.facts().http() != HttpVersion::H1 {
            return Err(own);
        }
        let (key, id) = (own.key(), own.facts().id());
        let mut state = self.lock();
        state.handle(key, Event::ProofsTake(signing_takes(own.facts())));
        let sharing = state.seekers.iter().filter(|s| s.shares == Some(id));
        if !state.machine.can_share(key, sharing.count() + 1) {
            self.wake_reaper_in_time(&mut state);
            self.apply(state, None);
            return Err(own);
        }
        let seeking = self.add_seeker(state, &own, token, resend, Some(id));
        own.release();
        Ok(seeking)
    }

    /// This connection, or one that holds a proof of the token, if that comes free as soon as requests
    /// are expected to end.
    pub(crate) async fn rather_proved(
        self: &Arc<Self>,
        picked: Checkout,
        token: &AccessToken,
        resend: Resend,
    ) -> Checkout {
        if picked.connection().bound.holds(token) {
            return picked;
        }
        let limit = self.lock().machine.longest_request(picked.key());
        let limit = limit.min(self.connector.timeouts.pool);
        let Some(seeking) = self.seek(&picked, token, resend) else {
            return picked;
        };
        match timeout(limit, seeking).await {
            Ok(proved) => {
                picked.release();
                proved
            }
            Err(_) => picked,
        }
    }

    fn add_seeker(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        own: &Checkout,
        token: &AccessToken,
        resend: Resend,
        shares: Option<ConnectionId>,
    ) -> Seeking {
        let (sender, receiver) = oneshot::channel();
        state.last_waiter += 1;
        let waiter = WaiterId(state.last_waiter);
        state.waiters.insert(waiter, sender);
        let seeker = Seeker {
            waiter,
            key: own.key(),
            token: token.clone(),
            resend,
            shares,
        };
        let now = Instant::now();
        // One may have come free since this request got its own.
        match state
            .machine
            .serves(now, own.key(), |id| holds(&state.live, id, token))
        {
            true => state.serve(now, seeker),
            false => state.seekers.push(seeker),
        }
        self.wake_reaper_in_time(&mut state);
        self.apply(state, None);
        Seeking {
            pool: self.clone(),
            waiter,
            receiver,
        }
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
