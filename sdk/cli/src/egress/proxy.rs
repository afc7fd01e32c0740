//! What a request to the egress becomes: an intercepted connection, a tunnel, or a request to an
//! allowed origin.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bowline::request::Http2Only;
use bowline::{Client, ErrorKind};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::answer::Refused;
use super::authority::{Authority, AuthorityError};
use super::body::{Body, RequestBody};
use super::counts::Counts;
use super::credential::Credential;
use super::names::{self, Allowed, HostPort, Intercepted};
use super::tunnels::TunnelPolicy;
use super::{fields, splice};

/// How long the egress waits for an agent and for other hosts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// A connection without a request, and a tunnel in which nothing moves.
    pub(crate) idle: Duration,
    /// From `CONNECT` to the end of the agent's TLS handshake: some stacks open tunnels that they
    /// never use.
    pub(crate) handshake: Duration,
    /// Resolving and connecting a tunnel.
    pub(crate) connect: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(300),
            handshake: Duration::from_secs(60),
            connect: Duration::from_secs(10),
        }
    }
}

/// Streams that an agent may have open on one connection.
const MAX_STREAMS: u32 = 1000;

/// All that an egress knows.
pub(crate) struct Proxy {
    pub(crate) client: Client,
    pub(crate) allowed: Allowed,
    /// With it, `CONNECT` to an allowed origin is intercepted.
    pub(crate) authority: Option<Authority>,
    /// Where requests go that name no other host.
    pub(crate) upstream: Option<HostPort>,
    pub(crate) tunnels: TunnelPolicy,
    /// What every caller must show.
    pub(crate) credential: Option<Credential>,
    /// Whether the machine goes out through a proxy of its own.
    pub(crate) behind_proxy: bool,
    pub(crate) patience: Patience,
    pub(crate) counts: Counts,
}

/// How an agent's connection came in.
#[derive(Clone, Debug)]
pub(crate) struct Entrance {
    /// The names of the listener; `None`: any name will do, since no browser reaches it.
    pub(crate) own_names: Option<Arc<[HostPort]>>,
}

impl Proxy {
    /// Serves an agent's connection to its end.
    pub(crate) async fn connection<IO>(self: Arc<Self>, io: IO, entrance: Entrance)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let proxy = self.clone();
        let service = service_fn(move |request| {
            let (proxy, entrance) = (proxy.clone(), entrance.clone());
            async move { Ok::<_, Infallible>(proxy.front(request, &entrance).await) }
        });
        let builder = self.server();
        let served = builder.serve_connection_with_upgrades(TokioIo::new(io), service);
        if let Err(error) = served.await {
            tracing::debug!(%error, "an agent's connection ended early");
        }
    }

    fn server(&self) -> auto::Builder<TokioExecutor> {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.patience.idle);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS);
        builder
    }

    async fn front(
        self: &Arc<Self>,
        request: Request<Incoming>,
        entrance: &Entrance,
    ) -> Response<Body> {
        let answered = if let Err(refused) = self.check_credential(request.headers()) {
            Err(refused)
        } else if request.method() == Method::CONNECT {
            self.connect(request).await
        } else {
            match self.origin_of(&request, entrance) {
                Ok(origin) => self.pass(&origin, request).await,
                Err(refused) => Err(refused),
            }
        };
        self.answer(answered)
    }

    fn answer(&self, answered: Result<Response<Body>, Refused>) -> Response<Body> {
        answered.unwrap_or_else(|refused| {
            self.counts.refused.add();
            refused.response()
        })
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

    fn origin_of(
        &self,
        request: &Request<Incoming>,
        entrance: &Entrance,
    ) -> Result<HostPort, Refused> {
        let (parts, ()) = head(request);
        if parts.version < Version::HTTP_2 && parts.uri.scheme().is_some() {
            let origin = names::check_absolute(&self.allowed, &parts)?;
            return Ok(origin);
        }
        match &self.upstream {
            Some(upstream) => {
                names::check_reverse(upstream, entrance.own_names.as_deref(), &parts)?;
                Ok(upstream.clone())
            }
            None => Err(Refused::new(
                StatusCode::MISDIRECTED_REQUEST,
                "no_origin",
                "this is a proxy, and the request names no origin in its target",
            )),
        }
    }

    async fn connect(
        self: &Arc<Self>,
        mut request: Request<Incoming>,
    ) -> Result<Response<Body>, Refused> {
        let bad = |text| Refused::new(StatusCode::BAD_REQUEST, "connect", text);
        if request.version() >= Version::HTTP_2 {
            return Err(bad("CONNECT is answered over HTTP/1.1"));
        }
        fields::check_reserved(request.headers())?;
        // RFC 9110 section 9.3.6: the target has both.
        let target = request
            .uri()
            .authority()
            .filter(|authority| authority.port().is_some());
        let target = target.and_then(|authority| HostPort::parse(authority.as_str()));
        let target = target.ok_or_else(|| bad("the target of CONNECT is no host and port"))?;
        let is_allowed = self.allowed.contains(&target);
        let authority = self.authority.as_ref().filter(|_| is_allowed);
        let Some(authority) = authority else {
            if is_allowed {
                return Err(Refused::new(
                    StatusCode::FORBIDDEN,
                    "not_intercepted",
                    format!(
                        "a tunnel to {target} would carry no proof: send requests to \
                         http://{target} through this proxy, or use `bowline run`"
                    ),
                ));
            }
            let other = self.dial(&target).await?;
            self.counts.tunnels.add();
            let (proxy, agent) = (self.clone(), hyper::upgrade::on(&mut request));
            tokio::spawn(async move {
                if let Ok(agent) = agent.await {
                    splice::both_ways(TokioIo::new(agent), other, proxy.patience.idle).await;
                }
            });
            return Ok(Response::default());
        };
        let tls = tls(authority, &target).map_err(|error| {
            let text = crate::causes::with_causes(&error);
            Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "authority", text)
        })?;
        self.counts.intercepted.add();
        let (proxy, agent) = (self.clone(), hyper::upgrade::on(&mut request));
        tokio::spawn(async move {
            if let Ok(agent) = agent.await {
                proxy.intercept(agent, target, tls).await;
            }
        });
        Ok(Response::default())
    }

    /// A socket to a host that is no allowed origin.
    async fn dial(&self, target: &HostPort) -> Result<TcpStream, Refused> {
        self.tunnels.check_name(target)?;
        let gateway = |reason, text: String| Refused::new(StatusCode::BAD_GATEWAY, reason, text);
        if self.behind_proxy {
            return Err(gateway(
                "outer_proxy",
                format!("{target}: tunnels through the proxy of this machine are not supported"),
            ));
        }
        let dial = async {
            let address = (target.host().trim_matches(['[', ']']), target.port());
            let resolved = tokio::net::lookup_host(address)
                .await
                .map(Iterator::collect::<Vec<SocketAddr>>)
                .map_err(|error| gateway("tunnel_resolve", format!("{target}: {error}")))?;
            let pinned = self.tunnels.pin(resolved)?;
            TcpStream::connect(&*pinned)
                .await
                .map_err(|error| gateway("tunnel_connect", format!("{target}: {error}")))
        };
        let socket = timeout(self.patience.connect, dial).await.map_err(|_| {
            let seconds = self.patience.connect.as_secs();
            let text = format!("{target} was not reached within {seconds} s");
            Refused::new(StatusCode::GATEWAY_TIMEOUT, "tunnel_connect", text)
        })??;
        // What small writes gain by waiting, the other end pays for.
        let _ = socket.set_nodelay(true);
        Ok(socket)
    }

    async fn intercept(self: Arc<Self>, agent: Upgraded, connect: HostPort, tls: TlsAcceptor) {
        let accept = tls.accept(TokioIo::new(agent));
        let stream = match timeout(self.patience.handshake, accept).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%error, origin = %connect, "an agent's TLS handshake failed");
                return;
            }
            // Opened and not used.
            Err(_) => return,
        };
        let on = Arc::new(Intercepted {
            sni: stream.get_ref().1.server_name().map(str::to_owned),
            connect,
        });
        let proxy = self.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let (proxy, on) = (proxy.clone(), on.clone());
            async move {
                let checked = names::check_intercepted(&on, &head(&request).0);
                let answered = match checked {
                    Ok(()) => proxy.pass(&on.connect, request).await,
                    Err(refused) => Err(refused),
                };
                Ok::<_, Infallible>(proxy.answer(answered))
            }
        });
        let builder = self.server();
        let served = builder.serve_connection(TokioIo::new(stream), service);
        if let Err(error) = served.await {
            tracing::debug!(%error, "an agent's intercepted connection ended early");
        }
    }

    /// Passes a request on to `origin`, which was checked.
    async fn pass(
        &self,
        origin: &HostPort,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Refused> {
        let (mut parts, body) = request.into_parts();
        names::check_upgrade(&parts.headers)?;
        fields::check_reserved(&parts.headers)?;
        fields::strip_request(&mut parts.headers);
        parts.uri = uri(origin, &parts.uri)?;
        parts.version = Version::HTTP_11;
        // Nothing that hyper knows of the agent's connection is for the one to the origin.
        parts.extensions.clear();
        if is_grpc(&parts) {
            parts.extensions.insert(Http2Only);
        }
        self.counts.requests.add();
        let sent = self
            .client
            .send(Request::from_parts(parts, RequestBody(body)));
        let response = sent.await.map_err(|error| failed(origin, &error))?;
        let (mut parts, body) = response.into_parts();
        if parts.status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            // The agent would show an origin what is for its proxy.
            return Err(Refused::new(
                StatusCode::BAD_GATEWAY,
                "origin_407",
                format!("{origin} answered 407, as only a proxy may"),
            ));
        }
        fields::strip_response(&mut parts.headers);
        parts.version = Version::HTTP_11;
        parts.extensions.clear();
        Ok(Response::from_parts(parts, Body::Origin(body)))
    }
}

/// The head of a request, to be looked at.
fn head(request: &Request<Incoming>) -> (Parts, ()) {
    let mut copy = Request::new(());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy.into_parts()
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

fn failed(origin: &HostPort, error: &bowline::Error) -> Refused {
    let (status, reason) = match error.kind() {
        ErrorKind::Timeout(_) => (StatusCode::GATEWAY_TIMEOUT, "timeout"),
        ErrorKind::InvalidRequest
        | ErrorKind::PlaintextRefused
        | ErrorKind::InvalidToken
        | ErrorKind::RequestBody => (StatusCode::BAD_REQUEST, "request"),
        _ => (StatusCode::BAD_GATEWAY, "origin"),
    };
    tracing::warn!("{origin}: {error}");
    Refused::new(status, reason, format!("{origin}: {error}"))
}

fn tls(authority: &Authority, target: &HostPort) -> Result<TlsAcceptor, AuthorityError> {
    let key = authority.leaf(target.host(), SystemTime::now())?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(AuthorityError::new)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::unwrap_or_clone(key))));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // The name that a resumed session was for is not compared by every client.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
