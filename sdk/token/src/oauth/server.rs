//! Which authorization server, and what is remembered of it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bowline_client::Client;
use http::Uri;
use tokio::sync::Mutex;

use super::metadata::{Requirements, ResourceMetadata, ServerMetadata, secure};
use crate::shared::text::printable_url;
use crate::{Clock, Error, ErrorKind};

/// The authorization server that issues the tokens: named, or found.
///
/// Nothing is fetched until a token is needed. What was found is remembered for an hour or until
/// the token endpoint fails, and longer if it cannot be fetched again. Clones share it: give clones
/// of one value to sources that use the same server.
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
        /// Where its metadata is, if that was said.
        metadata: Option<String>,
        /// Whom to ask at all; anybody, if empty.
        only: Vec<String>,
    },
}

/// What was found.
#[derive(Default)]
struct Discovered {
    servers: Vec<ServerMetadata>,
    until: Option<SystemTime>,
    failure: Option<(Error, SystemTime)>,
}

/// Where to ask for a token.
pub(super) struct Endpoint {
    pub(super) uri: Uri,
    /// Whom an assertion is for, if the issuer is known.
    pub(super) issuer: Option<String>,
}

const LIFETIME: Duration = Duration::from_secs(3600);
/// For all sources that ask at the same time; each has a pause of its own after that.
const FAILURE_LIFETIME: Duration = Duration::from_secs(1);
/// A resource that names more authorization servers is asking for trouble.
const MAX_SERVERS: usize = 5;

impl AuthorizationServer {
    /// The server with this issuer identifier: its metadata says the rest (RFC 8414, or OpenID
    /// Connect Discovery).
    pub fn issuer(issuer: impl Into<String>) -> Self {
        Self::at(Location::Issuer(issuer.into()))
    }

    /// The server with this token endpoint; no metadata is fetched. With mutual TLS this is the
    /// endpoint for it (`mtls_endpoint_aliases`, RFC 8705 §5), if there are two.
    pub fn token_endpoint(url: impl Into<String>) -> Self {
        Self::at(Location::Endpoint(url.into()))
    }

    /// A server that this resource names in its metadata (RFC 9728): the first whose metadata can
    /// be had, and which lists what the client needs.
    ///
    /// Then the resource decides who sees this client's assertions and certificate.
    /// [`only`](Self::only) leaves it a choice among known ones.
    pub fn of_resource(resource: impl Into<String>) -> Self {
        Self::at(Location::Resource {
            resource: resource.into(),
            metadata: None,
            only: Vec::new(),
        })
    }

    /// For [`of_resource`](Self::of_resource): the metadata of the resource is at this URL, as a
    /// 401 said ([`resource_metadata`](crate::resource_metadata)), and not at the well-known place.
    #[must_use]
    pub fn metadata_at(self, url: impl Into<String>) -> Self {
        let url = url.into();
        self.with(|metadata, _| *metadata = Some(url))
    }

    /// For [`of_resource`](Self::of_resource): of the servers that the resource names only these
    /// are asked.
    #[must_use]
    pub fn only(self, issuers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let issuers = issuers.into_iter().map(Into::into);
        self.with(|_, only| only.extend(issuers))
    }

    /// The URL by which it is known here, for messages.
    pub(super) fn url(&self) -> &str {
        match &self.0.location {
            Location::Endpoint(url)
            | Location::Issuer(url)
            | Location::Resource { resource: url, .. } => url,
        }
    }

    /// The resource by which it is to be found.
    pub(super) fn resource(&self) -> Option<&str> {
        match &self.0.location {
            Location::Resource { resource, .. } => Some(resource),
            Location::Endpoint(_) | Location::Issuer(_) => None,
        }
    }

    /// Where to ask, if the server can do what is wished for.
    pub(super) async fn endpoint(
        &self,
        client: &Client,
        required: &Requirements,
        clock: &Clock,
        limit: Duration,
    ) -> Result<Endpoint, Error> {
        if let Location::Endpoint(url) = &self.0.location {
            let uri = secure(url, "the token endpoint")?;
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
                // What was true an hour ago is likely to be true still.
                match endpoint_among(&discovered.servers, required) {
                    Some(Ok(endpoint)) => Ok(endpoint),
                    _ => Err(error),
                }
            }
        }
    }

    /// What was found may be out of date: it is fetched again before the next request, and used on
    /// if it cannot be.
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
        // Of several, none may use up the time of those that come after it, and of the token
        // request.
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
        Self::at(location)
    }

    fn at(location: Location) -> Self {
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
    let (wanted, others): (Vec<_>, Vec<_>) = named
        .into_iter()
        .partition(|issuer| only.is_empty() || only.contains(issuer));
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

/// One error that tells of all; of their kinds the first, unless another one is worth trying again.
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
            "none of the authorization servers will do: {}",
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
