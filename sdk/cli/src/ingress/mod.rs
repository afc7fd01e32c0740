//! `bowline ingress`: ends mutual TLS, verifies the binding of tokens, and passes requests on
//! (GW-1, GW-2, GW-4).

mod access;
pub(crate) mod certificate;
pub(crate) mod inputs;
mod metadata;
mod nodes;
mod options;
mod plan;
mod proxy;
mod serve;
mod tokens;

use std::process::ExitCode;

pub(crate) use self::options::Options;
use self::plan::{Memory, Plan};
use self::serve::Running;
use crate::failure::Failure;
use crate::ops::{self, Configured};
use crate::values::ListenAt;

/// Serves until it is told to end, or only checks. `again` reads the options as they are to be now.
pub(crate) fn run(
    options: Options,
    again: impl Fn() -> Result<Configured<Options>, Failure>,
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

fn check(options: &Options) -> Result<ExitCode, Failure> {
    plan::connection_limits(&options.limits)?;
    let port = match &options.listen {
        ListenAt::Tcp(addr) => Some(addr.port()),
        ListenAt::Unix(_) => None,
    };
    Plan::new(options, port, &Memory::new(), None)?;
    tracing::info!("the configuration can be used");
    Ok(ExitCode::SUCCESS)
}
