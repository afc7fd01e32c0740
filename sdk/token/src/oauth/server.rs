//! Which authorization server to use, and what discovery found about it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bowline_http_client::Client;
use http::Uri;
use tokio::sync::Mutex;

use super::metadata::{Requirements, ResourceMetadata, ServerMetadata, secure_url};
use crate::shared::text::printable_url;
use crate::{Clock, Error, ErrorKind};

/// The authorization server that issues the tokens: named, or found by discovery.
///
/// Nothing is fetched until a token is needed. The result is cached for an hour, or until the token
/// endpoint fails, and longer if it cannot be fetched again. Clones share it: give clones of one
/// value to sources that use the same server.
#[derive(Clone)]
pub struct AuthorizationServer(Arc<Inner>);

struct Inner {
    location: Location,
    discovered: Mutex<Discovered>,
}

#[derive(Clone)]
enum Location {
    Endpoint(String),
    Issuer(String),
    Resource {
        resource: String,
        /// The URL of its metadata, if it is not the well-known one.
        metadata: Option<String>,
        /// The issuers that may be used. While it is empty no source can be built (CL-10).
        only: Vec<String>,
    },
}

/// The result of discovery.
#[derive(Default)]
struct Discovered {
    servers: Vec<ServerMetadata>,
    until: Option<SystemTime>,
    failure: Option<(Error, SystemTime)>,
}

/// A token endpoint.
pub(super) struct Endpoint {
    pub(super) uri: Uri,
    /// The audience of assertions, if the issuer is known.
    pub(super) issuer: Option<String>,
}

const LIFETIME: Duration = Duration::from_secs(3600);
/// So that sources that ask at the same time share one failure. After that, each has its own pause.
const FAILURE_LIFETIME: Duration = Duration::from_secs(1);
/// Of more authorization servers, only the first are tried.
const MAX_SERVERS: usize = 5;

impl AuthorizationServer {
    /// The server with this issuer identifier. Its endpoint comes from its metadata (RFC 8414, or
    /// OpenID Connect Discovery).
    pub fn issuer(issuer: impl Into<String>) -> Self {
        Self::new(Location::Issuer(issuer.into()))
    }

    /// The server with this token endpoint; no metadata is fetched. With mutual TLS this is the
    /// endpoint for it (`mtls_endpoint_aliases`, RFC 8705 §5), if there are two.
    pub fn token_endpoint(url: impl Into<String>) -> Self {
        Self::new(Location::Endpoint(url.into()))
    }

    /// A server that this resource names in its metadata (RFC 9728), out of those that
    /// [`only`](Self::only) lists: the first whose metadata can be fetched and which supports what
    /// the client needs.
    ///
    /// The list is required (CL-10). Without it the resource would decide which server gets this
    /// client's assertions and certificate, and in an exchange its callers' tokens.
    pub fn for_resource(resource: impl Into<String>) -> Self {
        Self::new(Location::Resource {
            resource: resource.into(),
            metadata: None,
            only: Vec::new(),
        })
    }

    /// For [`for_resource`](Self::for_resource): the metadata of the resource is at this URL, as a
    /// 401 said ([`resource_metadata`](crate::resource_metadata)), and not the well-known one. A
    /// URL on another origin than the resource's is not fetched (CL-10): the first request for a
    /// token fails with [`ErrorKind::Metadata`].
    #[must_use]
    pub fn metadata_at(self, url: impl Into<String>) -> Self {
        let url = url.into();
        self.with(|metadata, _| *metadata = Some(url))
    }

    /// For [`for_resource`](Self::for_resource): of the servers that the resource names only these
    /// are asked. Compared exactly; no other is connected to.
    #[must_use]
    pub fn only(self, issuers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let issuers = issuers.into_iter().map(Into::into);
        self.with(|_, only| only.extend(issuers))
    }

    /// The configured URL, for messages.
    pub(super) fn url(&self) -> &str {
        match &self.0.location {
            Location::Endpoint(url)
            | Location::Issuer(url)
            | Location::Resource { resource: url, .. } => url,
        }
    }

    /// The resource whose metadata names the server, if discovery starts there.
    pub(super) fn resource(&self) -> Option<&str> {
        match &self.0.location {
            Location::Resource { resource, .. } => Some(resource),
            Location::Endpoint(_) | Location::Issuer(_) => None,
        }
    }

    /// Whether the server that is asked may be this one: its issuer identifier, or the token endpoint
    /// where that is what is configured.
    #[cfg(unix)]
    pub(super) fn may_be(&self, identifier: &str) -> bool {
        match &self.0.location {
            Location::Endpoint(only) | Location::Issuer(only) => only == identifier,
            Location::Resource { only, .. } => only.iter().any(|issuer| issuer == identifier),
        }
    }

    /// Whether the resource alone decides which server is asked (CL-10).
    pub(super) fn is_chosen_by_resource(&self) -> bool {
        matches!(&self.0.location, Location::Resource { only, .. } if only.is_empty())
    }

    /// The token endpoint of a server that supports what is required.
    pub(super) async fn endpoint(
        &self,
        client: &Client,
        required: &Requirements,
        clock: &Clock,
        limit: Duration,
    ) -> Result<Endpoint, Error> {
        if let Location::Endpoint(url) = &self.0.location {
            let uri = secure_url(url, "the token endpoint")?;
            return Ok(Endpoint { uri, issuer: None });
        }
        let mut discovered = self.0.discovered.lock().await;
        let now = clock.now();
        let cached = endpoint_among(&discovered.servers, required);
        if let Some(Ok(endpoint)) = cached
            && discovered.until.is_some_and(|until| now < until)
        {
            return Ok(endpoint);
        }
        if let Some((error, at)) = &discovered.failure
            && now
                .duration_since(*at)
                .is_ok_and(|passed| passed < FAILURE_LIFETIME)
        {
            return endpoint_among(&discovered.servers, required)
                .unwrap_or_else(|| Err(error.clone()));
        }
        match self.discover(client, required, limit).await {
            Ok((servers, endpoint)) => {
                *discovered = Discovered {
                    servers,
                    until: now.checked_add(LIFETIME),
                    failure: None,
                };
                Ok(endpoint)
            }
            Err(error) => {
                discovered.failure = Some((error.clone(), clock.now()));
                // What was true an hour ago is likely to be true now.
                match endpoint_among(&discovered.servers, required) {
                    Some(Ok(endpoint)) => Ok(endpoint),
                    _ => Err(error),
                }
            }
        }
    }

    /// The result of discovery may be out of date: it is fetched again before the next request, and
    /// still used if that fails.
    pub(super) async fn invalidate(&self) {
        self.0.discovered.lock().await.until = None;
    }

    async fn discover(
        &self,
        client: &Client,
        required: &Requirements,
        limit: Duration,
    ) -> Result<(Vec<ServerMetadata>, Endpoint), Error> {
        let issuers = match &self.0.location {
            Location::Endpoint(_) => Vec::new(),
            Location::Issuer(issuer) => vec![issuer.clone()],
            Location::Resource {
                resource,
                metadata,
                only,
            } => {
                let named =
                    ResourceMetadata::issuers(client, resource, metadata.as_deref(), limit).await?;
                permitted(named, only, resource)?
            }
        };
        let mut servers = Vec::new();
        let mut failures = Vec::new();
        let issuers = &issuers[..issuers.len().min(MAX_SERVERS)];
        // Of several, none may use up the time of the next ones and of the token request.
        let share = match issuers.len() {
            0 | 1 => limit,
            several => limit / (several as u32 + 1),
        };
        for issuer in issuers {
            let fetched = ServerMetadata::fetch(client, issuer, share).await;
            match fetched.and_then(|server| Ok((endpoint_of(&server, required)?, server))) {
                Ok((endpoint, server)) => {
                    servers.push(server);
                    return Ok((servers, endpoint));
                }
                Err(error) => failures.push(error),
            }
        }
        Err(combined(failures))
    }

    fn with(self, change: impl FnOnce(&mut Option<String>, &mut Vec<String>)) -> Self {
        let mut location = self.0.location.clone();
        if let Location::Resource { metadata, only, .. } = &mut location {
            change(metadata, only);
        }
        Self::new(location)
    }

    fn new(location: Location) -> Self {
        Self(Arc::new(Inner {
            location,
            discovered: Mutex::default(),
        }))
    }
}

fn endpoint_of(server: &ServerMetadata, required: &Requirements) -> Result<Endpoint, Error> {
    Ok(Endpoint {
        uri: server.token_endpoint(required)?,
        issuer: Some(server.issuer.clone()),
    })
}

fn endpoint_among(
    servers: &[ServerMetadata],
    required: &Requirements,
) -> Option<Result<Endpoint, Error>> {
    servers
        .iter()
        .map(|server| endpoint_of(server, required))
        .next()
}

fn permitted(named: Vec<String>, only: &[String], resource: &str) -> Result<Vec<String>, Error> {
    let (wanted, others): (Vec<_>, Vec<_>) =
        named.into_iter().partition(|issuer| only.contains(issuer));
    if wanted.is_empty() {
        let first = others
            .first()
            .map_or(String::new(), |issuer| printable_url(issuer));
        let message = format!(
            "{} names no authorization server that this client may ask, but {first} and {} more",
            printable_url(resource),
            others.len().saturating_sub(1)
        );
        return Err(Error::new(ErrorKind::Metadata, message));
    }
    Ok(wanted)
}

/// One error for all of them, with the kind of the first one that is worth another try, or else of
/// the first.
fn combined(failures: Vec<Error>) -> Error {
    let Some(first) = failures.first() else {
        return Error::new(
            ErrorKind::Metadata,
            "there is no authorization server to ask",
        );
    };
    if failures.len() == 1 {
        return first.clone();
    }
    let kind = failures
        .iter()
        .find(|error| error.is_worth_another_try())
        .unwrap_or(first)
        .kind();
    let all: Vec<_> = failures.iter().map(ToString::to_string).collect();
    Error::new(
        kind,
        format!(
            "none of the authorization servers can be used: {}",
            all.join("; ")
        ),
    )
}

impl fmt::Debug for AuthorizationServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match &self.0.location {
            Location::Endpoint(_) => "token_endpoint",
            Location::Issuer(_) => "issuer",
            Location::Resource { .. } => "resource",
        };
        f.debug_struct("AuthorizationServer")
            .field(name, &self.url())
            .finish()
    }
}
