//! `bowline run`: an egress for one command, which is given an environment that leads through it.

mod bundle;
mod directory;
mod environment;
mod keeper;
mod processes;

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::Path;
use std::process::{ExitCode, ExitStatus};
use std::sync::Arc;

use clap::Args;
use rustix::process::{Pid, getpid, kill_process};
use std::os::unix::process::ExitStatusExt;

use self::bundle::Bundles;
use self::directory::PrivateDirectory;
pub(crate) use self::keeper::{KeeperOptions, run as keep};
use crate::causes::with_causes;
use crate::egress::authority::Authority;
use crate::egress::counts::{Counts, Report};
use crate::egress::names::{Allowed, HostPort};
use crate::egress::proxy::{Patience, Proxy};
use crate::egress::serve::{Address, Listener};
use crate::egress::tunnels::{Others, TunnelPolicy};
use crate::egress::{OriginOptions, is_behind_proxy};
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct RunOptions {
    #[command(flatten)]
    origins: OriginOptions,
    /// What happens to hosts that are not allowed
    #[arg(long, value_enum, default_value = "tunnel")]
    others: Others,
    /// Say at the end how many connections, requests and signatures there were
    #[arg(long)]
    stats: bool,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(crate) fn run(options: &RunOptions) -> Result<ExitCode, Failure> {
    let failed = |error: std::io::Error| Failure::failed(error);
    let allowed = options.origins.allowed()?;
    let client = options.origins.client()?;
    let authority = Authority::new(allowed.iter().map(HostPort::host))
        .map_err(|error| Failure::failed(with_causes(&error)))?;
    let inherited: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    // Honours SSL_CERT_FILE and SSL_CERT_DIR.
    let machine = rustls_native_certs::load_native_certs();
    for error in &machine.errors {
        tracing::warn!("the machine's certificate authorities: {error}");
    }
    let bundles = Bundles::new(&inherited, &machine.certs, authority.root())?;
    let directory = PrivateDirectory::new()
        .map_err(|error| Failure::failed(format!("a private directory: {error}")))?;
    for (variable, text) in &bundles.0 {
        directory
            .write(&bundle::file_name(variable), text)
            .map_err(failed)?;
    }
    processes::adopt_orphans().map_err(|error| failed(error.into()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    let ended = runtime.block_on(async {
        let any = Address::Tcp(([127, 0, 0, 1], 0).into());
        let listener = Listener::bind(&any).await?;
        let address = listener.tcp_address().expect("a TCP listener");
        let proxy = Arc::new(Proxy {
            client,
            allowed,
            authority: Some(authority),
            upstream: None,
            tunnels: TunnelPolicy {
                others: options.others,
                port: None,
                private_ranges: true,
                own: vec![address],
            },
            credential: None,
            behind_proxy: is_behind_proxy(),
            patience: Patience::default(),
            counts: Counts::default(),
        });
        introduce(options, &proxy.allowed);
        let files = |name: &str| directory.path().join(bundle::file_name(name)).into();
        let url = format!("http://{address}");
        let changes = environment::changes(&inherited, &url, &proxy.allowed, files);
        let serving = {
            let proxy = proxy.clone();
            tokio::spawn(async move { listener.serve(proxy).await })
        };
        let status = command(&options.command, changes).await;
        serving.abort();
        status.map(|status| (status, proxy))
    });
    // Nothing that the command has left may go on with the environment of a proxy that is gone.
    processes::end_all_below(ended.is_err());
    let (status, proxy) = ended?;
    conclude(options, &proxy);
    runtime.shutdown_background();
    let signal = status.signal().map(|signal| 128 + signal);
    let code = status.code().or(signal).unwrap_or(255);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(255)))
}

/// Runs the command below its keeper, to its end.
async fn command(
    command: &[OsString],
    changes: environment::Changes,
) -> Result<ExitStatus, Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("the command: {error}"));
    // Caught before there is a command, so that none is lost.
    let mut signals = keeper::Signals::catch().map_err(failed)?;
    let mut keeper = tokio::process::Command::new("/proc/self/exe");
    keeper
        .arg0("bowline")
        .arg("run-keeper")
        .arg(format!("--parent={}", getpid().as_raw_nonzero()))
        .arg("--")
        .args(command);
    for (name, value) in changes {
        match value {
            Some(value) => keeper.env(name, value),
            None => keeper.env_remove(name),
        };
    }
    let mut keeper = keeper.spawn().map_err(failed)?;
    let pid = keeper.id().and_then(|id| i32::try_from(id).ok());
    let pid = pid.and_then(Pid::from_raw).expect("a process id");
    loop {
        tokio::select! {
            status = keeper.wait() => return status.map_err(failed),
            signal = signals.next() => {
                let _ = kill_process(pid, signal);
            }
        }
    }
}

fn say(text: impl std::fmt::Display) {
    // A closed standard error cannot be told about.
    let _ = writeln!(std::io::stderr(), "bowline: {text}");
}

fn introduce(options: &RunOptions, allowed: &Allowed) {
    let origins: Vec<String> = allowed
        .iter()
        .map(|name| format!("https://{name}"))
        .collect();
    let (cert, key) = (
        options.origins.cert.display(),
        options.origins.key.display(),
    );
    say(format_args!(
        "requests to {} leave with {cert}, and bound tokens with a proof: a token that leaks is of \
         no use on another connection",
        origins.join(", ")
    ));
    say(format_args!(
        "this is no sandbox: whatever runs as this user can send requests through this proxy while \
         it runs, and can read {key} if you can"
    ));
    if let Some(version) = old_node(&options.command) {
        say(format_args!(
            "Node.js {version} heeds no proxy variables but in axios and grpc-js: use Node.js 22.21, \
             24 or later"
        ));
    }
}

fn conclude(options: &RunOptions, proxy: &Proxy) {
    let counts = &proxy.counts;
    if options.stats {
        let client = &proxy.client.stats();
        say(Report { counts, client });
    }
    if counts.requests.get() == 0 && counts.intercepted.get() == 0 {
        say(
            "no request to an allowed origin came through: the command made none, or it heeds no \
             proxy variables",
        );
    }
}

/// The version of Node.js, if it runs the command and is one that heeds no proxy variables.
fn old_node(command: &[OsString]) -> Option<String> {
    let program = command.first()?;
    let name = Path::new(program).file_name().and_then(OsStr::to_str)?;
    let node: &OsStr = match name {
        "node" | "nodejs" => program,
        "npm" | "npx" | "pnpm" | "yarn" | "tsx" => OsStr::new("node"),
        _ => return None,
    };
    let output = std::process::Command::new(node)
        .arg("--version")
        .output()
        .ok()?;
    let version = String::from_utf8(output.stdout).ok()?;
    let version = version.trim().trim_start_matches('v');
    let major: u32 = version.split('.').next()?.parse().ok()?;
    (major < 22).then(|| version.to_owned())
}
