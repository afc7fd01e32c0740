//! What the ingress and the egress have in common as services: a configuration that is read anew when
//! it changes, an end that lets requests finish, an admin listener, a line for each request.
//!
//! - [`Service`]: what each of them is, seen from here;
//! - [`run`]: its life, from the first reading of its options to its end;
//! - [`access`]: the lines, and how many requests are under way.

pub(crate) mod access;
mod admin;
mod drain;
pub(crate) mod metric_names;
pub(crate) mod socket;
mod status;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::{Map, Value};

use self::access::InFlight;
use self::admin::Admin;
use self::drain::Ending;
use self::metric_names::MetricNames;
use self::status::Status;
use self::watch::Watch;
use crate::failure::Failure;
use crate::values::ListenAt;

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Operation")]
pub(crate) struct AdminOptions {
    /// Where to serve /healthz, /readyz, /metrics and /stats, without TLS. Best a Unix socket, which
    /// this user alone can reach; /stats is there only [default: nowhere]
    #[arg(long, value_name = "unix:PATH|ADDR:PORT")]
    pub(crate) admin: Option<ListenAt>,
}

/// What a service is configured by.
pub(crate) trait Configuration: Clone {
    fn admin(&self) -> &AdminOptions;
    /// The files that they name, and that are watched.
    fn files(&self) -> Vec<PathBuf>;
    /// For `/stats`.
    fn describe(&self) -> Map<String, Value>;
    /// Which options differ from `former` and are read at the start only.
    fn changed_but_fixed(&self, former: &Self) -> Vec<&'static str>;
}

/// A service that listens.
pub(crate) trait Service: Sized {
    type Options: Configuration;
    const METRICS: &'static MetricNames;

    /// Starts to serve.
    ///
    /// # Errors
    /// The configuration cannot be used, or the address cannot be listened on.
    async fn start(options: Self::Options) -> Result<Self, Failure>;

    /// Puts these options and the files that they name into use, all or none of them.
    ///
    /// # Errors
    /// They cannot be used: the former ones stay in use.
    async fn reload(&self, options: Self::Options) -> Result<(), Failure>;

    /// Says where it listens, and how it is set.
    fn introduce(&self, options: &Self::Options);

    /// The requests under way.
    fn in_flight(&self) -> &Arc<InFlight>;

    /// How long draining may take.
    fn drain_timeout(&self) -> Duration;

    /// Stops listening and drains.
    fn stop(&self);

    /// Completes when it has ended, after [`stop`](Self::stop).
    async fn finished(self);
}

/// Options, and the file that some of them came from.
pub(crate) struct Configured<O> {
    pub(crate) options: O,
    pub(crate) file: Option<PathBuf>,
}

/// Serves until it is told to end. `again` reads the options as they are to be now.
pub(crate) async fn run<S: Service>(
    options: S::Options,
    again: impl Fn() -> Result<Configured<S::Options>, Failure>,
) -> Result<ExitCode, Failure> {
    // First, so that no signal ends the process without a drain.
    let (mut ending, mut hangup) = (Ending::listen()?, drain::hangup()?);
    let status = Arc::new(Status::new(S::METRICS));
    let admin = match &options.admin().admin {
        Some(at) => Some(Admin::start(at, status.clone()).await?),
        None => None,
    };
    let config = again()?.file;
    // Before the files are read: what changes during that is seen afterwards.
    let watch = Watch::start(&options.files(), config.as_deref());
    let service = S::start(options.clone()).await?;
    status.began(options.describe(), service.in_flight().clone());
    service.introduce(&options);
    let mut life = Life {
        watch,
        service,
        options,
        status,
    };
    let signal = loop {
        tokio::select! {
            biased;
            signal = ending.signal() => break signal,
            _ = hangup.recv() => life.reload(&again, "SIGHUP").await,
            () = life.watch.changed() => life.reload(&again, "a file has changed").await,
        }
    };
    life.status.set_ready(false);
    let outcome = drain::drain(life.service, &mut ending, signal).await;
    if let Some(admin) = admin {
        admin.end();
    }
    outcome
}

struct Life<S: Service> {
    service: S,
    /// Those in use.
    options: S::Options,
    status: Arc<Status>,
    watch: Watch,
}

impl<S: Service> Life<S> {
    /// Reads everything anew. What cannot be used changes nothing, and the log says so.
    async fn reload(
        &mut self,
        again: &impl Fn() -> Result<Configured<S::Options>, Failure>,
        why: &str,
    ) {
        match self.try_reload(again).await {
            Ok(()) => {
                self.status.reloaded(self.options.describe());
                tracing::info!("reloaded ({why})");
            }
            Err(failure) => {
                let reason = failure.line();
                tracing::error!(
                    "not reloaded ({why}), the former configuration stays in use: {reason}"
                );
                self.status.not_reloaded(reason);
            }
        }
    }

    async fn try_reload(
        &mut self,
        again: &impl Fn() -> Result<Configured<S::Options>, Failure>,
    ) -> Result<(), Failure> {
        let Configured { options, file } = again()?;
        // As at the start.
        self.watch.look_at(&options.files(), file.as_deref());
        self.service.reload(options.clone()).await?;
        let fixed = options.changed_but_fixed(&self.options);
        if !fixed.is_empty() {
            tracing::warn!("{} changed: a restart is needed for that", fixed.join(", "));
        }
        self.options = options;
        Ok(())
    }
}
