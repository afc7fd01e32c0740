//! The server's TLS configuration, built so that every connection can carry session-bound tokens:
//! TLS 1.3, or TLS 1.2 with extended master secret (EX-2); no early data (EX-3); short-lived
//! tickets (RS-1).
//!
//! The cryptography is aws-lc-rs, named explicitly: the process-wide default provider of rustls is
//! never used.

mod current;
mod identity;
mod ticket_keys;
mod tickets;

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;

pub(crate) use self::current::CurrentTls;
pub use self::current::TlsReloader;
pub use self::identity::{Identity, Trust};
pub use self::ticket_keys::TicketKeys;
use self::tickets::ShortLivedTickets;
pub(crate) use self::tickets::handshake;
use crate::Clock;

/// The longest time after a full handshake for which its TLS session can be resumed (RS-1).
pub const MAX_TICKET_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

const DEFAULT_TICKET_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// A finished TLS configuration. An [`Acceptor`](crate::Acceptor) is made from it.
#[derive(Clone)]
pub struct ServerTls {
    pub(crate) config: Arc<ServerConfig>,
    /// Kept here too, because a resumed session is verified again (RS-1).
    pub(crate) client_verifier: Option<Arc<dyn ClientCertVerifier>>,
    pub(crate) clock: Clock,
}

/// Whether clients authenticate with a certificate.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ClientAuth {
    /// No certificate is requested; no token can be bound to such connections.
    None,
    /// A certificate is requested; a client without one is served too.
    Optional(Trust),
    /// A certificate is required: the handshake with a client without one fails.
    Required(Trust),
    /// The caller's own verifier (revocation lists, SPIFFE). It is also called for every resumed
    /// session.
    Custom(Arc<dyn ClientCertVerifier>),
}

impl ServerTls {
    /// Starts a configuration for a server with this identity.
    pub fn builder(identity: Identity, client_auth: ClientAuth) -> ServerTlsBuilder {
        ServerTlsBuilder {
            identity,
            client_auth,
            alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            ticket_lifetime: Some(DEFAULT_TICKET_LIFETIME),
            ticket_keys: None,
            clock: Clock::default(),
        }
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls")
            .field("alpn", &self.config.alpn_protocols)
            .field("client_verifier", &self.client_verifier)
            .finish_non_exhaustive()
    }
}

/// See [`ServerTls::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct ServerTlsBuilder {
    identity: Identity,
    client_auth: ClientAuth,
    alpn: Vec<Vec<u8>>,
    ticket_lifetime: Option<Duration>,
    ticket_keys: Option<TicketKeys>,
    clock: Clock,
}

impl ServerTlsBuilder {
    /// The application protocols offered, the preferred one first. Default: `h2`, then `http/1.1`.
    pub fn alpn(mut self, protocols: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Self {
        self.alpn = protocols
            .into_iter()
            .map(|name| name.as_ref().to_vec())
            .collect();
        self
    }

    /// How long after a full handshake its session may be resumed, in whole seconds, however many
    /// tickets succeed one another (RS-1). Default: one hour; `None` switches resumption off.
    pub fn ticket_lifetime(mut self, lifetime: impl Into<Option<Duration>>) -> Self {
        self.ticket_lifetime = lifetime.into();
        self
    }

    /// Keys that other processes have too, so that a session begun with one is resumed with
    /// another. What that is worth to a thief of the keys: see [`TicketKeys`]. Default: a key of
    /// this process alone.
    pub fn ticket_keys(mut self, keys: TicketKeys) -> Self {
        self.ticket_keys = Some(keys);
        self
    }

    /// The clock by which certificates and tickets expire. Default: the system's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Finishes the configuration.
    ///
    /// # Errors
    /// [`TlsErrorKind::ClientRoots`] if no usable root certificate was given,
    /// [`TlsErrorKind::TicketLifetime`] if the lifetime exceeds [`MAX_TICKET_LIFETIME`],
    /// [`TlsErrorKind::Configuration`] if rustls refuses.
    pub fn build(self) -> Result<ServerTls, TlsError> {
        let provider = provider();
        let client_verifier = client_verifier(self.client_auth, &provider)?;
        let builder = ServerConfig::builder_with_details(provider, Arc::new(self.clock.clone()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(TlsError::configuration)?;
        let builder = match &client_verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier.clone()),
            None => builder.with_no_client_auth(),
        };
        let resolver = SingleCertAndKey::from(tickets::clearing(&self.identity.certified_key()));
        let mut config = builder.with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = self.alpn;
        config.require_ems = true; // EX-2
        config.max_early_data_size = 0; // EX-3
        // Sessions are kept in tickets only, so that their lifetime is limited in one place (RS-1).
        config.session_storage = Arc::new(NoServerSessionStorage {});
        if let Some(lifetime) = self.ticket_lifetime {
            config.ticketer = Arc::new(ShortLivedTickets::new(
                lifetime,
                self.ticket_keys,
                self.clock.clone(),
            )?);
        }
        Ok(ServerTls {
            config: Arc::new(config),
            client_verifier,
            clock: self.clock,
        })
    }
}

fn client_verifier(
    auth: ClientAuth,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    let webpki =
        |trust: Trust| WebPkiClientVerifier::builder_with_provider(trust.roots(), provider.clone());
    let verifier = match auth {
        ClientAuth::None => return Ok(None),
        ClientAuth::Custom(verifier) => return Ok(Some(verifier)),
        ClientAuth::Optional(trust) => webpki(trust).allow_unauthenticated().build(),
        ClientAuth::Required(trust) => webpki(trust).build(),
    };
    verifier.map(Some).map_err(|error| {
        TlsError::new(
            TlsErrorKind::ClientRoots,
            "the client roots are not usable: give at least one CA certificate",
        )
        .with_source(error)
    })
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// A TLS configuration that cannot work, found at start-up.
#[derive(Debug)]
pub struct TlsError {
    kind: TlsErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What is wrong with a TLS configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsErrorKind {
    /// A file cannot be read.
    Unreadable,
    /// A certificate is missing or is not one.
    Certificate,
    /// A private key is missing, is not one, or is of a kind that cannot be used.
    PrivateKey,
    /// The private key is another certificate's.
    KeyMismatch,
    /// The root certificates for clients are missing or unusable.
    ClientRoots,
    /// The ticket lifetime is above [`MAX_TICKET_LIFETIME`].
    TicketLifetime,
    /// The file with [`TicketKeys`] is readable by others, or does not hold such keys.
    TicketKeys,
    /// rustls refuses the combination.
    Configuration,
}

impl TlsError {
    /// What is wrong.
    #[must_use]
    pub fn kind(&self) -> TlsErrorKind {
        self.kind
    }

    pub(crate) fn new(kind: TlsErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    fn configuration(source: rustls::Error) -> Self {
        Self::new(
            TlsErrorKind::Configuration,
            "rustls refuses this configuration",
        )
        .with_source(source)
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for TlsError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests;
