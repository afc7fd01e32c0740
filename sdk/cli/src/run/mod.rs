//! `bowline run`: an egress for one command, which is given an environment that leads through it.

mod bundle;
mod directory;
mod environment;
mod handover;
mod java;
mod keeper;
mod processes;
mod stacks;

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::SystemTime;

use clap::Args;
use rustix::process::{Pid, getpid, kill_process};
use std::os::unix::process::ExitStatusExt;

use self::bundle::Bundles;
use self::directory::PrivateDirectory;
pub(crate) use self::keeper::{KeeperOptions, run as keep};
use crate::causes::with_causes;
use crate::egress::authority::Authority;
use crate::egress::callers::{self, Callers};
use crate::egress::counts::Counts;
use crate::egress::credential::Credential;
use crate::egress::names::HostPort;
use crate::egress::origins::{OriginOptions, Origins};
use crate::egress::proxy::{METRICS, Patience, Proxy, Settings};
use crate::egress::serve::Listener;
use crate::egress::tls::Certified;
use crate::egress::tunnels::{Others, TunnelPolicy};
use crate::failure::Failure;
use crate::ops::access::InFlight;

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
    /// Also set JAVA_TOOL_OPTIONS: Java's own HTTP clients read no proxy variables, but
    /// -Dhttps.proxyHost and -Djavax.net.ssl.trustStore there. Each Java process says so on standard
    /// error, and trusts what this machine trusts in place of Java's own list
    #[arg(long)]
    java: bool,
    /// Put a random password into the proxy's URL, so that of this user's processes only those use
    /// it that were given the command's variables. Without it, all of this user's can; where the
    /// kernel does not say whose a connection is, it is always set. Java does not send it
    #[arg(long)]
    credential: bool,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(crate) fn run(options: &RunOptions) -> Result<ExitCode, Failure> {
    let failed = |error: std::io::Error| Failure::failed(error);
    let counts = Arc::new(Counts::default());
    let origins = Origins::new(&options.origins, &Callers::own(), &counts, None)?;
    let allowed = origins.allowed().clone();
    allowed.check_interceptable().map_err(Failure::usage)?;
    let authority = Authority::new(allowed.iter().map(HostPort::host))
        .map_err(|error| Failure::failed(with_causes(&error)))?;
    let inherited: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    // Honours SSL_CERT_FILE and SSL_CERT_DIR.
    let machine = rustls_native_certs::load_native_certs();
    for error in &machine.errors {
        tracing::warn!("the machine's certificate authorities: {error}");
    }
    let bundles = Bundles::new(&inherited, &machine.certs, &authority.root())?;
    let root = authority.root().clone();
    let credential = match options.credential || !callers::are_told() {
        true => Some(Credential::new().map_err(failed)?),
        false => None,
    };
    if options.java && credential.is_some() {
        return Err(Failure::usage(
            "Java does not send the password in a proxy's URL: leave --java or --credential away",
        ));
    }
    let directory = PrivateDirectory::new()
        .map_err(|error| Failure::failed(format!("a private directory: {error}")))?;
    for (variable, text) in &bundles.0 {
        directory
            .write(&bundle::file_name(variable), text)
            .map_err(failed)?;
    }
    if options.java {
        let trusted = machine.certs.iter().chain([&root]).collect::<Vec<_>>();
        let store = java::trust_store(trusted.into_iter(), SystemTime::now());
        directory.write(java::STORE, &store).map_err(failed)?;
    }
    processes::adopt_orphans().map_err(|error| failed(error.into()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    let ended = runtime.block_on(async {
        let mut listener = Listener::bind_tcp(([127, 0, 0, 1], 0).into()).await?;
        let address = listener.tcp_address().expect("a TCP listener");
        let port = listener.held().map_err(failed)?;
        let url = match &credential {
            Some(credential) => credential.url(address),
            None => format!("http://{address}"),
        };
        let settings = Settings {
            origins,
            upstream: None,
            tunnels: TunnelPolicy {
                others: options.others,
                port: None,
                private_ranges: true,
                own: vec![address],
            },
            certified: Certified::default(),
        };
        let in_flight = InFlight::without_log(&METRICS);
        let patience = Patience::default();
        let proxy = Proxy::new(
            settings,
            patience,
            Some(authority),
            credential,
            counts,
            in_flight,
        );
        let files = |name: &str| directory.path().join(bundle::file_name(name)).into();
        let mut changes = environment::changes(&inherited, &url, &allowed, files);
        if options.java {
            let store = directory.path().join(java::STORE);
            let value = java::options(&inherited, address, &store, &allowed)?;
            changes.insert(java::VARIABLE.to_owned(), Some(value));
        }
        introduce(options, &proxy.settings().origins);
        let serving = {
            let proxy = proxy.clone();
            tokio::spawn(async move { listener.serve(proxy, Callers::own()).await })
        };
        let status = command(&options.command, changes, port.as_fd()).await;
        serving.abort();
        status.map(|status| (status, proxy, port))
    });
    // Nothing that the command has left may go on with the environment of a proxy that is gone.
    processes::end_all_below(ended.is_err());
    // Until here no other process could take the port.
    let (status, proxy, _port) = ended?;
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
    port: BorrowedFd<'_>,
) -> Result<ExitStatus, Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("the command: {error}"));
    // Caught before there is a command, so that none is lost.
    let mut signals = keeper::Signals::catch().map_err(failed)?;
    let socket = handover::give(std::io::stdin().as_fd(), port).map_err(failed)?;
    let mut keeper = tokio::process::Command::new("/proc/self/exe");
    keeper
        .arg0("bowline")
        .stdin(Stdio::from(OwnedFd::from(socket)))
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

fn introduce(options: &RunOptions, origins: &Origins) {
    let names = origins.allowed().iter();
    let names: Vec<String> = names.map(|name| format!("https://{name}")).collect();
    let secrets = origins.secrets().join(", ");
    let and_tokens = match origins.have_tokens() {
        true => ", with the tokens that it gives them,",
        false => ",",
    };
    say(format_args!(
        "requests to {} leave with a client certificate, and bound tokens with a proof: a token that \
         leaks is of no use on another connection",
        names.join(", ")
    ));
    say(format_args!(
        "this is no sandbox: whatever runs as this user can send requests through this proxy while \
         it runs{and_tokens} and can read {secrets} if you can"
    ));
    if let Some(warning) = stacks::warning(&options.command, options.java) {
        say(warning);
    }
}

fn conclude(options: &RunOptions, proxy: &Proxy) {
    let counts = &proxy.counts;
    if options.stats {
        say(counts);
    }
    if counts.requests.get() == 0 && counts.intercepted.get() == 0 {
        say(
            "no request to an allowed origin came through: the command made none, or it heeds no \
             proxy variables",
        );
    }
}
