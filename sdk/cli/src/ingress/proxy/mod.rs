//! The reverse proxy: passes on what the binding layer has let through (GW-2).

mod answer;
mod body;
mod fields;
mod front;
mod places;
mod sse;
mod unread;
mod upstream;

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use bowline::server::{ConnectionFacts, MetadataService, VerifiedBinding};
use futures_util::future::BoxFuture;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use metrics::counter;
use tokio::time::{Instant, sleep};
use tower::Service;

pub(crate) use self::answer::Refused;
pub(crate) use self::body::Body;
use self::body::{BodyError, RequestBody, ResponseBody, Waiting};
pub(crate) use self::front::Front;
use self::places::{Place, Places};
use self::unread::LentBody;
use self::upstream::{Upstream, UpstreamError};
use crate::passing::fields::{accept_trailers, join_cookies, strip_hop_by_hop};
use crate::receipt::ReceiptKey;
use crate::values::UpstreamAt;

/// How requests are passed on. A reload replaces it.
pub(crate) struct Passing {
    /// Further fields that are never passed on.
    pub(crate) strip: Arc<[HeaderName]>,
    /// The key of receipts, and for how long one is valid.
    pub(crate) receipt: Option<(ReceiptKey, Duration)>,
    /// The path of the protected resource metadata, and what answers there.
    pub(crate) metadata: Option<(String, MetadataService)>,
    pub(crate) sse_keep_alive: Duration,
    pub(crate) max_body: Option<u64>,
    pub(crate) body_timeout: Duration,
    pub(crate) upstream_timeout: Duration,
    pub(crate) upstream_stalled_timeout: Duration,
    /// Whether a peer may be a proxy that speaks for other clients (GW-3).
    pub(crate) behind_proxies: bool,
}

/// The binding layer has let the request through. Found among the extensions of the response.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passed;

/// The service behind, and how many requests it gets at a time. It stays as it is.
pub(crate) struct UpstreamOptions {
    pub(crate) at: UpstreamAt,
    pub(crate) h2c: bool,
    pub(crate) connect_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) max_requests: usize,
}

/// The innermost service. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Proxy(Arc<Shared>);

struct Shared {
    upstream: Upstream,
    passing: ArcSwap<Passing>,
    places: Arc<Places>,
}

impl Proxy {
    pub(crate) fn new(options: UpstreamOptions, passing: Passing) -> Self {
        let places = Places::new(options.max_requests);
        Self(Arc::new(Shared {
            upstream: Upstream::new(options),
            passing: ArcSwap::from_pointee(passing),
            places,
        }))
    }

    /// Requests that begin from now on are passed on in this way.
    pub(crate) fn replace(&self, passing: Passing) {
        self.0.passing.store(Arc::new(passing));
    }
}

impl Service<Request<LentBody>> for Proxy {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<LentBody>) -> Self::Future {
        let shared = self.0.clone();
        Box::pin(async move {
            let binding = request.extensions().get::<VerifiedBinding>().cloned();
            let mut response = match shared.answer(request).await {
                Ok(response) => response,
                Err(refused) => answer::refusal(refused),
            };
            // For the access log, which does not see what the layers have found.
            response.extensions_mut().insert(Passed);
            if let Some(binding) = binding {
                response.extensions_mut().insert(binding);
            }
            Ok(response)
        })
    }
}

impl Shared {
    async fn answer(&self, request: Request<LentBody>) -> Result<Response<Body>, Refused> {
        let passing = self.passing.load_full();
        if let Some((path, metadata)) = &passing.metadata
            && path == request.uri().path()
        {
            return Ok(own(metadata.clone(), request).await);
        }
        check_passable(&request, &passing)?;
        let place = self.place(&request)?;
        let (mut parts, body) = request.into_parts();
        let accepts_trailers = accept_trailers(&parts.headers);
        let host = fields::host(&parts);
        fields::strip_request(&mut parts.headers, &passing.strip);
        fields::describe(&mut parts, &passing);
        if let Some(host) = host {
            parts.headers.insert(HOST, host);
        }
        self.offer_trailers(&mut parts, accepts_trailers);
        if !self.upstream.is_http2() {
            join_cookies(&mut parts.headers);
        }
        parts.extensions.clear();
        let body = RequestBody::new(
            body,
            passing.max_body,
            passing.body_timeout,
            passing.strip.clone(),
        );
        let response = self.exchange(parts, body, &passing).await?;
        Ok(self.pass_back(response, place, &passing))
    }

    fn place(&self, request: &Request<LentBody>) -> Result<Place, Refused> {
        let extensions = request.extensions();
        let facts = extensions.get::<Arc<ConnectionFacts>>();
        let client = self
            .places
            .client(extensions.get(), facts.map(|facts| &**facts));
        self.places.take(client).ok_or(Refused::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "requests",
            "too many requests are under way (--max-requests)",
        ))
    }

    /// This end passes trailers on, if the client takes them (RFC 9110 section 10.1.4).
    fn offer_trailers(&self, request: &mut Parts, accepts_trailers: bool) {
        if !accepts_trailers {
            return;
        }
        request
            .headers
            .insert(TE, HeaderValue::from_static("trailers"));
        if !self.upstream.is_http2() {
            request
                .headers
                .insert(CONNECTION, HeaderValue::from_static("te"));
        }
    }

    /// Sends the request, again if a kept connection ended just then and no harm is done.
    async fn exchange(
        &self,
        parts: Parts,
        body: RequestBody,
        passing: &Passing,
    ) -> Result<Response<Incoming>, Refused> {
        let is_repeatable = body.is_end_stream() && is_idempotent(&parts.method);
        let again = is_repeatable.then(|| parts.clone());
        let fate = body.fate();
        let limit = passing.upstream_timeout;
        let mut outcome = self.send(parts, body, limit).await;
        if let (Err(error), Some(parts)) = (&outcome, again)
            && error.may_be_stale_connection()
        {
            tracing::debug!("upstream {}: {error}; once more", self.upstream.name());
            outcome = self.send(parts, RequestBody::empty(), limit).await;
        }
        outcome.map_err(|error| match fate.error() {
            Some(error) => body_refused(error),
            None => self.failed(&error),
        })
    }

    /// Waits for the head of the response for as long as the client sends its body, and then for
    /// `limit`.
    async fn send(
        &self,
        parts: Parts,
        body: RequestBody,
        limit: Duration,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let progress = body.progress();
        let response = self.upstream.send(Request::from_parts(parts, body));
        let timer = sleep(limit);
        tokio::pin!(response, timer);
        loop {
            tokio::select! {
                biased;
                response = &mut response => return only_final(response?),
                () = progress.notified() => timer.as_mut().reset(Instant::now() + limit),
                () = &mut timer => return Err(UpstreamError::Timeout(limit)),
            }
        }
    }

    fn failed(&self, error: &UpstreamError) -> Refused {
        let (status, kind) = (error.status(), error.kind());
        counter!("bowline_ingress_upstream_errors_total", "kind" => kind).increment(1);
        tracing::warn!(
            kind,
            "upstream {}: {error}; answered {}",
            self.upstream.name(),
            status.as_u16()
        );
        let text = match status {
            StatusCode::GATEWAY_TIMEOUT => "the service did not answer in time",
            _ => "the service cannot be reached",
        };
        Refused::new(status, kind, text)
    }

    fn pass_back(
        &self,
        response: Response<Incoming>,
        place: Place,
        passing: &Passing,
    ) -> Response<Body> {
        let waiting = match sse::is_event_stream(&response) {
            true if sse::takes_comments(&response) => Waiting::comments(passing.sse_keep_alive),
            true => Waiting::Patient,
            false => Waiting::limited(
                passing.upstream_stalled_timeout,
                self.upstream.name().clone(),
            ),
        };
        let (mut parts, inner) = response.into_parts();
        strip_hop_by_hop(&mut parts.headers);
        parts.extensions.clear();
        // The client's protocol decides.
        parts.version = http::Version::HTTP_11;
        let body = ResponseBody {
            inner,
            waiting,
            _place: place,
        };
        Response::from_parts(parts, Body::Passed(Box::new(body)))
    }
}

/// Nothing asks for another protocol, so a 101 is no answer to anything.
fn only_final(response: Response<Incoming>) -> Result<Response<Incoming>, UpstreamError> {
    match response.status() {
        status if status.is_informational() => Err(UpstreamError::Switched),
        _ => Ok(response),
    }
}

/// What is known from the head of a request.
fn check_passable(request: &Request<LentBody>, passing: &Passing) -> Result<(), Refused> {
    let headers = request.headers();
    if fields::connection_names(headers, &passing.strip) {
        return Err(Refused::new(
            StatusCode::BAD_REQUEST,
            "connection",
            "a Connection option names a field that must stay",
        ));
    }
    let expects_other =
        |field: &HeaderValue| !field.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if headers.get_all(EXPECT).iter().any(expects_other) {
        return Err(Refused::new(
            StatusCode::EXPECTATION_FAILED,
            "expectation",
            "only 100-continue can be expected",
        ));
    }
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if let (Some(announced), Some(max)) = (announced, passing.max_body)
        && announced > max
    {
        return Err(body_refused(BodyError::TooLong));
    }
    Ok(())
}

fn body_refused(error: BodyError) -> Refused {
    match error {
        BodyError::TooLong => Refused::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_length",
            "the body is too long (--max-body)",
        ),
        BodyError::Stalled => Refused::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_timeout",
            "the body did not arrive in time (--body-timeout)",
        ),
        BodyError::Broken => {
            Refused::new(StatusCode::BAD_REQUEST, "body", "the body was not finished")
        }
    }
}

fn is_idempotent(method: &Method) -> bool {
    [
        Method::GET,
        Method::HEAD,
        Method::OPTIONS,
        Method::PUT,
        Method::DELETE,
    ]
    .contains(method)
}

/// The ingress's own document.
async fn own(mut metadata: MetadataService, request: Request<LentBody>) -> Response<Body> {
    let Ok(response) = metadata.call(request).await;
    let (parts, body) = response.into_parts();
    let Ok(body) = body.collect().await;
    Response::from_parts(parts, Body::Whole(body.to_bytes()))
}
