//! The options of `bowline call`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::secret::SecretAt;
use crate::values::ProofScope;

/// Send an HTTP request with a token, and prove it: curl for session-bound tokens
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bowline call https://localhost:8443/things --cacert ca.pem --cert client.pem --key client.key \\
      --token @token.txt
  bowline call https://localhost:8443/mcp -d @call.json -H 'content-type: application/json' -i -v …
  bowline call https://localhost:8443/ --repeat 1000 --http1.1 --stats json …

Proxies come from the environment, as for curl: https_proxy, all_proxy, no_proxy.

Exit status: 0 answered, 1 a request failed (or, with --fail, was answered with 400 or above),
2 wrong usage or configuration.")]
pub(crate) struct CallOptions {
    /// Where to; `https://` if it names no scheme
    pub(crate) url: String,

    /// The method; GET without this and without --data, POST with --data
    #[arg(short = 'X', long, value_name = "METHOD")]
    pub(crate) request: Option<String>,
    /// A header field; `@FILE` reads one from each line of a file
    #[arg(short = 'H', long, value_name = "FIELD|@FILE")]
    pub(crate) header: Vec<String>,
    /// The body, as it is; several are joined with `&`
    #[arg(short, long, value_name = "DATA|@FILE|@-")]
    pub(crate) data: Vec<String>,

    /// Write the body to a file; `-` is standard output. With --repeat, all bodies in turn
    #[arg(short, long, value_name = "FILE|-")]
    pub(crate) output: Option<PathBuf>,
    /// Write the response's head before its body
    #[arg(short, long)]
    pub(crate) include: bool,
    /// Show what was sent, and of each request its connection and its proof, on standard error
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// No progress bar, no summary, no word on a refusal; errors and warnings are still written
    #[arg(short, long)]
    pub(crate) silent: bool,
    /// A status of 400 or above is a failure: the body is left out, exit status 1
    #[arg(short, long)]
    pub(crate) fail: bool,

    /// The client certificate, PEM, with its chain
    #[arg(short = 'E', long, value_name = "FILE")]
    pub(crate) cert: Option<PathBuf>,
    /// Its private key, PEM; in the file of --cert unless this says otherwise
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// The authorities that the server's certificate may come from, PEM; the system's by default
    #[arg(long, value_name = "FILE")]
    pub(crate) cacert: Option<PathBuf>,
    /// The access token
    #[arg(long, value_name = "TOKEN|@FILE|-")]
    pub(crate) token: Option<SecretAt>,
    /// The key that a DPoP-bound token is bound to, PEM (PKCS #8)
    #[arg(long, value_name = "FILE")]
    pub(crate) dpop_key: Option<PathBuf>,
    /// What a session-binding proof covers
    #[arg(long, value_enum, default_value = "connection", value_name = "SCOPE")]
    pub(crate) proof_scope: ProofScope,

    /// Connect to this address for HOST and PORT
    #[arg(long, value_name = "HOST:PORT:ADDR[,ADDR]…")]
    pub(crate) resolve: Vec<String>,
    /// Connect to HOST2 and PORT2 for HOST1 and PORT1; an empty one stands for any, or the same
    #[arg(long, value_name = "HOST1:PORT1:HOST2:PORT2")]
    pub(crate) connect_to: Vec<String>,
    /// Offer HTTP/1.1 only
    #[arg(long = "http1.1", env = "BOWLINE_HTTP1_1", conflicts_with = "http2")]
    pub(crate) http1: bool,
    /// Offer HTTP/2 only
    #[arg(long)]
    pub(crate) http2: bool,
    /// How long each request may take in all, with its body
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) max_time: Option<std::time::Duration>,
    /// How long each of these may take: connecting, the proxy's answer, the TLS handshake
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) connect_timeout: Option<std::time::Duration>,

    /// Send the request this many times; bodies are discarded unless --output is given
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) repeat: u64,
    /// How many of them at a time
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) concurrency: u16,
    /// Write what was counted, as one JSON object, in the last line of standard output
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(crate) stats: Option<StatsFormat>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StatsFormat {
    /// One object in one line
    Json,
}

/// A number of seconds above zero, with or without a fraction.
fn seconds(text: &str) -> Result<std::time::Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "give a number of seconds, such as 2.5".to_owned())?;
    std::time::Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|time| !time.is_zero())
        .ok_or_else(|| "give a number of seconds above zero".to_owned())
}
