//! What the command line says. Help texts, shell completions, man pages, `BOWLINE_…` variables and
//! the keys of the configuration file all come from these definitions.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::failure::Failure;
use crate::ingress;
use crate::pki::PkiCommand;

/// Binds OAuth access tokens to the TLS connection that they travel on, so that a stolen token is
/// of no use to a thief.
#[derive(Debug, Parser)]
#[command(
    name = "bowline",
    version,
    max_term_width = 100,
    arg_required_else_help = true
)]
#[command(after_help = "\
Each option can also be set by a variable (`--client-ca` by BOWLINE_CLIENT_CA) or in a TOML file
that --config names (`client-ca = \"ca.pem\"`). The command line wins over the variable, and the
variable over the file.

Exit status: 0 done, 1 failed, 2 wrong usage or configuration.")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) log: LogOptions,
    /// A TOML file with the options of the subcommand, each by its long name. A variable named like
    /// an option (--client-ca: BOWLINE_CLIENT_CA) wins over the file, the command line over both
    #[arg(
        long,
        global = true,
        help_heading = "Common options",
        value_name = "FILE",
        hide_env = true,
        env = "BOWLINE_CONFIG"
    )]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Call(Box<crate::call::CallOptions>),
    Inspect(crate::inspect::InspectOptions),
    /// Write a completion script for a shell to standard output
    #[command(
        after_help = "Example: bowline completions bash > ~/.local/share/bash-completion/completions/bowline"
    )]
    Completions {
        shell: Shell,
    },
    Ingress(Box<ingress::Options>),
    /// Write the man pages to a directory
    Man {
        /// Where to; it must exist
        dir: PathBuf,
    },
    /// Make certificates for development
    #[command(arg_required_else_help = true)]
    Pki {
        #[command(subcommand)]
        command: PkiCommand,
    },
    #[cfg(target_os = "linux")]
    #[command(after_help = "\
Agents of this user send `http://HOST/…` to it as their proxy, or, with --upstream, requests for
that origin as to a server, over HTTP/1.1 or HTTP/2 without TLS. With --intercept they can use
`https://HOST/…`, too. All of it leaves as `https`, over connections of `bowline`. With
--listen-cert the listener ends mutual TLS, and agents on other machines send the same within it.

Examples:
  # One origin, as a reverse proxy on a socket of this user.
  bowline egress --listen unix:/run/user/1000/egress.sock --allow https://mcp.example.com \\
    --upstream https://mcp.example.com --cert pki/client.pem --key pki/client.key

  # A proxy for https:// URLs; agents trust ~/.bowline/root.pem.
  bowline egress --listen 127.0.0.1:3128 --intercept ~/.bowline --config egress.toml

  # A server for agents on other machines, each with a certificate of agents-ca.pem.
  bowline egress --listen 0.0.0.0:8443 --listen-cert egress.pem --listen-key egress.key \
    --listen-client-ca agents-ca.pem --upstream https://mcp.example.com --config egress.toml

  # egress.toml: all options by their names, and a table for each origin with settings of its own.
  cert = \"pki/client.pem\"
  key = \"pki/client.key\"
  allow = [\"https://mcp.example.com\"]

  [[origin]]
  url = \"https://api.example.com\"
  proof-scope = \"adaptive\"
  request-bound = [\"DELETE *\", \"/admin/*\"]
  token = { source = \"oauth\", issuer = \"https://as.example.com\", client-id = \"agent\" }

The sources of tokens are caller (the default), file, oauth, refresh, dpop and exchange; the book's
page `Token sources` has each by example. With all but caller and exchange agents send no token.")]
    Egress(Box<crate::egress::options::EgressOptions>),
    /// Run an agent whose requests get mutual TLS and proofs, without a change to it
    #[cfg(target_os = "linux")]
    #[command(after_help = "\
The command gets a proxy on loopback, for this user alone, and the variables that make HTTP stacks
use and trust it. Requests to allowed origins leave over connections of `bowline`; other hosts are
passed through. The exit status is the command's, or 128 and the number of the signal that ended it.

Example:
  bowline run --allow https://mcp.example.com --cert pki/client.pem --key pki/client.key \\
    -- python agent.py")]
    Run(Box<crate::run::RunOptions>),
    #[cfg(target_os = "linux")]
    #[command(hide = true)]
    RunKeeper(crate::run::KeeperOptions),
}

/// How the log is written. It goes to standard error.
#[derive(Debug, Args)]
pub(crate) struct LogOptions {
    /// How log lines are written
    #[arg(
        long,
        global = true,
        help_heading = "Common options",
        value_enum,
        default_value = "human",
        env = "BOWLINE_LOG_FORMAT",
        hide_env = true
    )]
    pub(crate) log_format: LogFormat,
    /// What is logged: error, warn, info, debug, trace, or targets, as in `bowline_server=debug`
    #[arg(
        long,
        global = true,
        help_heading = "Common options",
        value_name = "LEVEL",
        default_value = "info",
        env = "BOWLINE_LOG_LEVEL",
        hide_env = true
    )]
    pub(crate) log_level: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people
    Human,
    /// A JSON object a line
    Json,
}

pub(crate) fn write_completions(shell: Shell) {
    clap_complete::generate(
        shell,
        &mut Arguments::command(),
        "bowline",
        &mut io::stdout(),
    );
}

pub(crate) fn write_man_pages(dir: &Path) -> Result<ExitCode, Failure> {
    clap_mangen::generate_to(Arguments::command(), dir).map_err(|error| {
        Failure::usage(format!(
            "man pages cannot be written to {}: {error}",
            dir.display()
        ))
    })?;
    Ok(ExitCode::SUCCESS)
}
