//! One request's way: pick, bind, write, learn; again where that is safe.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, request};
use hyper::body::Incoming;
use tokio::time::timeout;

use super::Inner;
use super::http1::{assemble, keep_alive, says_close};
use super::plan::{self, Plan};
use super::report::Account;
use crate::bind::{Answer, Attachment, Bound, Learned, RequestFacts};
use crate::body::{Body, DRAIN_BYTES, DRAIN_TIME, Kept, Outgoing};
use crate::config::HttpVersions;
use crate::conn::facts::HttpVersion;
use crate::conn::live::Connection;
use crate::conn::unprocessed::TurnedAway;
use crate::error::{BoxError, Error, ErrorKind, Step};
use crate::observe::ConnectionUse;
use crate::pool::{Checkout, Persistence, WriteError};

/// How often a request may be turned away, unprocessed, before it gives up; a connection that had
/// carried others before and dies does not count.
const MAX_LOSSES: u32 = 3;
pub(super) async fn run<B>(client: &Inner, request: Request<B>) -> Result<Response<Body>, Error>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let (mut parts, body) = request.into_parts();
    let mut account = Account::open(&client.pool.connector().observers, plan::operation(&parts));
    let result = match Plan::of(&mut parts, &client.recent_tokens) {
        Ok(plan) => {
            let (outgoing, kept) = Outgoing::new(body, client.replay_limit);
            let exchange = Exchange {
                client,
                plan: &plan,
                parts: &parts,
                kept,
            };
            exchange.run(outgoing, &mut account).await
        }
        Err(e) => Err(e),
    };
    account.close(&result);
    result
}

struct Exchange<'a> {
    client: &'a Inner,
    plan: &'a Plan,
    parts: &'a request::Parts,
    kept: Kept,
}

/// Where one sending of a request ended.
enum Sent {
    Answered(Response<Body>),
    /// It never left: here is its body (CL-7), and the connection if it had carried nothing before.
    Unsent(Outgoing, Option<Arc<Connection>>),
    /// It left and was not answered: it may have been processed (CL-7).
    Unanswered(Error),
    /// It was refused, a better proof can be had, and here is its body once more (CL-5).
    Again(Outgoing),
}

impl Exchange<'_> {
    async fn run(
        &self,
        body: Outgoing,
        account: &mut Account<'_>,
    ) -> Result<Response<Body>, Error> {
        let mut unanswered = None;
        match self.sendings(body, account, &mut unanswered).await {
            // Whatever became of the second sending, the first may have been processed (CL-7).
            Err(error) if !error.may_have_been_processed() => Err(unanswered.unwrap_or(error)),
            result => result,
        }
    }

    /// As many sendings as it takes; `unanswered` is why one that left was sent again.
    async fn sendings(
        &self,
        mut body: Outgoing,
        account: &mut Account<'_>,
        unanswered: &mut Option<Error>,
    ) -> Result<Response<Body>, Error> {
        let Inner {
            pool, identities, ..
        } = self.client;
        let plan = self.plan;
        self.client.allow(&plan.origin)?;
        let held = identities.for_request(plan.token.as_ref(), plan.certificate)?;
        let mut again = false;
        let mut losses = 0;
        loop {
            let checkout = pool.pick(&plan.origin, &held, plan.token.as_ref()).await?;
            match self.send(checkout, body, again, account).await? {
                Sent::Answered(response) => return Ok(response),
                Sent::Again(copy) => {
                    body = copy;
                    again = true;
                }
                Sent::Unsent(back, lost) => {
                    body = back;
                    losses += u32::from(lost.is_some());
                    if let Some(lost) = lost.filter(|_| losses == MAX_LOSSES) {
                        return Err(self.gave_up(&lost));
                    }
                }
                Sent::Unanswered(error) => {
                    let copy = self.kept.again();
                    let Some(copy) = copy.filter(|_| plan.is_repeatable && unanswered.is_none())
                    else {
                        return Err(error);
                    };
                    body = copy;
                    *unanswered = Some(error);
                }
            }
        }
    }

    fn gave_up(&self, lost: &Connection) -> Error {
        let why = lost.sight.error().unwrap_or("it gave no reason");
        let message = format!(
            "{} closed its connection, or refused the request, {MAX_LOSSES} times before the request was processed: \
             {why}",
            self.plan.origin
        );
        Error::new(ErrorKind::ConnectionLost, message)
    }

    fn not_http2(&self) -> Error {
        let origin = &self.plan.origin;
        let why = match self.client.pool.connector().http {
            HttpVersions::Http1 => "this client offers nothing else (HttpVersions)",
            HttpVersions::Auto if !origin.is_https() => {
                "over plaintext nothing is negotiated, and this client speaks HTTP/1.1 unless it is built for HTTP/2 only \
                 (HttpVersions)"
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
    async fn send(
        &self,
        mut checkout: Checkout,
        body: Outgoing,
        again: bool,
        account: &mut Account<'_>,
    ) -> Result<Sent, Error> {
        if self.plan.http2_only && checkout.facts().http() != HttpVersion::H2 {
            return Err(self.not_http2());
        }
        let facts = self.plan.facts(&self.parts.method, &self.parts.uri, again);
        let unsent = |body| {
            Sent::Unsent(
                body,
                checkout.is_new().then(|| checkout.connection().clone()),
            )
        };
        // It may have died on its way from the pool: nothing need be signed for it.
        if checkout.is_closed() {
            return Ok(unsent(body));
        }
        let attached = match checkout.connection().bound.bind(&facts)? {
            Bound::Nothing => None,
            Bound::Attached(attachment) => Some(attachment),
            Bound::Pending(attachment) => Some(attachment.await?),
            Bound::ConnectionEnded => return Ok(unsent(body)),
        };
        // Signing takes its time: the connection may have died meanwhile, and its proof with it.
        if checkout.is_closed() {
            return Ok(unsent(body));
        }
        let request = assemble(self.parts, checkout.connection(), attached.as_ref(), body);
        let used = checkout.begin();
        account.writing(used, attached.as_ref());
        let response = match self.write(&mut checkout, request).await {
            Ok(response) => response,
            Err(Failed::Final(error)) => return Err(error),
            Err(Failed::Lost(error)) => return self.lost(&checkout, used, error, account),
            Err(Failed::Unsent(request)) => {
                account.unsent(attached.as_ref());
                let lost = (used == ConnectionUse::New).then(|| checkout.connection().clone());
                return Ok(Sent::Unsent(request.into_body(), lost));
            }
        };
        self.learn(checkout, response, &facts, attached.as_ref())
            .await
    }

    async fn write(
        &self,
        checkout: &mut Checkout,
        request: Request<Outgoing>,
    ) -> Result<Response<Incoming>, Failed> {
        let answer = checkout.write(request);
        let answered = match self.client.pool.connector().timeouts.response {
            None => answer.await,
            Some(limit) => match timeout(limit, answer).await {
                Ok(answered) => answered,
                Err(_) => return Err(Failed::Final(Error::timeout(Step::Response, limit))),
            },
        };
        answered.map_err(|e| match e {
            WriteError::Unsent(request) => Failed::Unsent(request),
            WriteError::Lost(e) => Failed::Lost(e),
        })
    }

    /// What becomes of a request that left and was not answered.
    fn lost(
        &self,
        checkout: &Checkout,
        used: ConnectionUse,
        error: hyper::Error,
        account: &mut Account<'_>,
    ) -> Result<Sent, Error> {
        let origin = &self.plan.origin;
        if self.kept.failed() {
            let message = "the request's body failed while it was sent";
            return Err(Error::with_source(ErrorKind::RequestBody, message, error));
        }
        if error.is_parse() {
            let message = format!("{origin} answered with something else than HTTP");
            return Err(Error::with_source(ErrorKind::Protocol, message, error));
        }
        if let Some(turned_away) = TurnedAway::by(&error) {
            account.unprocessed();
            // A connection that had served others before has not failed this request by going away.
            let counts = used == ConnectionUse::New || turned_away == TurnedAway::RefusedStream;
            let lost = counts.then(|| checkout.connection().clone());
            return match self.kept.again() {
                Some(copy) => Ok(Sent::Unsent(copy, lost)),
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
        let message = format!(
            "the connection to {origin} ended before the answer; the request may have been processed"
        );
        let error = Error::with_source(ErrorKind::MayHaveBeenProcessed, message, error);
        Ok(Sent::Unanswered(error))
    }

    async fn learn(
        &self,
        mut checkout: Checkout,
        response: Response<Incoming>,
        facts: &RequestFacts<'_>,
        attached: Option<&Attachment>,
    ) -> Result<Sent, Error> {
        let (mut head, incoming) = response.into_parts();
        checkout.answered(match checkout.facts().http() {
            HttpVersion::H1 => Persistence {
                is_last: says_close(head.version, &head.headers),
                timeout: keep_alive(&head.headers),
                body_sent: self.kept.was_sent(),
            },
            HttpVersion::H2 => Persistence::default(),
        });
        let answer = Answer {
            status: head.status,
            headers: &head.headers,
        };
        let connection = checkout.connection().clone();
        let learned = connection.bound.learn(facts, attached, &answer);
        let body = Body::new(incoming, checkout, self.kept.has_left());
        match learned {
            Learned::Nothing => {}
            Learned::Refused(refusal) => {
                head.extensions.insert(refusal);
            }
            Learned::SendAgain => {
                if let Some(copy) = self.kept.again().filter(|_| !facts.again) {
                    // For the connection's sake: what it refused with does not matter any more.
                    body.drain(DRAIN_BYTES, DRAIN_TIME).await;
                    return Ok(Sent::Again(copy));
                }
            }
        }
        Ok(Sent::Answered(Response::from_parts(head, body)))
    }
}

enum Failed {
    Unsent(Box<Request<Outgoing>>),
    Lost(hyper::Error),
    Final(Error),
}
