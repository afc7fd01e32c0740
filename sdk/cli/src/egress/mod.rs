//! The egress: a proxy on this machine that gives an unmodified agent's requests mutual TLS and
//! session-binding proofs (GW-5, GW-6, GW-7).

pub(crate) mod answer;
pub(crate) mod authority;
pub(crate) mod body;
pub(crate) mod callers;
pub(crate) mod command;
pub(crate) mod counts;
pub(crate) mod credential;
pub(crate) mod fields;
pub(crate) mod names;
pub(crate) mod proxy;
mod refused;
pub(crate) mod serve;
pub(crate) mod splice;
pub(crate) mod tunnels;

use std::path::PathBuf;

use bowline::{Client, Identity, Trust};
use clap::Args;

use self::names::Allowed;
use crate::failure::Failure;

/// What both `bowline run` and `bowline egress` are told.
#[derive(Debug, Args)]
pub(crate) struct OriginOptions {
    /// An origin that gets the certificate and proofs, such as https://mcp.example.com; can be
    /// repeated
    #[arg(long, value_name = "ORIGIN", required = true)]
    pub(crate) allow: Vec<String>,
    /// The client certificate with its chain, PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) cert: PathBuf,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// The authorities that the origins' certificates come from, PEM; without it, those that this
    /// machine trusts
    #[arg(long, value_name = "FILE")]
    pub(crate) cacert: Option<PathBuf>,
}

impl OriginOptions {
    pub(crate) fn allowed(&self) -> Result<Allowed, Failure> {
        Allowed::parse(self.allow.iter().map(String::as_str)).map_err(Failure::usage)
    }

    /// Reads the key, and first sees to it that no other process of this user reads it from here.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|error| {
            Failure::failed(format!("this process cannot be made non-dumpable: {error}"))
        })?;
        let wrong = |error: bowline::Error| Failure::usage(error);
        let identity = Identity::from_pem_files(&self.cert, &self.key).map_err(wrong)?;
        let trust = match &self.cacert {
            Some(path) => Trust::from_pem_file(path).map_err(wrong)?,
            None => Trust::platform(),
        };
        let builder = Client::builder().identity(identity).trust(trust);
        builder.build().map_err(wrong)
    }
}

/// Whether the environment names a proxy for `https`.
pub(crate) fn is_behind_proxy() -> bool {
    ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}
