//! Listens, serves, and hands out what replaces a part of it while it runs.

mod unix;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bowline::server::{
    Acceptor, ConnectionLimits, HttpService, Listener, Reloader, ServeOptions, TlsReloader,
    metrics::MetricsObserver, serve,
};
use metrics::gauge;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tower::Layer;

use super::access::Access;
use super::inputs::Inputs;
use super::options::Options;
use super::plan::{self, Memory, Plan};
use super::proxy::{Front, Proxy};
use super::tokens::{TokenSource, Tokens};
use crate::failure::Failure;
use crate::ops::Service;
use crate::ops::access::InFlight;
use crate::ops::metric_names::{MetricNames, metric_names};
use crate::values::ListenAt;

/// An ingress that serves. Its counts are those of the `metrics` facade: `bowline_server_…` and
/// `bowline_ingress_…`.
pub(crate) struct Running {
    /// Where it listens, with the port that was chosen for 0.
    listening: ListenAt,
    port: Option<u16>,
    memory: Memory,
    tls: TlsReloader,
    layer: Reloader<Tokens>,
    proxy: Proxy,
    /// What the validator in use was made from. One reload at a time.
    token_source: Mutex<TokenSource>,
    /// What the TLS configuration in use was made from.
    tls_inputs: Mutex<Inputs>,
    in_flight: Arc<InFlight>,
    drain_timeout: Duration,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl Service for Running {
    type Options = Options;
    const METRICS: &'static MetricNames = &metric_names!("ingress");

    async fn start(options: Options) -> Result<Self, Failure> {
        let limits = plan::connection_limits(&options.limits)?;
        let serve_options = plan::serve_options(&options.limits);
        // Before the socket is opened; the port is known only afterwards if it is 0.
        Plan::new(&options, port_of(&options.listen), &Memory::new(), None)?;
        let memory = Memory::start(&options).await?;
        let socket = Socket::bind(&options.listen).await?;
        let listening = socket.local(&options.listen);
        let port = port_of(&listening);
        let tls_inputs = tls_inputs(&options);
        let plan = Plan::new(&options, port, &memory, None)?;

        let acceptor = Acceptor::new(plan.tls)
            .handshake_timeout(options.limits.handshake_timeout)
            .observer(MetricsObserver);
        let tls = acceptor.reloader();
        let layer = plan.checks.layer();
        layer.check().map_err(Failure::usage)?;
        let reloader = layer.reloader();
        let proxy = Proxy::new(plan::upstream(&options), plan.passing);
        // The access log goes around `Front`, whose responses carry what it needs as extensions:
        // `Refused` (of the ingress), `bowline_proof::Check` or `DpopCheck` (of the binding layer),
        // or `Passed` and `VerifiedBinding` (of a request that was passed on).
        let in_flight = InFlight::new(Self::METRICS);
        let service = Access::new(Front(layer.layer(proxy.clone())), in_flight.clone());
        let drain_timeout = options.limits.drain_timeout;
        note_mode(&options);
        let (stop, stopped) = watch::channel(false);
        let serving = socket.serve(acceptor, limits, service, serve_options, stopped)?;
        Ok(Self {
            listening,
            port,
            memory,
            tls,
            layer: reloader,
            proxy,
            token_source: Mutex::new(plan.token_source),
            tls_inputs: Mutex::new(tls_inputs),
            in_flight,
            drain_timeout,
            stop,
            serving,
        })
    }

    /// Open connections stay, unless their client certificates are no longer trusted; what is
    /// remembered of used proofs stays. Where it listens, the upstream's address and the limits of
    /// connections stay as they were when it started.
    async fn reload(&self, options: Options) -> Result<(), Failure> {
        let mut current = self.token_source.lock().await;
        let tls_inputs = tls_inputs(&options);
        let plan = Plan::new(&options, self.port, &self.memory, Some(&current))?;
        self.memory.use_plan(&plan)?;
        // The validator with all else: a request is checked by one configuration.
        self.layer
            .reload(|layer| plan.checks.onto(layer))
            .map_err(Failure::usage)?;
        let mut former = self.tls_inputs.lock().await;
        if tls_inputs != *former {
            // With another one no session from before can be resumed.
            self.tls.replace(plan.tls);
        }
        *former = tls_inputs;
        self.proxy.replace(plan.passing);
        *current = plan.token_source;
        note_mode(&options);
        Ok(())
    }

    fn introduce(&self, options: &Options) {
        tracing::info!(
            upstream = %options.upstream,
            policy = %options.policy.policy.name(),
            observe = options.policy.observe,
            "listening on {}",
            self.listening
        );
    }

    fn in_flight(&self) -> &Arc<InFlight> {
        &self.in_flight
    }

    fn drain_timeout(&self) -> Duration {
        self.drain_timeout
    }

    fn stop(&self) {
        self.stop.send_replace(true);
    }

    async fn finished(self) {
        // It panics only if serving did, which was reported then.
        let _ = self.serving.await;
        if let ListenAt::Unix(path) = &self.listening {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Whether requests are refused is worth an alert.
fn note_mode(options: &Options) {
    let observe = options.policy.observe;
    gauge!("bowline_ingress_observe").set(if observe { 1.0 } else { 0.0 });
}

/// Read before it is made: what changes during that is seen by the next reload.
fn tls_inputs(options: &Options) -> Inputs {
    let policy = &options.policy;
    // By these it is decided whether the handshake demands a certificate.
    let demand = format!(
        "{:?} {} {} {}",
        policy.policy,
        policy.observe,
        policy.public.is_empty(),
        policy.resource_metadata.is_some()
    );
    let mut files: Vec<&Path> = vec![&options.cert, &options.key, &options.client_ca];
    files.extend(options.ticket_keys.as_deref());
    Inputs::of(&[&demand], &files)
}

fn port_of(listen: &ListenAt) -> Option<u16> {
    match listen {
        ListenAt::Tcp(addr) => Some(addr.port()),
        ListenAt::Unix(_) => None,
    }
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Socket {
    async fn bind(listen: &ListenAt) -> Result<Self, Failure> {
        let bound = match listen {
            ListenAt::Tcp(addr) => TcpListener::bind(addr).await.map(Self::Tcp),
            ListenAt::Unix(path) => unix::bind(path).await.map(Self::Unix),
        };
        bound.map_err(|error| Failure::cannot_listen(format_args!("--listen {listen}"), &error))
    }

    fn local(&self, asked: &ListenAt) -> ListenAt {
        match self {
            Self::Tcp(tcp) => tcp
                .local_addr()
                .map_or_else(|_| asked.clone(), ListenAt::Tcp),
            Self::Unix(_) => asked.clone(),
        }
    }

    fn serve<S: HttpService + Sync>(
        self,
        acceptor: Acceptor,
        limits: ConnectionLimits,
        service: S,
        options: ServeOptions,
        stopped: watch::Receiver<bool>,
    ) -> Result<JoinHandle<()>, Failure> {
        match self {
            Self::Tcp(tcp) => {
                let listener =
                    Listener::with_limits(tcp, acceptor, limits).map_err(Failure::failed)?;
                Ok(tokio::spawn(async move {
                    serve(listener, service, options, until_stopped(stopped)).await;
                }))
            }
            Self::Unix(unix) => Ok(tokio::spawn(unix::serve(
                unix, acceptor, limits, service, options, stopped,
            ))),
        }
    }
}

async fn until_stopped(mut stopped: watch::Receiver<bool>) {
    // An error means that `Running` was dropped, which also means: stop.
    let _ = stopped.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests;
