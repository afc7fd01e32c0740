//! One request: pick, bind, write, learn; and again where that is safe.
//!
//! Nearly every request needs one attempt, on a connection that is open and has its proof. So what
//! is only needed otherwise is in functions of its own, which are not part of the request's future.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bowline_proof::AccessToken;
use bytes::Bytes;
use futures_util::future::{BoxFuture, Either, select};
use http::{Request, Response, request};
use hyper::body::Incoming;
use tokio::time::{sleep, timeout};

use super::Inner;
use super::http1::{assemble, has_waited_too_long, persistence};
use super::plan::{self, Plan};
use super::report::RequestReport;
use super::sending::stalled;
use crate::bind::{Answered, Attachment, Bound, Learned, RequestFacts, ResponseHead};
use crate::body::{Body, DRAIN_BYTES, DRAIN_TIME, ReplayBody, ReplayHandle};
use crate::config::HttpVersions;
use crate::conn::facts::{ConnectionId, HttpVersion};
use crate::conn::identities::IdentityConfig;
use crate::conn::live::Connection;
use crate::conn::unprocessed::Unprocessed;
use crate::error::{BoxError, Error, ErrorKind, Step};
use crate::observe::ConnectionUse;
use crate::pool::{Checkout, Persistence, Seeking, WriteError};

/// How often a request may be refused unprocessed before it fails. The end of a connection that had
/// carried other requests does not count here, but against [`MAX_ENDS`].
const MAX_LOSSES: u32 = 3;

/// How often in all a request may be turned away unprocessed. A peer that answers the first stream
/// of each connection and refuses the others could otherwise let a request that is never the first
/// go round without end.
const MAX_ENDS: u32 = 64;

pub(super) async fn run<B>(client: &Inner, request: Request<B>) -> Result<Response<Body>, Error>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let (parts, body) = request.into_parts();
    let (body, replay) = ReplayBody::new(body, client.replay_limit);
    send(client, parts, body, replay).await
}

async fn send(
    client: &Inner,
    mut parts: request::Parts,
    body: ReplayBody,
    replay: ReplayHandle,
) -> Result<Response<Body>, Error> {
    // Most requests have nothing else in their extensions.
    let token = parts.extensions.remove();
    let mut report =
        RequestReport::open(&client.pool.connector().observers, plan::operation(&parts));
    let result = match Plan::from_parts(&mut parts, token, client) {
        Ok(plan) => {
            let exchange = Exchange {
                client,
                plan,
                parts,
            };
            let mut attempts = Attempts::new(replay);
            let mut result = exchange.run(body, &mut report, &mut attempts).await;
            if let Err(error) = &mut result {
                attempts.give_up(error);
            }
            result
        }
        Err(e) => Err(e),
    };
    report.close(&result);
    result
}

/// What stays the same in all attempts.
struct Exchange<'a> {
    client: &'a Inner,
    plan: Plan,
    /// The request's head, as [`Plan::from_parts`] has left it. It survives each attempt, because
    /// hyper returns a request only if it was not written.
    parts: request::Parts,
}

/// What the attempts so far have come to.
struct Attempts {
    replay: ReplayHandle,
    losses: u32,
    /// How often it was turned away, the losses included.
    ends: u32,
    /// Why the attempt failed that was written and was repeated all the same.
    first_unanswered: Option<Error>,
    /// Whether the next attempt follows a refusal.
    is_retry: bool,
    /// Whether one was answered with 408 because its connection had waited for too long.
    has_timed_out: bool,
}

impl Attempts {
    fn new(replay: ReplayHandle) -> Self {
        Self {
            replay,
            losses: 0,
            ends: 0,
            first_unanswered: None,
            is_retry: false,
            has_timed_out: false,
        }
    }

    /// Whatever became of a later attempt, an earlier one may have been processed (CL-7).
    fn give_up(&mut self, error: &mut Error) {
        if !error.may_have_been_processed()
            && let Some(first) = self.first_unanswered.take()
        {
            *error = first;
        }
    }
}

/// Where a request goes that waited for a proof.
enum Proved {
    /// To the connection that the proof is for.
    Here(Checkout, Attachment),
    /// To this connection, which may have one.
    Elsewhere(Checkout),
}

/// A request whose proof is being signed.
struct Proving<'a> {
    /// The connection that it was given.
    own: Checkout,
    proof: BoxFuture<'static, Result<Attachment, Error>>,
    identity: &'a Arc<IdentityConfig>,
    /// Whether it may give that connection back meanwhile.
    may_share: bool,
}

/// What became of a request that was not answered, or was not written.
struct NotAnswered<'a> {
    connection: &'a Arc<Connection>,
    used: ConnectionUse,
    attached: Option<&'a Attachment>,
}

impl Exchange<'_> {
    async fn run(
        &self,
        mut body: ReplayBody,
        report: &mut RequestReport<'_>,
        attempts: &mut Attempts,
    ) -> Result<Response<Body>, Error> {
        let Self { client, plan, .. } = self;
        client.allow(&plan.origin)?;
        let token = plan.token.as_ref();
        let identity = client.identities.for_request(token, plan.certificate)?;
        let mut switched = None;
        // Once: a request must not wait for one signature after the other.
        let mut may_share = true;
        loop {
            let mut checkout = match switched.take() {
                Some(checkout) => checkout,
                None => {
                    let pool = &client.pool;
                    pool.pick(&plan.origin, &identity, token, plan.resend())
                        .await?
                }
            };
            let connection = checkout.connection().clone();
            if plan.http2_only && connection.facts.http() != HttpVersion::H2 {
                checkout.release();
                return Err(self.not_http2());
            }
            let facts = plan.facts(&self.parts.method, &self.parts.uri, attempts.is_retry);
            let Some(bound) = bind(&checkout, &facts)? else {
                body = self.never_written(checkout, body, attempts)?;
                continue;
            };
            let is_shared = matches!(bound, Bound::Shared(_));
            let attached = match bound {
                Bound::Attached(attachment) => Some(attachment),
                Bound::Pending(proof) | Bound::Shared(proof) => {
                    let token = token.filter(|_| is_shared);
                    let proving = Proving {
                        own: checkout,
                        proof,
                        identity: &identity,
                        may_share,
                    };
                    may_share = false;
                    match Box::pin(self.prove_or_switch(proving, token)).await? {
                        // Signing takes its time: the connection may have ended meanwhile, and its
                        // proof with it.
                        Proved::Here(own, _) if own.is_closed() => {
                            body = self.never_written(own, body, attempts)?;
                            continue;
                        }
                        Proved::Here(own, attachment) => {
                            checkout = own;
                            Some(attachment)
                        }
                        Proved::Elsewhere(other) => {
                            switched = Some(other);
                            continue;
                        }
                    }
                }
                Bound::Nothing | Bound::ConnectionEnded => None,
            };
            let attached = attached.as_ref();
            let authorization = plan.authorization();
            let request = assemble(&self.parts, authorization, &connection, attached, body);
            let used = checkout.begin();
            report.writing(used, attached);
            let written = self.write(&mut checkout, &connection, request, attempts);
            let response = match written.await? {
                Ok(response) => response,
                Err(error) => {
                    let attempt = NotAnswered {
                        connection: &connection,
                        used,
                        attached,
                    };
                    let next = self.not_answered(error, attempt, report, attempts);
                    checkout.broken();
                    body = next?;
                    // A peer that refuses a stream has sent its SETTINGS before. The pool must know
                    // them, or it would assign the same connection to the next attempt.
                    if connection.facts.http() == HttpVersion::H2
                        && !connection.wire.are_settings_acked()
                    {
                        let limit = client.pool.connector().timeouts.pool;
                        let known = timeout(limit, connection.wire.settings_acked());
                        let _ = Box::pin(known).await;
                    }
                    continue;
                }
            };
            let is_late = used == ConnectionUse::Reused && has_waited_too_long(&response);
            let (mut response, learned) =
                learn(checkout, &connection, response, &facts, attached, attempts);
            match learned {
                Learned::Nothing => {}
                Learned::Refused(refusal) => {
                    response.extensions_mut().insert(refusal);
                }
                Learned::SendAgain => {
                    let may_retry = plan.may_retry_on_401 && !attempts.is_retry;
                    if may_retry && let Some(replayed) = attempts.replay.replay() {
                        body = replayed;
                        attempts.is_retry = true;
                        // So that the connection can carry the next attempt.
                        let refused = response.into_body();
                        Box::pin(refused.drain(DRAIN_BYTES, DRAIN_TIME)).await;
                        continue;
                    }
                }
            }
            if is_late && let Some(replayed) = self.after_late_answer(attempts) {
                body = replayed;
                continue;
            }
            return Ok(response);
        }
    }

    /// Waits for the proof that is being signed for this connection, which with a key in an HSM takes
    /// as long as hundreds of requests. On HTTP/1.1 another connection that has one may come free
    /// before that; `token` is given if the proof is not for this request alone.
    async fn prove_or_switch(
        &self,
        proving: Proving<'_>,
        token: Option<&AccessToken>,
    ) -> Result<Proved, Error> {
        let Proving {
            own,
            proof,
            identity,
            may_share,
        } = proving;
        let Some(token) = token else {
            return Ok(Proved::Here(own, proof.await?));
        };
        let (pool, resend) = (&self.client.pool, self.plan.resend());
        let id = own.facts().id();
        let own = match may_share {
            true => match pool.share(own, token, resend) {
                Ok(elsewhere) => {
                    let shared = self.prove_or_switch_shared(id, elsewhere, proof, identity, token);
                    return shared.await;
                }
                Err(own) => own,
            },
            false => own,
        };
        let Some(elsewhere) = pool.seek(&own, token, resend) else {
            return Ok(Proved::Here(own, proof.await?));
        };
        match select(proof, elsewhere).await {
            Either::Left((proof, _)) => Ok(Proved::Here(own, proof?)),
            Either::Right((other, _)) => {
                own.release();
                Ok(Proved::Elsewhere(other))
            }
        }
    }

    /// The same for a request that has given its connection, `proved`, back meanwhile.
    async fn prove_or_switch_shared(
        &self,
        proved: ConnectionId,
        elsewhere: Seeking,
        proof: BoxFuture<'static, Result<Attachment, Error>>,
        identity: &Arc<IdentityConfig>,
        token: &AccessToken,
    ) -> Result<Proved, Error> {
        let attachment = match select(proof, elsewhere).await {
            Either::Left((proof, _)) => proof?,
            Either::Right((other, _)) => return Ok(Proved::Elsewhere(other)),
        };
        // Others had the connection meanwhile. If it is free, the pool gives this one, because it holds
        // the proof. If not, it is sooner free than another signature is made.
        let (pool, resend) = (&self.client.pool, self.plan.resend());
        let origin = &self.plan.origin;
        let picked = pool.pick(origin, identity, Some(token), resend).await?;
        let picked = pool.rather_proved(picked, token, resend).await;
        match picked.facts().id() == proved {
            true => Ok(Proved::Here(picked, attachment)),
            false => Ok(Proved::Elsewhere(picked)),
        }
    }

    /// Writes the request and waits for the response's head. The outer error is a limit that has
    /// passed.
    async fn write(
        &self,
        checkout: &mut Checkout,
        connection: &Arc<Connection>,
        request: Request<ReplayBody>,
        attempts: &Attempts,
    ) -> Result<Result<Response<Incoming>, WriteError>, Error> {
        let timeouts = &self.client.pool.connector().timeouts;
        let replay = &attempts.replay;
        let unfinished = match connection.facts.http() {
            HttpVersion::H1 => None,
            HttpVersion::H2 => Some(connection.wire.uploads.add(replay.upload().clone())),
        };
        let mut stalled = pin!(
            unfinished
                .is_some()
                .then(|| stalled(replay, connection, timeouts))
        );
        let mut limit = pin!(timeouts.response.map(sleep));
        let mut written = pin!(checkout.write(request));
        poll_fn(|cx| {
            if let Poll::Ready(written) = written.as_mut().poll(cx) {
                return Poll::Ready(Ok(written));
            }
            if let Some(stalled) = stalled.as_mut().as_pin_mut()
                && let Poll::Ready(error) = stalled.poll(cx)
            {
                return Poll::Ready(Err(error));
            }
            if let Some(passed) = limit.as_mut().as_pin_mut()
                && passed.poll(cx).is_ready()
            {
                let limit = timeouts.response.unwrap_or_default();
                return Poll::Ready(Err(Error::timeout(Step::Response, limit)));
            }
            Poll::Pending
        })
        .await
    }

    /// The server had given up waiting for a request on this connection, and has not received this
    /// one: the body of another attempt, if there may be one.
    fn after_late_answer(&self, attempts: &mut Attempts) -> Option<ReplayBody> {
        if !self.plan.is_repeatable || attempts.has_timed_out {
            return None;
        }
        let replayed = attempts.replay.replay()?;
        attempts.has_timed_out = true;
        Some(replayed)
    }

    /// The connection had ended before the request was written.
    fn never_written(
        &self,
        checkout: Checkout,
        body: ReplayBody,
        attempts: &mut Attempts,
    ) -> Result<ReplayBody, Error> {
        let connection = checkout.connection().clone();
        let is_loss = checkout.is_new();
        checkout.release();
        self.unsent(body, &connection, is_loss, attempts)
    }

    /// It was never written, or the peer has said that it did not process it (CL-7). `is_loss`:
    /// whether it counts as a loss, and not only as an end ([`MAX_LOSSES`]).
    fn unsent(
        &self,
        body: ReplayBody,
        lost: &Connection,
        is_loss: bool,
        attempts: &mut Attempts,
    ) -> Result<ReplayBody, Error> {
        attempts.ends += 1;
        attempts.losses += u32::from(is_loss);
        let times = match (attempts.losses, attempts.ends) {
            (MAX_LOSSES, _) => MAX_LOSSES,
            (_, MAX_ENDS) => MAX_ENDS,
            _ => return Ok(body),
        };
        let why = lost.wire.error().unwrap_or("it gave no reason");
        let message = format!(
            "{} closed its connection, or refused the request, {times} times before the \
             request was processed: {why}",
            self.plan.origin
        );
        Err(Error::new(ErrorKind::ConnectionLost, message))
    }

    fn not_http2(&self) -> Error {
        let origin = &self.plan.origin;
        let why = match self.client.pool.connector().http {
            HttpVersions::Http1 => "this client offers nothing else (HttpVersions)",
            HttpVersions::Auto if !origin.is_https() => {
                "over plaintext nothing is negotiated, and this client speaks HTTP/1.1 unless it is \
                 built for HTTP/2 only (HttpVersions)"
            }
            HttpVersions::Auto | HttpVersions::Http2 => {
                "the server, or what terminates TLS in front of it, did not choose h2 by ALPN"
            }
        };
        let message =
            format!("the request needs HTTP/2, and the connection to {origin} is HTTP/1.1: {why}");
        Error::new(ErrorKind::HttpVersion, message)
    }

    /// Decides about a request that was not answered: its body, if it is to be sent again.
    #[cold]
    fn not_answered(
        &self,
        error: WriteError,
        attempt: NotAnswered<'_>,
        report: &mut RequestReport<'_>,
        attempts: &mut Attempts,
    ) -> Result<ReplayBody, Error> {
        let NotAnswered {
            connection,
            used,
            attached,
        } = attempt;
        match error {
            WriteError::Unsent(request) => {
                report.unsent(attached);
                let is_loss = used == ConnectionUse::New;
                self.unsent(request.into_body(), connection, is_loss, attempts)
            }
            WriteError::Lost(error) => self.lost(connection, used, error, report, attempts),
        }
    }

    /// Decides about a request that was written and not answered.
    fn lost(
        &self,
        connection: &Arc<Connection>,
        used: ConnectionUse,
        error: hyper::Error,
        report: &mut RequestReport<'_>,
        attempts: &mut Attempts,
    ) -> Result<ReplayBody, Error> {
        let origin = &self.plan.origin;
        if connection.wire.has_stalled() {
            let limit = self.client.pool.connector().timeouts.request_body;
            return Err(Error::timeout(Step::RequestBody, limit));
        }
        if attempts.replay.failed() {
            let message = "the request's body failed while it was sent";
            return Err(Error::with_source(ErrorKind::RequestBody, message, error));
        }
        if error.is_parse() {
            let message = format!("{origin} answered with something else than HTTP");
            return Err(Error::with_source(ErrorKind::Protocol, message, error));
        }
        if let Some(unprocessed) = Unprocessed::from_error(&error) {
            report.unprocessed();
            // The end of a connection that had carried other requests is no loss.
            let is_loss = used == ConnectionUse::New || unprocessed == Unprocessed::RefusedStream;
            return match attempts.replay.replay() {
                Some(body) => self.unsent(body, connection, is_loss, attempts),
                None => {
                    let message = format!(
                        "{origin} refused the request unprocessed, and its body cannot be sent again"
                    );
                    Err(Error::with_source(
                        ErrorKind::ConnectionLost,
                        message,
                        error,
                    ))
                }
            };
        }
        let why = if connection.wire.is_peer_dead() {
            let limit = self.client.pool.connector().timeouts.dead_peer;
            format!(" because the peer acknowledged nothing for {limit:?} (limit `dead_peer`)")
        } else {
            String::new()
        };
        let message = format!(
            "the connection to {origin} ended before the answer{why}; the request may have been \
             processed"
        );
        let error = Error::with_source(ErrorKind::MayHaveBeenProcessed, message, error);
        // It may have been processed (CL-7).
        let may_repeat = self.plan.is_repeatable && attempts.first_unanswered.is_none();
        if may_repeat && let Some(replayed) = attempts.replay.replay() {
            report.may_have_left();
            attempts.first_unanswered = Some(error);
            return Ok(replayed);
        }
        Err(error)
    }
}

/// What the connection's binding does about the request; `None` if the connection has ended.
#[inline]
fn bind(checkout: &Checkout, facts: &RequestFacts<'_>) -> Result<Option<Bound>, Error> {
    // It may have ended on its way from the pool: then nothing need be signed for it.
    if checkout.is_closed() {
        return Ok(None);
    }
    match checkout.connection().bound.bind(facts)? {
        Bound::ConnectionEnded => Ok(None),
        bound => Ok(Some(bound)),
    }
}

/// Reads the head of the response, and gives it the body that gives the connection back.
fn learn(
    mut checkout: Checkout,
    connection: &Connection,
    response: Response<Incoming>,
    facts: &RequestFacts<'_>,
    attached: Option<&Attachment>,
    attempts: &Attempts,
) -> (Response<Body>, Learned) {
    let (status, headers) = (response.status(), response.headers());
    checkout.head_came(match connection.facts.http() {
        HttpVersion::H1 => persistence(response.version(), headers, attempts.replay.was_sent()),
        HttpVersion::H2 => Persistence::default(),
    });
    let learned = connection.bound.learn(&Answered {
        request: facts,
        attached,
        response: &ResponseHead { status, headers },
    });
    let request_sent = attempts.replay.has_left();
    (
        response.map(|incoming| Body::new(incoming, checkout, request_sent)),
        learned,
    )
}
