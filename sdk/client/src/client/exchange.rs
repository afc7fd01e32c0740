//! One request's way: pick, bind, write, learn; again where that is safe.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, Response, Uri, Version, header, request};
use hyper::body::Incoming;
use tokio::time::timeout;

use super::plan::{self, Plan};
use super::{HttpVersions, Inner};
use crate::bind::{Answer, Attachment, Bound, Learned, RequestFacts};
use crate::body::{Body, Kept, Outgoing};
use crate::connection::HttpVersion;
use crate::error::{BoxError, Error, ErrorKind, Step};
use crate::observe::{BindingUsed, ConnectionUse, Event, Observers, Operation, Outcome};
use crate::pool::{Checkout, Connection, Persistence, WriteError};

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
                    body.drain().await;
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

/// How a peer says that it did nothing about a request (RFC 9113 §8.7).
#[derive(Clone, Copy, PartialEq, Eq)]
enum TurnedAway {
    /// It reset the stream with REFUSED_STREAM.
    RefusedStream,
    /// It said GOAWAY before it came to this stream. hyper fails a request with the peer's GOAWAY
    /// only if its stream is above the last one that the peer processes, or if the request never
    /// became a stream: see [`crate::h2_task`]. Streams that the peer took on and did not answer
    /// fail with whatever ended the connection.
    Goaway,
}

impl TurnedAway {
    fn by(error: &hyper::Error) -> Option<Self> {
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            if let Some(h2) = cause.downcast_ref::<h2::Error>() {
                let refused = h2.is_reset() && h2.reason() == Some(h2::Reason::REFUSED_STREAM);
                return match h2.is_remote() {
                    true if refused => Some(Self::RefusedStream),
                    true if h2.is_go_away() => Some(Self::Goaway),
                    _ => None,
                };
            }
            source = cause.source();
        }
        None
    }
}

/// The request as it stands on the wire of this connection.
fn assemble(
    parts: &request::Parts,
    connection: &Connection,
    attached: Option<&Attachment>,
    body: Outgoing,
) -> Request<Outgoing> {
    let mut parts = parts.clone();
    if let Some(attached) = attached {
        // `insert`: exactly one (CL-1), and never one of another connection (CL-2).
        parts
            .headers
            .insert(attached.name.clone(), attached.value.clone());
        if let Some(authorization) = &attached.authorization {
            parts
                .headers
                .insert(header::AUTHORIZATION, authorization.clone());
        }
    }
    match connection.facts.http() {
        HttpVersion::H1 => {
            parts.version = Version::HTTP_11;
            if let (false, Some(host)) =
                (parts.headers.contains_key(header::HOST), &connection.host)
            {
                parts.headers.insert(header::HOST, host.clone());
            }
            // Origin form (RFC 9112 §3.2.1).
            let path = parts.uri.path_and_query().cloned();
            parts.uri = path.map_or_else(|| Uri::from_static("/"), Uri::from);
        }
        HttpVersion::H2 => parts.version = Version::HTTP_2,
    }
    Request::from_parts(parts, body)
}

/// Whether an h1 response is its connection's last (RFC 9112 §9.3).
fn says_close(version: Version, headers: &HeaderMap) -> bool {
    let says = |option: &str| {
        let options = headers.get_all(header::CONNECTION);
        let mut options = options
            .iter()
            .filter_map(|v| v.to_str().ok())
            .flat_map(|v| v.split(','));
        options.any(|o| o.trim().eq_ignore_ascii_case(option))
    };
    says("close") || (version < Version::HTTP_11 && !says("keep-alive"))
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// `Keep-Alive: timeout=N`: used up to a second before it is over, lest a request meet the server's
/// FIN.
fn keep_alive(headers: &HeaderMap) -> Option<Duration> {
    let fields = headers.get_all(KEEP_ALIVE);
    let mut parameters = fields
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','));
    let seconds = parameters.find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches('"');
        name.trim()
            .eq_ignore_ascii_case("timeout")
            .then(|| value.parse::<u32>().ok())?
    })?;
    Some(Duration::from_secs(u64::from(seconds)).saturating_sub(Duration::from_secs(1)))
}

/// Sees to it that each request is counted once, even one whose future is dropped.
struct Account<'a> {
    observers: &'a Observers,
    operation: Operation,
    connection: Option<ConnectionUse>,
    binding: BindingUsed,
    request_bound: bool,
    /// Whether it left.
    written: bool,
    closed: bool,
}

impl<'a> Account<'a> {
    fn open(observers: &'a Observers, operation: Operation) -> Self {
        Self {
            observers,
            operation,
            connection: None,
            binding: BindingUsed::None,
            request_bound: false,
            written: false,
            closed: false,
        }
    }

    fn writing(&mut self, used: ConnectionUse, attached: Option<&Attachment>) {
        self.connection = Some(used);
        self.binding = attached.map_or(BindingUsed::None, |attached| attached.used);
        self.request_bound = attached.is_some_and(|attached| attached.request_bound);
        self.written = true;
        if let Some(attached) = attached {
            attached.memo.writing();
        }
    }

    fn unsent(&mut self, attached: Option<&Attachment>) {
        self.written = false;
        if let Some(attached) = attached {
            attached.memo.unsent();
        }
    }

    /// It left, or a part of it, and the peer has said that it did nothing about it.
    fn unprocessed(&mut self) {
        self.written = false;
    }

    fn close<T>(&mut self, result: &Result<T, Error>) {
        let outcome = match result {
            Ok(_) => Outcome::Answered,
            Err(e) if e.may_have_been_processed() => Outcome::MayHaveBeenProcessed,
            Err(_) => Outcome::Failed,
        };
        self.report(outcome);
    }

    fn report(&mut self, outcome: Outcome) {
        self.closed = true;
        self.observers.emit(&Event::RequestFinished {
            operation: self.operation,
            connection: self.connection,
            binding: self.binding,
            request_bound: self.request_bound,
            outcome,
        });
    }
}

impl Drop for Account<'_> {
    fn drop(&mut self) {
        if !self.closed {
            let outcome = if self.written {
                Outcome::MayHaveBeenProcessed
            } else {
                Outcome::Failed
            };
            self.report(outcome);
        }
    }
}
