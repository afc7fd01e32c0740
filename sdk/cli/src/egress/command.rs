//! `bowline egress`: an egress for the agents of this user.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::counts::{Counts, Report};
use super::names::Allowed;
use super::proxy::{Patience, Proxy};
use super::serve::{Address, Listener};
use super::tunnels::{Others, TunnelPolicy};
use super::{OriginOptions, is_behind_proxy};
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct EgressOptions {
    /// Where agents connect: ADDRESS:PORT on loopback, or unix:PATH
    #[arg(long, value_name = "ADDRESS", value_parser = Address::parse)]
    listen: Address,
    #[command(flatten)]
    origins: OriginOptions,
    /// The allowed origin that gets the requests that are sent to this egress as to a server
    #[arg(long, value_name = "ORIGIN")]
    upstream: Option<String>,
    /// What happens to hosts that are not allowed; tunnels lead to port 443 and to no private range
    #[arg(long, value_enum, default_value = "refuse")]
    others: Others,
}

pub(crate) fn run(options: &EgressOptions) -> Result<ExitCode, Failure> {
    let failed = |error: std::io::Error| Failure::failed(error);
    let allowed = options.origins.allowed()?;
    let upstream = match &options.upstream {
        None => None,
        Some(text) => {
            let one = Allowed::parse([text.as_str()])
                .map_err(|error| Failure::usage(error.replace("--allow", "--upstream")))?;
            let upstream = one.iter().next().cloned().expect("one was parsed");
            if !allowed.contains(&upstream) {
                let message = format!("--upstream {text}: it must be allowed, too: --allow {text}");
                return Err(Failure::usage(message));
            }
            Some(upstream)
        }
    };
    let client = options.origins.client()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    runtime.block_on(async {
        let listener = Listener::bind(&options.listen).await?;
        let proxy = Arc::new(Proxy {
            client,
            allowed,
            authority: None,
            upstream,
            tunnels: TunnelPolicy {
                others: options.others,
                port: Some(443),
                private_ranges: false,
                own: listener.tcp_address().into_iter().collect(),
            },
            credential: None,
            behind_proxy: is_behind_proxy(),
            patience: Patience::default(),
            counts: Counts::default(),
        });
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut out = std::io::stderr();
        let listening = match (&options.listen, listener.tcp_address()) {
            (_, Some(address)) => address.to_string(),
            (Address::Unix(path), None) => format!("unix:{}", path.display()),
            (Address::Tcp(address), None) => address.to_string(),
        };
        // A closed standard error cannot be told about.
        let _ = writeln!(
            out,
            "bowline: listening on {listening}, for processes of this user: each of them can send \
             requests with this identity"
        );
        tokio::select! {
            () = listener.serve(proxy.clone()) => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        let (counts, client) = (&proxy.counts, &proxy.client.stats());
        let _ = writeln!(out, "bowline: {}", Report { counts, client });
        Ok(ExitCode::SUCCESS)
    })
}
