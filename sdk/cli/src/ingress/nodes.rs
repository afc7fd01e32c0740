//! What several nodes of one service share: secrets, and a store of used proofs.

use bowline::server::{
    AcceptPolicy, Identity, NodeSecrets, RedisErrorKind, RedisReplayStore, RedisServer, Trust,
};

use super::options::{NodeOptions, Options};
use crate::causes::with_causes;
use crate::failure::Failure;
use crate::secret;

/// A connection has more steps than an insertion.
const CONNECT_FACTOR: u32 = 4;

/// As the options and their files say.
pub(crate) struct Nodes {
    pub(crate) secrets: Option<NodeSecrets>,
    /// Where used proofs are stored, if not in the memory of this process.
    pub(crate) store: Option<RedisServer>,
}

impl Nodes {
    /// Reads every file that the options name. Nothing is connected to.
    ///
    /// # Errors
    /// What cannot be used, does nothing, or lacks a part.
    pub(crate) fn read(options: &Options) -> Result<Self, Failure> {
        refuse_what_does_nothing(options)?;
        let nodes = &options.nodes;
        let secrets = match &nodes.node_secrets {
            Some(path) => Some(NodeSecrets::from_file(path).map_err(|error| {
                Failure::usage(format!("--node-secrets: {}", with_causes(&error)))
            })?),
            None => None,
        };
        Ok(Self {
            secrets,
            store: server(nodes)?,
        })
    }

    /// Starts the store, if one is configured. It also starts while Redis cannot be reached.
    ///
    /// # Errors
    /// Redis was reached, and cannot be used.
    pub(crate) async fn start_store(
        self,
        options: &NodeOptions,
    ) -> Result<Option<RedisReplayStore>, Failure> {
        let (Some(server), Some(secrets)) = (self.store, self.secrets) else {
            return Ok(None);
        };
        let limit = options.replay_store_timeout;
        let store = RedisReplayStore::builder(server, secrets)
            .capacity(options.replay_store_capacity)
            .command_timeout(limit)
            .connect_timeout(limit.saturating_mul(CONNECT_FACTOR));
        let started = store.start().await.map_err(|error| {
            let text = format!("--replay-store: {}", with_causes(&error));
            match error.kind() {
                RedisErrorKind::Configuration => Failure::usage(text),
                _ => Failure::failed(text),
            }
        })?;
        Ok(Some(started))
    }
}

fn refuse_what_does_nothing(options: &Options) -> Result<(), Failure> {
    let (nodes, policy) = (&options.nodes, &options.policy);
    if nodes.replay_store.is_none() {
        for (option, is_given) in [
            (
                "--replay-store-password",
                nodes.replay_store_password.is_some(),
            ),
            ("--replay-store-ca", nodes.replay_store_ca.is_some()),
            ("--replay-store-cert", nodes.replay_store_cert.is_some()),
            ("--replay-store-key", nodes.replay_store_key.is_some()),
        ] {
            if is_given {
                return Err(Failure::usage(format!(
                    "{option} has no effect without --replay-store: leave it away"
                )));
            }
        }
        if nodes.node_secrets.is_some() && !policy.dpop_nonces {
            return Err(Failure::usage(
                "--node-secrets has no effect without --replay-store or --dpop-nonces: leave it \
                 away",
            ));
        }
        return Ok(());
    }
    if nodes.node_secrets.is_none() {
        return Err(Failure::usage(
            "--replay-store needs --node-secrets: without secrets in common the nodes do not find \
             one another's used proofs; make a file by `openssl rand -base64 32`, the same on each \
             node, mode 0600",
        ));
    }
    if AcceptPolicy::from(policy.policy).proves_every_request() && policy.trust_proxy.is_empty() {
        return Err(Failure::usage(
            "--replay-store has no effect: a session-bound proof passes on one connection only, so \
             its `jti` needs no store (RS-9); leave it away, or use --policy follow or \
             require-bound (DPoP), or --trust-proxy",
        ));
    }
    if nodes.replay_store_capacity == 0 {
        return Err(Failure::usage("--replay-store-capacity is 1 at least"));
    }
    Ok(())
}

fn server(options: &NodeOptions) -> Result<Option<RedisServer>, Failure> {
    let Some(at) = &options.replay_store else {
        return Ok(None);
    };
    let wrong = |error| Failure::usage(format!("--replay-store: {error}"));
    let mut server = RedisServer::new(at.as_str()).map_err(wrong)?;
    if server.has_password() {
        if options.replay_store_password.is_some() {
            return Err(Failure::usage(
                "--replay-store-password and a password in --replay-store: give one of them",
            ));
        }
        if secret::is_on_command_line(at.as_str()) {
            tracing::warn!(
                "--replay-store: a password on the command line can be read by every user; use \
                 --replay-store-password @FILE"
            );
        }
    }
    if let Some(at) = &options.replay_store_password {
        let password = String::from_utf8(at.read("--replay-store-password")?)
            .map_err(|_| Failure::usage("--replay-store-password: the password is not UTF-8"))?;
        server = server.password(&password);
    }
    if let Some(path) = &options.replay_store_ca {
        let trust = Trust::from_pem_file(path).map_err(|error| {
            Failure::usage(format!("--replay-store-ca: {}", with_causes(&error)))
        })?;
        let wrong = |error| Failure::usage(format!("--replay-store-ca: {error}"));
        server = server.trust_only(trust).map_err(wrong)?;
    }
    server = match (&options.replay_store_cert, &options.replay_store_key) {
        (None, None) => server,
        (Some(cert), Some(key)) => {
            let chain = secret::read_file("--replay-store-cert", cert)?;
            let pem = secret::read_private_file("--replay-store-key", key)?;
            let identity = Identity::from_pem(&chain, &pem).map_err(|error| {
                Failure::usage(format!(
                    "--replay-store-cert {} with --replay-store-key {}: {error}",
                    cert.display(),
                    key.display()
                ))
            })?;
            let wrong = |error| Failure::usage(format!("--replay-store-cert: {error}"));
            server.identity(identity).map_err(wrong)?
        }
        _ => {
            return Err(Failure::usage(
                "--replay-store-cert and --replay-store-key belong together: give both",
            ));
        }
    };
    Ok(Some(server))
}
