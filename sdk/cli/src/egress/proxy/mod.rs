//! What a request to the egress becomes: an intercepted connection, a tunnel, or a request to an
//! allowed origin.

mod connect;
mod connection;
mod entrance;
mod idle;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bowline::ErrorKind;
use bowline::client::Proxies;
use bowline::request::Http2Only;
use bowline::token::{self, OAuthErrorCode};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use metrics::Label;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::entrance::Arrival;
pub(crate) use self::entrance::Entrance;
use super::answer::Refused;
use super::authority::Authority;
use super::body::{Body, OriginBody, RequestBody};
use super::counts::Counts;
use super::credential::Credential;
use super::fields;
use super::names::{self, Direct, HostPort};
use super::origins::{Origin, Origins, SendError};
use super::pages;
use super::tls::Certified;
use super::tunnels::TunnelPolicy;
use crate::ops::access::{InFlight, Line, LoggedBody, Note};
use crate::ops::metric_names::{MetricNames, metric_names};

/// Beside the counts of [`Counts`] and of the client.
pub(crate) const METRICS: MetricNames = metric_names!("egress");

/// How long the egress waits for an agent and for other hosts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// A connection without a request.
    pub(crate) idle: Duration,
    /// An idle connection that was told to end.
    pub(crate) end: Duration,
    /// The requests of a caller whose certificate is no longer valid.
    pub(crate) drain: Duration,
    /// A tunnel in which nothing moves.
    pub(crate) tunnel: Duration,
    /// From `CONNECT` to the end of the agent's TLS handshake: some stacks open tunnels that they
    /// never use.
    pub(crate) handshake: Duration,
    /// Resolving and connecting a tunnel.
    pub(crate) connect: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(600),
            end: Duration::from_secs(5),
            drain: Duration::from_secs(30),
            tunnel: Duration::from_secs(300),
            handshake: Duration::from_secs(60),
            connect: Duration::from_secs(10),
        }
    }
}

/// All that an egress knows.
pub(crate) struct Proxy {
    settings: ArcSwap<Settings>,
    /// With it, `CONNECT` to an allowed origin is intercepted.
    pub(crate) authority: Option<Arc<Authority>>,
    /// Those that the machine goes out through.
    outer: Proxies,
    patience: Patience,
    /// What every caller must show.
    credential: Option<Credential>,
    pub(crate) counts: Arc<Counts>,
    in_flight: Arc<InFlight>,
    tasks: Tasks,
}

/// What a reload replaces: a request has one of them from its beginning to its end.
pub(crate) struct Settings {
    pub(crate) origins: Origins,
    /// Where requests go that name no other host.
    pub(crate) upstream: Option<HostPort>,
    pub(crate) tunnels: TunnelPolicy,
    /// Of a listener that ends TLS.
    pub(crate) certified: Certified,
}

/// The agents' connections.
#[derive(Debug, Default)]
struct Tasks {
    /// From then on they take no more requests.
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl Proxy {
    /// `counts` are those of the origins.
    pub(crate) fn new(
        settings: Settings,
        patience: Patience,
        authority: Option<Authority>,
        credential: Option<Credential>,
        counts: Arc<Counts>,
        in_flight: Arc<InFlight>,
    ) -> Arc<Self> {
        Arc::new(Self {
            settings: ArcSwap::from_pointee(settings),
            authority: authority.map(Arc::new),
            // What cannot be used was an error of the clients before.
            outer: Proxies::environment(),
            patience,
            credential,
            counts,
            in_flight,
            tasks: Tasks::default(),
        })
    }

    pub(crate) fn in_flight(&self) -> &Arc<InFlight> {
        &self.in_flight
    }

    pub(crate) fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// Requests that begin from now on are treated so.
    pub(crate) fn replace(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
    }

    /// Runs an agent's connection, or a tunnel of it.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.tracker.spawn(task);
    }

    /// From now on connections take no more requests, and end.
    pub(crate) fn stop(&self) {
        self.tasks.stop.cancel();
        self.tasks.tracker.close();
    }

    /// Completes after [`stop`](Self::stop).
    pub(crate) async fn stopped(&self) {
        self.tasks.stop.cancelled().await;
    }

    /// Completes when all connections and tunnels have ended, after [`stop`](Self::stop).
    pub(crate) async fn ended(&self) {
        self.tasks.tracker.wait().await;
    }

    async fn front(
        self: &Arc<Self>,
        request: Request<Incoming>,
        entrance: &Entrance,
    ) -> Response<LoggedBody<Body>> {
        let settings = self.settings();
        let mut line = self.line(&request, entrance);
        let checked = self.check_credential(request.headers());
        let answered =
            if let Err(refused) = checked.and_then(|()| entrance.check(&settings.certified)) {
                Err(refused)
            } else if request.method() == Method::CONNECT {
                self.connect(&settings, request, entrance).await
            } else {
                match origin_of(&settings, &request, entrance) {
                    Ok(origin) => {
                        let arrival = entrance.arrival(&settings.certified);
                        let note = &mut line.note;
                        self.pass(&settings, origin, request, arrival, note).await
                    }
                    Err(refused) => Err(refused),
                }
            };
        self.answer(line, answered)
    }

    fn check_credential(&self, headers: &HeaderMap) -> Result<(), Refused> {
        match &self.credential {
            Some(credential) if !credential.is_shown(headers) => Err(Refused::new(
                StatusCode::PROXY_AUTHENTICATION_REQUIRED,
                "credential",
                "this proxy is for the command that it was started with: its URL in HTTPS_PROXY \
                 holds a password",
            )),
            _ => Ok(()),
        }
    }

    /// Whether callers are known by what they show.
    pub(crate) fn asks_for_credential(&self) -> bool {
        self.credential.is_some()
    }

    fn line(&self, request: &Request<Incoming>, entrance: &Entrance) -> Line {
        let note = Note {
            caller: entrance.certified().map(|holder| holder.name().clone()),
            ..Note::default()
        };
        Line::begin(request, self.in_flight.clone(), note)
    }

    fn answer(
        &self,
        mut line: Line,
        answered: Result<Response<Body>, Refused>,
    ) -> Response<LoggedBody<Body>> {
        let response = answered.unwrap_or_else(|refused| {
            let origin = line.note.origin.clone();
            let mut labels = vec![Label::new("reason", refused.reason)];
            labels.extend(origin.map(|origin| Label::new("origin", origin)));
            self.counts.refused.add_with(labels);
            line.note.check = Some(refused.reason);
            refused.response()
        });
        line.answered(response)
    }

    /// Passes a request on to `origin`, which was checked.
    async fn pass(
        &self,
        settings: &Settings,
        origin: &Origin,
        request: Request<Incoming>,
        arrival: Arrival<'_>,
        note: &mut Note,
    ) -> Result<Response<Body>, Refused> {
        note.origin = Some(origin.name().to_string());
        let (mut parts, body) = request.into_parts();
        // As they came: a `Connection` option could take them out.
        pages::check(&parts.headers, origin.name(), arrival.way)?;
        names::check_upgrade(&parts.headers)?;
        let admitted = origin.admit(&mut parts, arrival.peer)?;
        fields::check_reserved(&parts.headers)?;
        fields::strip_request(&mut parts.headers);
        parts.uri = uri(origin.name(), &parts.uri)?;
        origin.check(&parts)?;
        parts.version = Version::HTTP_11;
        // Nothing that hyper knows of the agent's connection is for the one to the origin.
        parts.extensions.clear();
        if is_grpc(&parts) {
            parts.extensions.insert(Http2Only);
        }
        self.counts.requests.add();
        let sent = origin.send(admitted, parts, RequestBody(body)).await;
        let response = sent.map_err(|error| failed(origin, &error))?;
        settings.origins.check_redirect(origin, &response)?;
        let (mut parts, body) = response.into_parts();
        if parts.status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            // The agent would show an origin what is for its proxy.
            return Err(Refused::new(
                StatusCode::BAD_GATEWAY,
                "origin_407",
                format!("{} answered 407, as only a proxy may", origin.name()),
            ));
        }
        fields::strip_response(&mut parts.headers);
        parts.version = Version::HTTP_11;
        parts.extensions.clear();
        Ok(Response::from_parts(parts, Body::Passed(OriginBody(body))))
    }
}

/// Whom a request to the listener itself is for.
fn origin_of<'a>(
    settings: &'a Settings,
    request: &Request<Incoming>,
    entrance: &Entrance,
) -> Result<&'a Origin, Refused> {
    let origins = &settings.origins;
    let listener = Direct {
        allowed: origins.allowed(),
        upstream: settings.upstream.as_ref(),
        own: entrance.own_names(&settings.certified),
        over_tls: entrance.certified().is_some(),
    };
    let name = listener.check(&head(request))?;
    origins.named(&name)
}

/// The head of a request, to be looked at.
fn head(request: &Request<Incoming>) -> Parts {
    let mut copy = Request::new(());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy.into_parts().0
}

fn uri(origin: &HostPort, target: &Uri) -> Result<Uri, Refused> {
    let path = match target.path_and_query() {
        // `OPTIONS *` has no form in a URI.
        Some(path) if path.as_str() != "*" => path.clone(),
        Some(_) => {
            let text = "a request for `*` cannot be passed on";
            return Err(Refused::new(StatusCode::BAD_REQUEST, "target", text));
        }
        None => PathAndQuery::from_static("/"),
    };
    let built = Uri::builder()
        .scheme(Scheme::HTTPS)
        .authority(origin.to_string())
        .path_and_query(path)
        .build();
    built.map_err(|error| {
        Refused::new(
            StatusCode::BAD_REQUEST,
            "target",
            format!("the target: {error}"),
        )
    })
}

fn is_grpc(request: &Parts) -> bool {
    let content_type = request.headers.get(CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

fn failed(origin: &Origin, error: &SendError) -> Refused {
    let (status, reason, text) = match error {
        SendError::Body(error) => (
            StatusCode::BAD_REQUEST,
            "request",
            format!("the request's body broke off: {error}"),
        ),
        SendError::Origin(error) => {
            let (status, reason) = of_client(error);
            (status, reason, error.to_string())
        }
        SendError::Token(error) => {
            let (status, reason) = of_source(origin, error);
            (status, reason, error.to_string())
        }
    };
    let name = origin.name();
    tracing::warn!("{name}: {text}");
    Refused::new(status, reason, format!("{name}: {text}"))
}

fn of_client(error: &bowline::Error) -> (StatusCode, &'static str) {
    match error.kind() {
        ErrorKind::Timeout(_) => (StatusCode::GATEWAY_TIMEOUT, "timeout"),
        ErrorKind::InvalidRequest
        | ErrorKind::PlaintextRefused
        | ErrorKind::InvalidToken
        | ErrorKind::RequestBody => (StatusCode::BAD_REQUEST, "request"),
        _ => (StatusCode::BAD_GATEWAY, "origin"),
    }
}

fn of_source(origin: &Origin, error: &token::Error) -> (StatusCode, &'static str) {
    use OAuthErrorCode::{InvalidGrant, InvalidRequest, InvalidScope, InvalidTarget};
    use token::ErrorKind::{Expired, Refused, Request, Unavailable};
    match (error.kind(), error.client()) {
        // There was a token.
        (Request, Some(error)) => of_client(error),
        (Unavailable, _) => (StatusCode::SERVICE_UNAVAILABLE, "token_source"),
        // The token that was to be exchanged.
        (Expired | Refused(InvalidGrant | InvalidRequest | InvalidScope | InvalidTarget), _)
            if origin.exchanges() =>
        {
            (StatusCode::FORBIDDEN, "exchange")
        }
        _ => (StatusCode::BAD_GATEWAY, "token_source"),
    }
}
