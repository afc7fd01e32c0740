//! The options of `bowline inspect`.

use std::path::PathBuf;

use clap::Args;

use crate::secret::SecretAt;

/// Explain a token, a proof, a challenge or a certificate, and check what can be checked
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bowline inspect @token.txt --cert client.pem --jwks jwks.json
  bowline inspect @proof.txt --cert client.pem --token @token.txt --exporter @exporter.txt
  bowline inspect 'Bearer error=\"use_session_binding\"'
  curl -si https://localhost:8443/ | grep -i ^www-authenticate | bowline inspect
  bowline inspect @client.pem --json

Exit status: 0 no check failed, 1 a check failed or the input cannot be read as any of these,
2 wrong usage or configuration.")]
pub(crate) struct InspectOptions {
    /// An access token, a session-binding proof, a DPoP proof, a WWW-Authenticate field, or a
    /// certificate (PEM or DER); `-`, the default, is standard input
    #[arg(value_name = "TOKEN|PROOF|CERT|CHALLENGE|@FILE|-", default_value = "-")]
    pub(crate) what: String,

    /// The client certificate that it belongs to, PEM or DER
    #[arg(short = 'E', long, value_name = "FILE")]
    pub(crate) cert: Option<PathBuf>,
    /// The access token that a proof goes with
    #[arg(long, value_name = "TOKEN|@FILE|-")]
    pub(crate) token: Option<SecretAt>,
    /// The exporter value of the connection, base64url or hex: a secret, like a token
    #[arg(long, value_name = "VALUE|@FILE|-")]
    pub(crate) exporter: Option<SecretAt>,
    /// The authorization server's keys, a JWK set, for a token's signature
    #[arg(long, value_name = "FILE")]
    pub(crate) jwks: Option<PathBuf>,
    /// The method of the request that a proof went with
    #[arg(short = 'X', long, value_name = "METHOD", requires = "url")]
    pub(crate) request: Option<String>,
    /// The URL of the request that a proof went with
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Write one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
