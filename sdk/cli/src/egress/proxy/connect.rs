//! `CONNECT`: an allowed origin is intercepted, or refused; another host gets a tunnel, if that is
//! allowed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use bowline::client::{Origin as Target, Timeouts};
use http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::entrance::{Arrival, Entrance};
use super::{Proxy, Settings, head};
use crate::causes::with_causes;
use crate::egress::answer::Refused;
use crate::egress::authority::{Authority, AuthorityError};
use crate::egress::body::Body;
use crate::egress::names::{self, HostPort, Intercepted};
use crate::egress::pages::Way;
use crate::egress::tunnels::TunnelPolicy;
use crate::egress::{fields, splice};
use crate::ops::access::LoggedBody;

impl Proxy {
    pub(super) async fn connect(
        self: &Arc<Self>,
        settings: &Settings,
        mut request: Request<Incoming>,
        entrance: &Entrance,
    ) -> Result<Response<Body>, Refused> {
        let target = target(&request)?;
        fields::check_reserved(request.headers())?;
        let agent = hyper::upgrade::on(&mut request);
        if !settings.origins.allowed().contains(&target) {
            let other = self.reach(&settings.tunnels, &target).await?;
            self.counts.tunnels.add();
            let (idle, entrance) = (self.patience.tunnel, entrance.clone());
            self.spawn(async move {
                if let Ok(agent) = agent.await {
                    tokio::select! {
                        () = splice::both_ways(TokioIo::new(agent), other, idle) => {}
                        () = entrance.end_wanted() => {}
                    }
                }
            });
            return Ok(Response::default());
        }
        let Some(authority) = &self.authority else {
            return Err(Refused::new(
                StatusCode::FORBIDDEN,
                "not_intercepted",
                format!(
                    "a tunnel to {target} would carry no proof: send requests to http://{target} \
                     through this proxy, start it with --intercept, or use `bowline run`"
                ),
            ));
        };
        let tls = tls(authority, &target).map_err(|error| {
            let text = with_causes(&error);
            Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "authority", text)
        })?;
        self.counts.intercepted.add();
        let (proxy, entrance) = (self.clone(), entrance.clone());
        self.spawn(async move {
            if let Ok(agent) = agent.await {
                proxy.intercept(agent, target, tls, entrance).await;
            }
        });
        Ok(Response::default())
    }

    async fn intercept(
        self: Arc<Self>,
        agent: Upgraded,
        connect: HostPort,
        tls: TlsAcceptor,
        entrance: Entrance,
    ) {
        let accept = timeout(self.patience.handshake, tls.accept(TokioIo::new(agent)));
        let accepted = tokio::select! {
            biased;
            () = self.tasks.stop.cancelled() => return,
            () = entrance.end_wanted() => return,
            accepted = accept => accepted,
        };
        let stream = match accepted {
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
        let from = entrance.clone();
        let answer = move |request| {
            let (proxy, on, entrance) = (proxy.clone(), on.clone(), from.clone());
            async move { proxy.inside(&on, request, &entrance).await }
        };
        self.serve(stream, &entrance, answer).await;
    }

    /// A request in an intercepted connection.
    async fn inside(
        &self,
        on: &Intercepted,
        request: Request<Incoming>,
        entrance: &Entrance,
    ) -> Response<LoggedBody<Body>> {
        let settings = self.settings();
        let mut line = self.line(&request, entrance);
        let checked = entrance
            .check(&settings.certified)
            .and_then(|()| names::check_intercepted(on, &head(&request)));
        let answered = match checked.and_then(|()| settings.origins.named(&on.connect)) {
            Ok(origin) => {
                let arrival = Arrival {
                    peer: entrance.peer(),
                    way: Way::Tunnel,
                };
                let note = &mut line.note;
                self.pass(&settings, origin, request, arrival, note).await
            }
            Err(refused) => Err(refused),
        };
        self.answer(line, answered)
    }

    /// A socket to a host that is no allowed origin.
    async fn reach(&self, policy: &TunnelPolicy, target: &HostPort) -> Result<TcpStream, Refused> {
        policy.check_name(target)?;
        let dial = timeout(self.patience.connect, self.dial(policy, target));
        dial.await.map_err(|_| {
            let seconds = self.patience.connect.as_secs();
            let text = format!("{target} was not reached within {seconds} s");
            Refused::new(StatusCode::GATEWAY_TIMEOUT, "tunnel_connect", text)
        })?
    }

    /// Through the proxy of this machine, where there is one for that host: what the name is there, is
    /// its decision (GW-7). Otherwise to the very addresses that were checked.
    async fn dial(&self, policy: &TunnelPolicy, target: &HostPort) -> Result<TcpStream, Refused> {
        let gateway = |reason, text: String| Refused::new(StatusCode::BAD_GATEWAY, reason, text);
        let address = (target.host().trim_matches(['[', ']']), target.port());
        let resolved = tokio::net::lookup_host(address)
            .await
            .map(Iterator::collect::<Vec<SocketAddr>>);
        if let Ok(known) = &resolved {
            policy.check_addresses(known)?;
        }
        let origin: Target = format!("https://{target}")
            .parse()
            .map_err(|error| gateway("tunnel_connect", format!("{target}: {error}")))?;
        let through = self.outer.tunnel(&origin, &Timeouts::default()).await;
        let through =
            through.map_err(|error| gateway("outer_proxy", format!("{target}: {error}")))?;
        if let Some(socket) = through {
            return Ok(socket);
        }
        let pinned =
            resolved.map_err(|error| gateway("tunnel_resolve", format!("{target}: {error}")))?;
        let socket = TcpStream::connect(&*pinned)
            .await
            .map_err(|error| gateway("tunnel_connect", format!("{target}: {error}")))?;
        // What small writes gain by waiting, the other end pays for.
        let _ = socket.set_nodelay(true);
        Ok(socket)
    }
}

/// RFC 9110 section 9.3.6: a host and a port, both of them.
fn target(request: &Request<Incoming>) -> Result<HostPort, Refused> {
    let bad = |text| Refused::new(StatusCode::BAD_REQUEST, "connect", text);
    if request.version() >= Version::HTTP_2 {
        return Err(bad("CONNECT is answered over HTTP/1.1"));
    }
    let authority = request.uri().authority();
    let authority = authority.filter(|authority| authority.port().is_some());
    let target = authority.and_then(|authority| HostPort::parse(authority.as_str()));
    target.ok_or_else(|| bad("the target of CONNECT is no host and port"))
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
