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
use std::sync::Arc;
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

/// Whether a request keeps its connection while its proof for that is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhileSigning {
    Keep,
    /// If those that wait with it are soon served one after the other.
    Share,
}

impl Pool {
    /// Another connection of the same origin and identity that holds a proof of this token, once one
    /// is free; and the request's own one, if that is not shared meanwhile. `None` on HTTP/2, where one
    /// connection serves all.
    pub(crate) fn seek(
        self: &Arc<Self>,
        own: Checkout,
        token: &AccessToken,
        resend: Resend,
        while_signing: WhileSigning,
    ) -> (Option<Seeking>, Option<Checkout>) {
        if own.facts().http() != HttpVersion::H1 {
            return (None, Some(own));
        }
        let (key, id) = (own.key(), own.facts().id());
        let (sender, receiver) = oneshot::channel();
        let now = Instant::now();
        let mut state = self.lock();
        state.last_waiter += 1;
        let waiter = WaiterId(state.last_waiter);
        state.waiters.insert(waiter, sender);
        let takes = Event::ProofsTake(signing_takes(own.facts()));
        state.handle_at(now, key, takes);
        let sharing = state.seekers.iter().filter(|s| s.shares == Some(id));
        let is_shared = while_signing == WhileSigning::Share
            && state.machine.can_share(key, sharing.count() + 1);
        let seeker = Seeker {
            waiter,
            key,
            token: token.clone(),
            resend,
            shares: is_shared.then_some(id),
        };
        // One may have come free since this request got its own.
        match state
            .machine
            .serves(now, key, |id| holds(&state.live, id, token))
        {
            true => state.serve(now, seeker),
            false => state.seekers.push(seeker),
        }
        self.wake_reaper_in_time(&mut state);
        self.apply(state, None);
        let seeking = Seeking {
            pool: self.clone(),
            waiter,
            receiver,
        };
        let own = match is_shared {
            true => {
                own.release();
                None
            }
            false => Some(own),
        };
        (Some(seeking), own)
    }
}

impl Pool {
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
        match self.seek(picked, token, resend, WhileSigning::Keep) {
            (Some(seeking), Some(picked)) => match timeout(limit, seeking).await {
                Ok(proved) => {
                    picked.release();
                    proved
                }
                Err(_) => picked,
            },
            (_, Some(picked)) => picked,
            (_, None) => unreachable!("it is kept"),
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
