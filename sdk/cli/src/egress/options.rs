//! The options of `bowline egress`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use super::address::Address;
use super::callers::User;
use super::origins::{self, OriginOptions};
use super::tls::TlsOptions;
use super::tunnels::Others;
use crate::ops::{AdminOptions, Configuration};
use crate::values::duration;

/// Give the requests of agents mutual TLS and proofs
#[derive(Clone, Debug, Args)]
pub(crate) struct EgressOptions {
    /// Where agents connect: ADDRESS:PORT, beyond loopback only with --listen-cert; unix:PATH, or
    /// unix:@NAME (abstract)
    #[arg(long, value_name = "ADDRESS", value_parser = Address::parse)]
    pub(super) listen: Address,
    /// Needed for unix:@NAME: such a socket has no permissions, so every process of this network
    /// namespace can connect, and only the user that the kernel names for it decides
    #[arg(long)]
    pub(super) abstract_socket: bool,
    /// The users whose processes may use this egress, such as uid:1001 (repeatable). Each of them can
    /// send requests with this identity. A Unix socket then has mode 0666, and is closed to all others
    /// by what the kernel says of the peer. Beyond loopback no user is known: see --listen-client
    /// [default: this process's own user]
    #[arg(long, value_name = "uid:NUMBER")]
    pub(super) callers: Vec<User>,
    #[command(flatten)]
    pub(super) origins: OriginOptions,
    /// The allowed origin that gets the requests that are sent to this egress as to a server
    #[arg(long, value_name = "ORIGIN")]
    pub(super) upstream: Option<String>,
    /// End the TLS of agents for allowed origins, so that they can use https:// URLs with this egress
    /// as their proxy. For that a local authority is made and kept in DIR: it may sign for the names
    /// of the allowed origins alone, for no address, and for 90 days. Agents must trust DIR/root.pem
    #[arg(long, value_name = "DIR")]
    pub(super) intercept: Option<PathBuf>,
    /// What happens to hosts that are not allowed; tunnels lead to port 443 and to no private range
    #[arg(long, value_enum, default_value = "refuse")]
    pub(super) others: Others,
    /// How long an agent's connection may have no request
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10m")]
    pub(super) idle_timeout: Duration,
    /// How long requests in flight may take when the egress ends
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "30s")]
    pub(super) drain_timeout: Duration,
    /// Only check the configuration and the files that it names
    #[arg(long)]
    pub(super) check: bool,
    #[command(flatten)]
    pub(super) tls: TlsOptions,
    #[command(flatten)]
    pub(super) admin: AdminOptions,
}

impl Configuration for EgressOptions {
    fn admin(&self) -> &AdminOptions {
        &self.admin
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files = origins::files(&self.origins);
        files.extend(self.tls.files().cloned());
        files
    }

    fn describe(&self) -> Map<String, Value> {
        let others = self.others.to_possible_value();
        let about = json!({
            "callers": self.callers.iter().map(User::to_string).collect::<Vec<_>>(),
            "origins": origins::describe(&self.origins),
            "caller_certificates": self.tls.are_given(),
            "upstream": self.upstream,
            "intercept": self.intercept,
            "others": others.map(|others| others.get_name().to_owned()),
        });
        match about {
            Value::Object(about) => about,
            _ => Map::new(),
        }
    }

    fn changed_but_fixed(&self, former: &Self) -> Vec<&'static str> {
        let fixed = |options: &Self| {
            [
                (
                    "--listen",
                    format!("{} {}", options.listen, options.tls.are_given()),
                ),
                ("--callers", format!("{:?}", options.callers)),
                ("--intercept", format!("{:?}", options.intercept)),
                ("--admin", format!("{:?}", options.admin)),
                ("--idle-timeout", format!("{:?}", options.idle_timeout)),
                ("--drain-timeout", format!("{:?}", options.drain_timeout)),
            ]
        };
        let pairs = fixed(self).into_iter().zip(fixed(former));
        pairs
            .filter(|((_, now), (_, then))| now != then)
            .map(|((name, _), _)| name)
            .collect()
    }
}
