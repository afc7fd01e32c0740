//! One request: pick, bind, write, learn; and again where that is safe.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, request};
use hyper::body::Incoming;
use tokio::time::timeout;

use super::Inner;
use super::http1::{assemble, has_waited_too_long, keep_alive, says_close};
use super::plan::{self, Plan};
use super::report::RequestReport;
use super::sending::stalled;
use crate::bind::{Answered, Attachment, Bound, Learned, RequestFacts, ResponseHead};
use crate::body::{Body, DRAIN_BYTES, DRAIN_TIME, ReplayBody, ReplayHandle};
use crate::config::HttpVersions;
use crate::conn::facts::HttpVersion;
use crate::conn::live::Connection;
use crate::conn::unprocessed::Unprocessed;
use crate::error::{BoxError, Error, ErrorKind, Step};
use crate::observe::ConnectionUse;
use crate::pool::{Checkout, Persistence, WriteError};

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
    let (mut parts, body) = request.into_parts();
    let mut report =
        RequestReport::open(&client.pool.connector().observers, plan::operation(&parts));
    let result = match Plan::from_parts(&mut parts, &client.recent_tokens) {
        Ok(plan) => {
            let (body, replay_handle) = ReplayBody::new(body, client.replay_limit);
            let exchange = Exchange {
                client,
                plan: &plan,
                parts: &parts,
                replay_handle,
            };
            exchange.run(body, &mut report).await
        }
        Err(e) => Err(e),
    };
    report.close(&result);
    result
}

struct Exchange<'a> {
    client: &'a Inner,
    plan: &'a Plan,
    parts: &'a request::Parts,
    replay_handle: ReplayHandle,
}

/// How one attempt to send a request ended.
#[allow(
    clippy::large_enum_variant,
    reason = "it lives for one match; a box would cost each request an allocation"
)]
enum Attempt {
    Answered(Response<Body>),
    /// It was never written, or the peer has said that it did not process it (CL-7).
    Unsent {
        body: ReplayBody,
        connection: Arc<Connection>,
        /// Whether it counts as a loss, and not only as an end ([`MAX_LOSSES`]).
        is_loss: bool,
    },
    /// It was written and not answered: it may have been processed (CL-7).
    Unanswered(Error),
    /// The server had given up waiting for a request on this connection, and has not received this
    /// one.
    TimedOut(Response<Body>),
    /// It was refused, and a better proof can be had (CL-5).
    Refused(ReplayBody),
}

/// What the attempts so far have come to.
#[derive(Default)]
struct Attempts {
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
    /// Whatever became of a later attempt, an earlier one may have been processed (CL-7).
    fn give_up(self, error: Error) -> Error {
        if error.may_have_been_processed() {
            return error;
        }
        self.first_unanswered.unwrap_or(error)
    }
}

impl Exchange<'_> {
    async fn run(
        &self,
        body: ReplayBody,
        report: &mut RequestReport<'_>,
    ) -> Result<Response<Body>, Error> {
        let mut attempts = Attempts::default();
        let result = self
            .attempt_until_answered(body, report, &mut attempts)
            .await;
        result.map_err(|error| attempts.give_up(error))
    }

    async fn attempt_until_answered(
        &self,
        mut body: ReplayBody,
        report: &mut RequestReport<'_>,
        attempts: &mut Attempts,
    ) -> Result<Response<Body>, Error> {
        let Inner {
            pool, identities, ..
        } = self.client;
        let plan = self.plan;
        self.client.allow(&plan.origin)?;
        let identity = identities.for_request(plan.token.as_ref(), plan.certificate)?;
        loop {
            let checkout = pool
                .pick(&plan.origin, &identity, plan.token.as_ref())
                .await?;
            let is_retry = attempts.is_retry;
            match self.attempt(checkout, body, is_retry, report).await? {
                Attempt::Answered(response) => return Ok(response),
                Attempt::Refused(replay) => {
                    body = replay;
                    attempts.is_retry = true;
                }
                Attempt::TimedOut(response) => {
                    let may_repeat = plan.is_repeatable && !attempts.has_timed_out;
                    let Some(replayed) = self.replay_handle.replay().filter(|_| may_repeat) else {
                        return Ok(response);
                    };
                    body = replayed;
                    attempts.has_timed_out = true;
                }
                Attempt::Unsent {
                    body: back,
                    connection,
                    is_loss,
                } => {
                    body = back;
                    attempts.ends += 1;
                    attempts.losses += u32::from(is_loss);
                    if attempts.losses == MAX_LOSSES || attempts.ends == MAX_ENDS {
                        let times = match attempts.losses {
                            MAX_LOSSES => MAX_LOSSES,
                            _ => MAX_ENDS,
                        };
                        return Err(self.too_many_losses(&connection, times));
                    }
                }
                Attempt::Unanswered(error) => {
                    let may_repeat = plan.is_repeatable && attempts.first_unanswered.is_none();
                    let Some(replayed) = self.replay_handle.replay().filter(|_| may_repeat) else {
                        return Err(error);
                    };
                    body = replayed;
                    report.may_have_left();
                    attempts.first_unanswered = Some(error);
                }
            }
        }
    }

    fn too_many_losses(&self, lost: &Connection, times: u32) -> Error {
        let why = lost.wire.error().unwrap_or("it gave no reason");
        let message = format!(
            "{} closed its connection, or refused the request, {times} times before the \
             request was processed: {why}",
            self.plan.origin
        );
        Error::new(ErrorKind::ConnectionLost, message)
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

    /// bind, write and learn on one connection.
    async fn attempt(
        &self,
        mut checkout: Checkout,
        body: ReplayBody,
        is_retry: bool,
        report: &mut RequestReport<'_>,
    ) -> Result<Attempt, Error> {
        if self.plan.http2_only && checkout.facts().http() != HttpVersion::H2 {
            checkout.release();
            return Err(self.not_http2());
        }
        let facts = self
            .plan
            .facts(&self.parts.method, &self.parts.uri, is_retry);
        let unsent = |checkout: Checkout, body| {
            let connection = checkout.connection().clone();
            let is_loss = checkout.is_new();
            checkout.release();
            Attempt::Unsent {
                body,
                connection,
                is_loss,
            }
        };
        // It may have ended on its way from the pool: then nothing need be signed for it.
        if checkout.is_closed() {
            return Ok(unsent(checkout, body));
        }
        let attached = match checkout.connection().bound.bind(&facts)? {
            Bound::Nothing => None,
            Bound::Attached(attachment) => Some(attachment),
            Bound::Pending(attachment) => Some(attachment.await?),
            Bound::ConnectionEnded => return Ok(unsent(checkout, body)),
        };
        // Signing takes its time: the connection may have ended meanwhile, and its proof with it.
        if checkout.is_closed() {
            return Ok(unsent(checkout, body));
        }
        let connection = checkout.connection().clone();
        let body = match connection.facts.http() {
            HttpVersion::H1 => body,
            HttpVersion::H2 => body.on(&connection.wire),
        };
        let request = assemble(self.parts, &connection, attached.as_ref(), body);
        let used = checkout.begin();
        report.writing(used, attached.as_ref());
        let timeouts = &self.client.pool.connector().timeouts;
        let response = async {
            tokio::select! {
                biased;
                written = checkout.write(request) => Ok(written),
                error = stalled(&self.replay_handle, &connection, timeouts) => Err(error),
            }
        };
        let written = match timeouts.response {
            None => response.await,
            Some(limit) => timeout(limit, response)
                .await
                .unwrap_or_else(|_| Err(Error::timeout(Step::Response, limit))),
        };
        if let Some(stream) = self.replay_handle.stream() {
            connection.wire.forget_upload(stream);
        }
        let written = written?;
        match written {
            Ok(response) => {
                let is_late = used == ConnectionUse::Reused && has_waited_too_long(&response);
                let attempt = self.learn(checkout, response, &facts, attached.as_ref());
                Ok(match attempt.await? {
                    Attempt::Answered(response) if is_late => Attempt::TimedOut(response),
                    attempt => attempt,
                })
            }
            Err(WriteError::Lost(error)) => {
                let attempt = self.lost(checkout.connection(), used, error, report);
                checkout.broken();
                attempt
            }
            Err(WriteError::Unsent(request)) => {
                report.unsent(attached.as_ref());
                let connection = checkout.connection().clone();
                checkout.broken();
                Ok(Attempt::Unsent {
                    body: request.into_body(),
                    connection,
                    is_loss: used == ConnectionUse::New,
                })
            }
        }
    }

    /// Decides about a request that was written and not answered.
    fn lost(
        &self,
        connection: &Arc<Connection>,
        used: ConnectionUse,
        error: hyper::Error,
        report: &mut RequestReport<'_>,
    ) -> Result<Attempt, Error> {
        let origin = &self.plan.origin;
        if self.replay_handle.failed() {
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
            return match self.replay_handle.replay() {
                Some(body) => Ok(Attempt::Unsent {
                    body,
                    connection: connection.clone(),
                    is_loss,
                }),
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
        Ok(Attempt::Unanswered(error))
    }

    async fn learn(
        &self,
        mut checkout: Checkout,
        response: Response<Incoming>,
        facts: &RequestFacts<'_>,
        attached: Option<&Attachment>,
    ) -> Result<Attempt, Error> {
        let (mut head, incoming) = response.into_parts();
        checkout.head_came(match checkout.facts().http() {
            HttpVersion::H1 => Persistence {
                is_last: says_close(head.version, &head.headers),
                timeout: keep_alive(&head.headers),
                body_sent: self.replay_handle.was_sent(),
            },
            HttpVersion::H2 => Persistence::default(),
        });
        let connection = checkout.connection().clone();
        let learned = connection.bound.learn(&Answered {
            request: facts,
            attached,
            response: &ResponseHead {
                status: head.status,
                headers: &head.headers,
            },
        });
        let body = Body::new(incoming, checkout, self.replay_handle.has_left());
        match learned {
            Learned::Nothing => {}
            Learned::Refused(refusal) => {
                head.extensions.insert(refusal);
            }
            Learned::SendAgain => {
                let may_retry = self.plan.may_retry_on_401 && !facts.is_retry;
                if let Some(replayed) = self.replay_handle.replay().filter(|_| may_retry) {
                    // So that the connection can carry the next attempt.
                    body.drain(DRAIN_BYTES, DRAIN_TIME).await;
                    return Ok(Attempt::Refused(replayed));
                }
            }
        }
        Ok(Attempt::Answered(Response::from_parts(head, body)))
    }
}
