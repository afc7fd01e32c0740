//! A `bowline egress` that serves.

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::authority::{Authority, AuthorityError};
use super::callers::Callers;
use super::counts::Counts;
use super::names::{Allowed, HostPort};
use super::options::EgressOptions;
use super::origins::Origins;
use super::proxy::{METRICS, Proxy, Settings};
use super::serve::{Address, Listener};
use super::tunnels::TunnelPolicy;
use crate::causes::with_causes;
use crate::failure::Failure;
use crate::ops::access::InFlight;
use crate::ops::metric_names::MetricNames;
use crate::ops::{self, Configured, Service};
use crate::values::ListenAt;

/// Serves until it is told to end. `again` reads the options as they are to be now.
pub(crate) fn run(
    options: EgressOptions,
    again: impl Fn() -> Result<Configured<EgressOptions>, Failure>,
) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    runtime.block_on(ops::run::<Running>(options, again))
}

pub(crate) struct Running {
    /// Where it listens, with the port that was chosen for 0.
    listening: Address,
    /// Who may use it.
    callers: Callers,
    proxy: Arc<Proxy>,
    /// Where no tunnel leads.
    own: Vec<SocketAddr>,
    drain_timeout: Duration,
    serving: JoinHandle<()>,
    /// Of the local authority.
    keeping_up: Option<JoinHandle<()>>,
}

impl Service for Running {
    type Options = EgressOptions;
    const METRICS: &'static MetricNames = &METRICS;

    async fn start(options: EgressOptions) -> Result<Self, Failure> {
        check_abstract(&options)?;
        let counts = Arc::new(Counts::default());
        let callers = Callers::named(&options.callers).map_err(Failure::usage)?;
        let origins = Origins::new(&options.origins, &callers, &counts, None)?;
        let upstream = upstream(&options, origins.allowed())?;
        let authority = open_authority(&options, origins.allowed())?;
        let listener = Listener::bind(&options.listen, &callers).await?;
        let mut own: Vec<SocketAddr> = listener.tcp_address().into_iter().collect();
        if let Some(ListenAt::Tcp(admin)) = options.admin.admin {
            own.push(admin);
        }
        let settings = Settings {
            origins,
            upstream,
            tunnels: tunnels(&options, &own),
        };
        let in_flight = InFlight::new(Self::METRICS);
        let proxy = Proxy::new(settings, authority, None, counts, in_flight);
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
            serving,
            keeping_up,
        })
    }

    /// Open connections stay: each request is passed on by what is in use when it begins.
    async fn reload(&self, options: EgressOptions) -> Result<(), Failure> {
        let former = self.proxy.settings();
        let (callers, counts) = (&self.callers, &self.proxy.counts);
        let origins = Origins::new(&options.origins, callers, counts, Some(&former.origins))?;
        let allowed = origins.allowed();
        let upstream = upstream(&options, allowed)?;
        if let Some(authority) = &self.proxy.authority {
            allowed.check_interceptable().map_err(Failure::usage)?;
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
        origins.put_into_use()?;
        former.origins.retire_for(&origins);
        self.proxy.replace(Settings {
            origins,
            upstream,
            tunnels: tunnels(&options, &self.own),
        });
        Ok(())
    }

    fn introduce(&self, _: &EgressOptions) {
        let users = match self.callers.are_own() {
            true => "this user".to_owned(),
            false => self.callers.to_string(),
        };
        say(format_args!(
            "listening on {}, for processes of {users}: each of them can send requests with this \
             identity",
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
    allowed.check_interceptable().map_err(Failure::usage)?;
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
