//! The ingress as a service: what watches it, reloads it, ends it, and tells how it is.

mod admin;
mod drain;
mod status;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use self::admin::Admin;
use self::drain::Ending;
use self::status::Status;
use self::watch::Watch;
use super::options::Options;
use super::serve::Running;
use crate::arguments::Command;
use crate::failure::Failure;
use crate::settings;

/// Serves until it is told to end.
pub(super) async fn run(options: Options) -> Result<ExitCode, Failure> {
    // First, so that no signal ends the process without a drain.
    let (mut ending, mut hangup) = (Ending::listen()?, drain::hangup()?);
    let status = Arc::new(Status::new());
    let admin = match &options.admin.admin {
        Some(at) => Some(Admin::start(at, status.clone()).await?),
        None => None,
    };
    let config = configured()?.1;
    let running = Running::start(options.clone()).await?;
    let mut service = Service {
        watch: Watch::start(&options, config.as_deref()),
        running,
        status,
    };
    let in_flight = service.running.in_flight().clone();
    service.status.began(&options, in_flight);
    tracing::info!(
        upstream = %options.upstream,
        policy = %options.policy.policy.name(),
        observe = options.policy.observe,
        "listening on {}",
        service.running.listening()
    );
    let signal = loop {
        tokio::select! {
            biased;
            signal = ending.signal() => break signal,
            _ = hangup.recv() => service.reload("SIGHUP").await,
            () = service.watch.changed() => service.reload("a file has changed").await,
        }
    };
    service.status.set_ready(false);
    let outcome = drain::drain(service.running, &mut ending, signal).await;
    if let Some(admin) = admin {
        admin.end();
    }
    outcome
}

struct Service {
    running: Running,
    status: Arc<Status>,
    watch: Watch,
}

impl Service {
    /// Reads everything anew. What cannot be used changes nothing, and the log says so.
    async fn reload(&mut self, why: &str) {
        let outcome = self.try_reload().await;
        match outcome {
            Ok(options) => {
                self.status.reloaded(&options);
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

    async fn try_reload(&mut self) -> Result<Options, Failure> {
        let (options, config) = configured()?;
        // Before the files are read: what changes during that is seen afterwards.
        self.watch.look_at(&options, config.as_deref());
        let former = self.running.options().await;
        self.running.reload(options.clone()).await?;
        let fixed = options.changed_but_fixed(&former);
        if !fixed.is_empty() {
            tracing::warn!("{} changed: a restart is needed for that", fixed.join(", "));
        }
        Ok(options)
    }
}

/// The options as the command line, the variables and the file say now, and that file.
fn configured() -> Result<(Options, Option<PathBuf>), Failure> {
    let arguments = settings::read(std::env::args_os())?;
    match arguments.command {
        Command::Ingress(options) => Ok((*options, arguments.config)),
        _ => unreachable!("this is `bowline ingress`"),
    }
}
