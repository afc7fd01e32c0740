//! Where a Redis is, and how a connection to it is opened.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, RedisConnectionInfo};
use rustls::ClientConfig;
use rustls::sign::SingleCertAndKey;
use rustls_pki_types::ServerName;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::RedisError;
use crate::tls::provider;
use crate::{Identity, Trust};

/// How many insertions may wait for their turn on the connection.
const PIPELINE: usize = 1024;

/// A Redis: its address, the log-in, and how its certificate is verified.
#[derive(Clone)]
pub struct RedisServer {
    place: Place,
    login: RedisConnectionInfo,
    trust: Option<Trust>,
    identity: Option<Identity>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Unix(PathBuf),
    /// Loopback only.
    Plain(String, u16),
    Tls(String, u16),
}

impl RedisServer {
    /// `rediss://[USER@]HOST[:PORT][/DATABASE]`, over TLS; `redis://…`, only on loopback; or
    /// `unix:PATH`. A password may stand in the URL (`USER:PASSWORD@`), where others may see it:
    /// see [`password`](Self::password).
    ///
    /// # Errors
    /// [`RedisErrorKind::Configuration`](crate::RedisErrorKind::Configuration): it is no such URL, or
    /// an attacker on the network could read and change what is stored. The message does not quote
    /// it.
    pub fn new(url: &str) -> Result<Self, RedisError> {
        if let Some(path) = url.strip_prefix("unix:") {
            return Self::at_socket(path);
        }
        let wrong = || {
            RedisError::configuration(
                "the address of Redis is none: write rediss://HOST:PORT, redis://127.0.0.1:PORT or \
                 unix:PATH",
            )
        };
        let (is_tls, rest) = match (url.strip_prefix("rediss://"), url.strip_prefix("redis://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            _ => return Err(wrong()),
        };
        // Of these the client library has options, such as one that verifies no certificate.
        if rest.contains(['#', '?']) {
            return Err(RedisError::configuration(
                "the address of Redis has no query and no fragment: leave them away",
            ));
        }
        // Read without TLS either way: the connection is opened here.
        let read = ConnectionInfo::from_str(&format!("redis://{rest}")).map_err(|_| wrong())?;
        let ConnectionAddr::Tcp(host, port) = read.addr().clone() else {
            return Err(wrong());
        };
        let place = match is_tls {
            true => {
                ServerName::try_from(host.as_str()).map_err(|_| wrong())?;
                Place::Tls(host, port)
            }
            false if is_remote_address(&host) => {
                return Err(RedisError::configuration(NEEDS_TLS));
            }
            false => Place::Plain(host, port),
        };
        Ok(Self::at(place, read.redis_settings().clone()))
    }

    fn at_socket(path: &str) -> Result<Self, RedisError> {
        // `unix:///run/redis.sock` is written too.
        let path = path.strip_prefix("//").unwrap_or(path);
        match path {
            "" => Err(RedisError::configuration(
                "unix: needs the path of Redis's socket",
            )),
            path => Ok(Self::at(
                Place::Unix(path.into()),
                RedisConnectionInfo::default(),
            )),
        }
    }

    fn at(place: Place, login: RedisConnectionInfo) -> Self {
        Self {
            place,
            login,
            trust: None,
            identity: None,
        }
    }

    /// Logs in with this password. The user is that of the URL, else Redis's default user.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.login = self.login.set_password(password);
        self
    }

    /// Whether a password was given, in the URL or by [`password`](Self::password).
    #[must_use]
    pub fn has_password(&self) -> bool {
        self.login.password().is_some()
    }

    /// Verifies the certificate of Redis by these authorities instead of the platform's.
    ///
    /// # Errors
    /// [`RedisErrorKind::Configuration`](crate::RedisErrorKind::Configuration): the address is none of
    /// TLS.
    pub fn trust_only(mut self, authorities: Trust) -> Result<Self, RedisError> {
        self.trust = Some(authorities);
        self.only_with_tls("authorities for its certificate have")
    }

    /// Shows this certificate, which Redis demands of its clients by default
    /// (`tls-auth-clients`).
    ///
    /// # Errors
    /// [`RedisErrorKind::Configuration`](crate::RedisErrorKind::Configuration): the address is none of
    /// TLS.
    pub fn identity(mut self, identity: Identity) -> Result<Self, RedisError> {
        self.identity = Some(identity);
        self.only_with_tls("a client certificate has")
    }

    fn only_with_tls(self, what: &str) -> Result<Self, RedisError> {
        match self.place {
            Place::Tls(..) => Ok(self),
            _ => Err(RedisError::configuration(format!(
                "{what} no effect without TLS: write rediss://HOST:PORT, or leave it away"
            ))),
        }
    }

    /// With the TLS configuration made.
    pub(super) fn target(&self) -> Result<Target, RedisError> {
        let tls = match self.place {
            Place::Tls(..) => Some(Arc::new(self.tls()?)),
            _ => None,
        };
        Ok(Target {
            place: self.place.clone(),
            login: self.login.clone(),
            tls,
        })
    }

    fn tls(&self) -> Result<ClientConfig, RedisError> {
        let bad = |error: rustls::Error| {
            RedisError::configuration("the TLS configuration for Redis cannot be made")
                .with_source(error)
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(bad)?;
        let builder = match &self.trust {
            Some(trust) => builder.with_root_certificates(trust.roots()),
            None => builder.with_platform_verifier().map_err(bad)?,
        };
        Ok(match &self.identity {
            Some(identity) => {
                let identity = SingleCertAndKey::from((*identity.certified_key()).clone());
                builder.with_client_cert_resolver(Arc::new(identity))
            }
            None => builder.with_no_client_auth(),
        })
    }
}

/// An address of another machine: a name may be loopback or not, which the connection will show.
fn is_remote_address(host: &str) -> bool {
    let ip = host.parse::<std::net::IpAddr>();
    ip.is_ok_and(|ip| !ip.to_canonical().is_loopback())
}

const NEEDS_TLS: &str = "this Redis is not on this machine, and without TLS anybody on the network \
                         could read the password and delete used proofs: write rediss://HOST:PORT";

/// What a connection is opened with.
pub(super) struct Target {
    place: Place,
    login: RedisConnectionInfo,
    tls: Option<Arc<ClientConfig>>,
}

/// A connection that has logged in.
pub(super) struct Open {
    pub(super) connection: MultiplexedConnection,
    /// Reads and writes; it ends with the connection, and the connection with it.
    pub(super) driver: JoinSet<()>,
}

impl Target {
    pub(super) async fn open(&self) -> Result<Open, RedisError> {
        match &self.place {
            #[cfg(unix)]
            Place::Unix(path) => {
                let stream = tokio::net::UnixStream::connect(path).await;
                self.log_in(stream.map_err(cannot_connect)?).await
            }
            #[cfg(not(unix))]
            Place::Unix(_) => Err(RedisError::configuration(
                "there are no Unix sockets here: write rediss://HOST:PORT",
            )),
            Place::Plain(host, port) => {
                let stream = connect(host, *port).await?;
                // Whatever the name: what counts is where it has led to.
                let peer = stream.peer_addr().map_err(cannot_connect)?;
                match peer.ip().to_canonical().is_loopback() {
                    true => self.log_in(stream).await,
                    false => Err(RedisError::refused(NEEDS_TLS)),
                }
            }
            Place::Tls(host, port) => self.open_tls(host, *port).await,
        }
    }

    async fn open_tls(&self, host: &str, port: u16) -> Result<Open, RedisError> {
        let (Some(tls), Ok(name)) = (&self.tls, ServerName::try_from(host.to_owned())) else {
            return Err(RedisError::configuration("no TLS server has such a name"));
        };
        let stream = connect(host, port).await?;
        let stream = TlsConnector::from(tls.clone()).connect(name, stream).await;
        let stream = stream.map_err(|error| {
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
            let message = match inner {
                Some(rustls::Error::InvalidCertificate(_)) => {
                    return RedisError::refused(
                        "the certificate of Redis is not accepted: name the authority that has \
                         issued it",
                    )
                    .with_source(error);
                }
                _ => "the TLS handshake with Redis failed",
            };
            RedisError::unreachable(message).with_source(error)
        })?;
        self.log_in(stream).await
    }

    async fn log_in<S>(&self, stream: S) -> Result<Open, RedisError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        // The callers have limits of their own, which count the wait for a turn too.
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_pipeline_buffer_size(PIPELINE);
        // The library's own log-in would not tell a wrong password from a Redis that is busy.
        let nothing = RedisConnectionInfo::default().set_skip_set_lib_name();
        let wrong = |error| RedisError::of_command(&error);
        let (mut connection, driven) =
            MultiplexedConnection::new_with_config(&nothing, stream, config)
                .await
                .map_err(wrong)?;
        let mut driver = JoinSet::new();
        driver.spawn(driven);
        if let Some(password) = self.login.password() {
            let mut command = redis::cmd("AUTH");
            command.arg(self.login.username()).arg(password);
            let answer = command.exec_async(&mut connection).await;
            answer.map_err(|error| RedisError::of_log_in(&error))?;
        }
        if self.login.db() != 0 {
            let mut command = redis::cmd("SELECT");
            let answer = command.arg(self.login.db()).exec_async(&mut connection);
            answer.await.map_err(wrong)?;
        }
        Ok(Open { connection, driver })
    }
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, RedisError> {
    let stream = TcpStream::connect((host, port)).await;
    let stream = stream.map_err(cannot_connect)?;
    // Insertions are small, and each has somebody waiting.
    stream.set_nodelay(true).map_err(cannot_connect)?;
    Ok(stream)
}

fn cannot_connect(error: std::io::Error) -> RedisError {
    RedisError::unreachable("Redis cannot be connected to").with_source(error)
}

/// Without the user, the password and the database.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host, port) = match self {
            Self::Unix(path) => return write!(f, "unix:{}", path.display()),
            Self::Plain(host, port) => ("redis", host, port),
            Self::Tls(host, port) => ("rediss", host, port),
        };
        match host.contains(':') {
            true => write!(f, "{scheme}://[{host}]:{port}"),
            false => write!(f, "{scheme}://{host}:{port}"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place.fmt(f)
    }
}

impl fmt::Display for RedisServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place.fmt(f)
    }
}

/// Shows no password.
impl fmt::Debug for RedisServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisServer({self})")
    }
}

#[cfg(test)]
mod tests;
