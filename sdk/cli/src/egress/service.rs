//! A `bowline egress` that serves.

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bowline::server::{Acceptor, TlsReloader, metrics::MetricsObserver};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::address::Address;
use super::authority::{Authority, AuthorityError};
use super::callers::{self, Callers};
use super::counts::Counts;
use super::names::{Allowed, HostPort};
use super::options::EgressOptions;
use super::origins::Origins;
use super::proxy::{METRICS, Patience, Proxy, Settings};
use super::serve::{self, Listener};
use super::tls::{CallerTls, Certified};
use super::tunnels::TunnelPolicy;
use crate::causes::with_causes;
use crate::failure::Failure;
use crate::ingress::inputs::Inputs;
use crate::ops::access::InFlight;
use crate::ops::metric_names::MetricNames;
use crate::ops::{self, Configured, Service};
use crate::values::ListenAt;

/// Serves until it is told to end, or only checks. `again` reads the options as they are to be now.
pub(crate) fn run(
    options: EgressOptions,
    again: impl Fn() -> Result<Configured<EgressOptions>, Failure>,
) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    runtime.block_on(async {
        match options.check {
            true => check(&options),
            false => ops::run::<Running>(options, again).await,
        }
    })
}

fn check(options: &EgressOptions) -> Result<ExitCode, Failure> {
    let plan = Plan::new(options, &Arc::default(), None)?;
    if let Some(dir) = &options.intercept {
        let names = plan.origins.allowed().iter().map(HostPort::host);
        Authority::check(dir, names).map_err(unusable)?;
    }
    // Tokens and seeds may come later: requests are answered 503 until then.
    for file in plan.origins.secrets() {
        if let Err(error) = std::fs::File::open(&file) {
            tracing::warn!("{file} cannot be read now: {error}");
        }
    }
    tracing::info!("the configuration can be used");
    Ok(ExitCode::SUCCESS)
}

/// What the options ask for, before any socket is opened: what `--check` checks, and what a reload
/// puts into use.
struct Plan {
    /// Who may use it, where the kernel says whose a connection is.
    callers: Callers,
    origins: Origins,
    upstream: Option<HostPort>,
    /// Of a listener that ends TLS.
    tls: Option<CallerTls>,
}

/// What is in use at a reload.
struct InUse<'a> {
    origins: &'a Origins,
    /// They stay.
    callers: &'a Callers,
    /// Whether there is a local authority, which stays too.
    intercepts: bool,
}

impl Plan {
    /// Reads every file that the options name.
    ///
    /// # Errors
    /// What cannot be read, cannot be used, or cannot be together; each says what to do.
    fn new(
        options: &EgressOptions,
        counts: &Arc<Counts>,
        in_use: Option<&InUse<'_>>,
    ) -> Result<Self, Failure> {
        check_abstract(options)?;
        let callers = match in_use {
            Some(in_use) => in_use.callers.clone(),
            None => callers_of(options)?,
        };
        if let Address::Tcp(at) = options.listen
            && at.ip().is_loopback()
            && !callers::are_told()
        {
            return Err(Failure::usage(
                "the kernel does not say which user connects, neither by sock_diag(7) nor in \
                 /proc/net/tcp: use --listen unix:PATH",
            ));
        }
        // First: from then on no other process of this user can read keys from this one.
        let former = in_use.map(|in_use| in_use.origins);
        let origins = Origins::new(&options.origins, &callers, counts, former)?;
        if !callers.are_known() {
            for name in origins.for_users() {
                tracing::warn!(
                    "https://{name}: `callers` names users, and beyond loopback no caller's user is \
                     known: no request goes there"
                );
            }
        }
        let tls = CallerTls::new(&options.tls, &options.listen)?;
        let upstream = upstream(options, origins.allowed())?;
        // A restart is needed to leave --intercept away.
        if options.intercept.is_some() || in_use.is_some_and(|in_use| in_use.intercepts) {
            let allowed = origins.allowed();
            allowed.check_interceptable().map_err(Failure::usage)?;
        }
        Ok(Self {
            callers,
            origins,
            upstream,
            tls,
        })
    }
}

pub(crate) struct Running {
    /// Where it listens, with the port that was chosen for 0.
    listening: Address,
    /// As [`Plan::callers`].
    callers: Callers,
    proxy: Arc<Proxy>,
    /// Where no tunnel leads.
    own: Vec<SocketAddr>,
    drain_timeout: Duration,
    tls: Option<Reloading>,
    serving: JoinHandle<()>,
    /// Of the local authority.
    keeping_up: Option<JoinHandle<()>>,
}

/// The TLS configuration in use, to be replaced.
struct Reloading {
    tls: TlsReloader,
    /// What it was made from. One reload at a time.
    inputs: Mutex<Inputs>,
    listening: SocketAddr,
}

impl Service for Running {
    type Options = EgressOptions;
    const METRICS: &'static MetricNames = &METRICS;

    async fn start(options: EgressOptions) -> Result<Self, Failure> {
        let counts = Arc::new(Counts::default());
        let plan = Plan::new(&options, &counts, None)?;
        let authority = open_authority(&options, plan.origins.allowed())?;
        let acceptor = plan.tls.as_ref().map(|callers| {
            let acceptor = Acceptor::new(callers.tls.clone());
            acceptor.observer(MetricsObserver)
        });
        let encrypted = acceptor.clone().map(|acceptor| serve::Tls {
            acceptor,
            idle_timeout: options.idle_timeout,
        });
        let callers = plan.callers;
        let mut listener = Listener::bind(&options.listen, &callers, encrypted).await?;
        let address = listener.tcp_address();
        let (certified, tls) = match (plan.tls, acceptor, address) {
            (Some(callers), Some(acceptor), Some(listening)) => {
                let reloading = Reloading {
                    tls: acceptor.reloader(),
                    inputs: Mutex::new(callers.inputs),
                    listening,
                };
                (callers.certified(listening), Some(reloading))
            }
            _ => (Certified::default(), None),
        };
        let mut own: Vec<SocketAddr> = address.into_iter().collect();
        if let Some(ListenAt::Tcp(admin)) = options.admin.admin {
            own.push(admin);
        }
        let settings = Settings {
            origins: plan.origins,
            upstream: plan.upstream,
            tunnels: tunnels(&options, &own),
            certified,
        };
        let patience = Patience {
            idle: options.idle_timeout,
            drain: options.drain_timeout,
            ..Patience::default()
        };
        let in_flight = InFlight::new(Self::METRICS);
        let proxy = Proxy::new(settings, patience, authority, None, counts, in_flight);
        let keeping_up = proxy
            .authority
            .clone()
            .map(|authority| tokio::spawn(async move { authority.keep_up().await }));
        let listening = listener.address().clone();
        let serving = {
            let (proxy, callers) = (proxy.clone(), callers.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = proxy.stopped() => {}
                    () = listener.serve(proxy.clone(), callers) => {}
                }
            })
        };
        Ok(Self {
            listening,
            callers,
            proxy,
            own,
            drain_timeout: options.drain_timeout,
            tls,
            serving,
            keeping_up,
        })
    }

    /// Open connections stay: each request is passed on by what is in use when it begins.
    async fn reload(&self, options: EgressOptions) -> Result<(), Failure> {
        let former = self.proxy.settings();
        let in_use = InUse {
            origins: &former.origins,
            callers: &self.callers,
            intercepts: self.proxy.authority.is_some(),
        };
        let plan = Plan::new(&options, &self.proxy.counts, Some(&in_use))?;
        let tls = match (&self.tls, plan.tls) {
            (Some(reloading), Some(callers)) => Some((reloading, callers)),
            (Some(_), None) => {
                return Err(Failure::usage(
                    "--listen-cert cannot be left away: the listener ends TLS until the egress is \
                     restarted",
                ));
            }
            // A restart is needed, and the log says so.
            (None, _) => None,
        };
        let allowed = plan.origins.allowed();
        if let Some(authority) = &self.proxy.authority {
            let names = allowed.iter().map(HostPort::host);
            let has_new_root = authority
                .be_for(names, SystemTime::now())
                .map_err(unusable)?;
            if has_new_root {
                tracing::warn!(
                    "other names are allowed: the local authority has a new root, which agents must \
                     read anew"
                );
            }
        }
        plan.origins.put_into_use()?;
        let certified = match tls {
            None => Certified::default(),
            Some((reloading, callers)) => {
                let mut former = reloading.inputs.lock().await;
                let certified = callers.certified(reloading.listening);
                if callers.inputs != *former {
                    // With another one no session from before can be resumed.
                    reloading.tls.replace(callers.tls);
                }
                *former = callers.inputs;
                certified
            }
        };
        former.origins.retire_for(&plan.origins);
        self.proxy.replace(Settings {
            origins: plan.origins,
            upstream: plan.upstream,
            tunnels: tunnels(&options, &self.own),
            certified,
        });
        Ok(())
    }

    fn introduce(&self, _: &EgressOptions) {
        let users = match self.callers.are_own() {
            true => "this user".to_owned(),
            false => self.callers.to_string(),
        };
        let whom = match &self.tls {
            None => format!("processes of {users}"),
            Some(tls) if tls.listening.ip().is_loopback() => {
                format!("processes of {users} with a certificate of --listen-client-ca")
            }
            Some(_) => "callers with a certificate of --listen-client-ca".to_owned(),
        };
        say(format_args!(
            "listening on {}, for {whom}: each of them can send requests with this identity",
            self.listening
        ));
    }

    fn in_flight(&self) -> &Arc<InFlight> {
        self.proxy.in_flight()
    }

    fn drain_timeout(&self) -> Duration {
        self.drain_timeout
    }

    fn stop(&self) {
        self.proxy.stop();
    }

    async fn finished(self) {
        // It panics only if serving did, which was reported then.
        let _ = self.serving.await;
        if let Some(keeping_up) = self.keeping_up {
            keeping_up.abort();
        }
        // What lasts longer ends with the process.
        let _ = timeout(self.drain_timeout, self.proxy.ended()).await;
        say(&self.proxy.counts);
    }
}

fn say(text: impl std::fmt::Display) {
    // A closed standard error cannot be told about.
    let _ = writeln!(std::io::stderr(), "bowline: {text}");
}

fn check_abstract(options: &EgressOptions) -> Result<(), Failure> {
    match &options.listen {
        Address::Abstract(name) if !options.abstract_socket => Err(Failure::usage(format!(
            "--listen unix:@{name}: an abstract socket has no permissions, and every process of this \
             network namespace can connect to it: add --abstract-socket if that is meant, or name a \
             path"
        ))),
        _ => Ok(()),
    }
}

fn callers_of(options: &EgressOptions) -> Result<Callers, Failure> {
    match &options.listen {
        Address::Tcp(at) if !at.ip().is_loopback() => match options.callers[..] {
            [] => Ok(Callers::unknown()),
            _ => Err(Failure::usage(format!(
                "--callers with --listen {at}: beyond loopback the kernel does not say which user a \
                 connection is of, so none can be named: leave --callers away, and name callers by \
                 their certificates, with --listen-client"
            ))),
        },
        _ => Callers::named(&options.callers).map_err(Failure::usage),
    }
}

fn upstream(options: &EgressOptions, allowed: &Allowed) -> Result<Option<HostPort>, Failure> {
    let Some(text) = &options.upstream else {
        return Ok(None);
    };
    let upstream = HostPort::from_origin(text)
        .map_err(|error| Failure::usage(format!("--upstream {text}: {error}")))?;
    match allowed.contains(&upstream) {
        true => Ok(Some(upstream)),
        false => Err(Failure::usage(format!(
            "--upstream {text}: it must be allowed, too: --allow {text}"
        ))),
    }
}

fn open_authority(
    options: &EgressOptions,
    allowed: &Allowed,
) -> Result<Option<Authority>, Failure> {
    let Some(dir) = &options.intercept else {
        return Ok(None);
    };
    let authority = Authority::open(dir, allowed.iter().map(HostPort::host));
    authority.map(Some).map_err(unusable)
}

fn unusable(error: AuthorityError) -> Failure {
    Failure::usage(format!("--intercept: {}", with_causes(&error)))
}

fn tunnels(options: &EgressOptions, own: &[SocketAddr]) -> TunnelPolicy {
    TunnelPolicy {
        others: options.others,
        port: Some(443),
        private_ranges: false,
        own: own.to_vec(),
    }
}
