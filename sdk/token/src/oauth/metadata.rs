//! Discovery: the authorization servers of a resource (RFC 9728), and their token endpoints (RFC
//! 8414).

#[cfg(test)]
mod tests;

use std::time::Duration;

use bowline_http_client::{Client, Origin};
use bowline_proof::challenges;
use http::{HeaderMap, Uri};
use serde::Deserialize;

use super::http::{RequestLabel, fetch_json};
use crate::shared::text::printable_url;
use crate::{Error, ErrorKind};

/// The `resource_metadata` of a 401: the URL of the resource's metadata, which names its
/// authorization servers (RFC 9728 §5.1).
pub fn resource_metadata(headers: &HeaderMap) -> Option<String> {
    let challenges = challenges(headers);
    let urls = challenges
        .iter()
        .filter_map(|challenge| challenge.param("resource_metadata"));
    urls.map(str::to_owned).next()
}

/// The metadata of a protected resource (RFC 9728 §2), as far as it is used here.
#[derive(Deserialize)]
pub(super) struct ResourceMetadata {
    resource: String,
    authorization_servers: Option<Vec<String>>,
}

impl ResourceMetadata {
    /// Fetches the metadata and returns the issuers that it names.
    ///
    /// # Errors
    /// [`ErrorKind::Metadata`] if it is on another origin than the resource (CL-10), describes
    /// another resource (§3.3) or names no authorization server.
    pub(super) async fn issuers(
        client: &Client,
        resource: &str,
        at: Option<&str>,
        limit: Duration,
    ) -> Result<Vec<String>, Error> {
        let uri = match at {
            Some(url) => on_origin_of(resource, url)?,
            None => resource_metadata_url(resource)?,
        };
        let url = uri.to_string();
        let label = RequestLabel {
            name: "the metadata of the resource",
            url: &url,
        };
        let metadata: Self = fetch_json(client, uri, &label, limit).await?;
        if metadata.resource != resource {
            let message = format!(
                "{label} is about {}, and not about {}: they must be identical (RFC 9728 section \
                 3.3)",
                printable_url(&metadata.resource),
                printable_url(resource)
            );
            return Err(Error::new(ErrorKind::Metadata, message));
        }
        match metadata.authorization_servers {
            Some(servers) if !servers.is_empty() => Ok(servers),
            _ => {
                let message =
                    format!("{label} names no authorization server: name one by its issuer");
                Err(Error::new(ErrorKind::Metadata, message))
            }
        }
    }
}

/// The metadata of an authorization server (RFC 8414 §2), as far as it is used here.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ServerMetadata {
    pub(super) issuer: String,
    token_endpoint: Option<String>,
    grant_types_supported: Option<Vec<String>>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    token_endpoint_auth_signing_alg_values_supported: Option<Vec<String>>,
    mtls_endpoint_aliases: Option<Aliases>,
}

/// RFC 8705 §5.
#[derive(Clone, Debug, Default, Deserialize)]
struct Aliases {
    token_endpoint: Option<String>,
}

/// What the client needs of a token endpoint.
pub(super) struct Requirements {
    pub(super) grant_type: &'static str,
    pub(super) method: &'static str,
    /// The algorithm of its assertions.
    pub(super) algorithm: Option<&'static str>,
    /// Whether the client presents its certificate.
    pub(super) mutual_tls: bool,
}

impl ServerMetadata {
    /// # Errors
    /// [`ErrorKind::Metadata`] if it is another issuer's (§3.3).
    pub(super) async fn fetch(
        client: &Client,
        issuer: &str,
        limit: Duration,
    ) -> Result<Self, Error> {
        let [uri, openid] = issuer_metadata_urls(issuer)?;
        let url = uri.to_string();
        let label = RequestLabel {
            name: NAME,
            url: &url,
        };
        match fetch_json(client, uri, &label, limit).await {
            Err(error) if error.kind() == ErrorKind::Metadata => {}
            fetched => return Self::checked(issuer, fetched?, &label),
        }
        // Servers that began with OpenID Connect have it here, in the same form (OpenID Connect
        // Discovery §4).
        let url = format!("{url}, and {openid}");
        let label = RequestLabel {
            name: NAME,
            url: &url,
        };
        Self::checked(
            issuer,
            fetch_json(client, openid, &label, limit).await?,
            &label,
        )
    }

    fn checked(issuer: &str, metadata: Self, label: &RequestLabel<'_>) -> Result<Self, Error> {
        if metadata.issuer != issuer {
            let message = format!(
                "{label} is that of the issuer {}, and not of {}: they must be identical (RFC \
                 8414 section 3.3)",
                printable_url(&metadata.issuer),
                printable_url(issuer)
            );
            return Err(Error::new(ErrorKind::Metadata, message));
        }
        Ok(metadata)
    }

    /// The token endpoint, if the server supports what is required. A list that is missing excludes
    /// nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Metadata`].
    pub(super) fn token_endpoint(&self, required: &Requirements) -> Result<Uri, Error> {
        let issuer = printable_url(&self.issuer);
        let lists = |list: &Option<Vec<String>>, value| {
            list.as_ref()
                .is_none_or(|list| list.iter().any(|v| v == value))
        };
        if !lists(&self.grant_types_supported, required.grant_type) {
            let message = format!(
                "{issuer} does not list the grant {} as supported",
                required.grant_type
            );
            return Err(Error::new(ErrorKind::Metadata, message));
        }
        if !lists(&self.token_endpoint_auth_methods_supported, required.method) {
            let message = format!(
                "{issuer} does not list client authentication by {} as supported",
                required.method
            );
            return Err(Error::new(ErrorKind::Metadata, message));
        }
        if let Some(algorithm) = required.algorithm
            && !lists(
                &self.token_endpoint_auth_signing_alg_values_supported,
                algorithm,
            )
        {
            let message = format!(
                "{issuer} does not list {algorithm}, the algorithm of the client's key, as \
                 supported"
            );
            return Err(Error::new(ErrorKind::Metadata, message));
        }
        // RFC 8705 §5: a client that presents a certificate, to authenticate or to have tokens
        // bound to it, uses the alias.
        let alias = self
            .mtls_endpoint_aliases
            .as_ref()
            .filter(|_| required.mutual_tls);
        let alias = alias.and_then(|aliases| aliases.token_endpoint.as_ref());
        let Some(endpoint) = alias.or(self.token_endpoint.as_ref()) else {
            return Err(Error::new(
                ErrorKind::Metadata,
                format!("{issuer} names no token endpoint"),
            ));
        };
        secure_url(endpoint, "the token endpoint")
    }
}

const NAME: &str = "the metadata of the authorization server";

/// The URL of a resource's metadata: the well-known part goes between host and path. The path stays
/// as it is, except that a lone slash is dropped (RFC 9728 §3.1).
fn resource_metadata_url(resource: &str) -> Result<Uri, Error> {
    let label = "the resource";
    let uri = secure_url(resource, label)?;
    let path = uri.path_and_query().map_or("", |path| path.as_str());
    let path = match path.strip_prefix('/') {
        Some(rest) if rest.is_empty() || rest.starts_with('?') => rest,
        _ => path,
    };
    with_path(
        &uri,
        &format!("/.well-known/oauth-protected-resource{path}"),
        label,
    )
}

/// The URL of a resource's metadata as a 401 gave it. It must be on the resource's own origin: a
/// response must not make this client connect to an address that it chooses (CL-10).
fn on_origin_of(resource: &str, url: &str) -> Result<Uri, Error> {
    let label = "resource_metadata";
    let uri = secure_url(url, label)?;
    let origin = |uri: &Uri| Origin::from_uri(uri).map_err(|e| unusable(url, label, e));
    if origin(&uri)? != origin(&secure_url(resource, "the resource")?)? {
        let message = format!(
            "{label} {} is on another origin than the resource {}: it is not fetched (CL-10)",
            printable_url(url),
            printable_url(resource)
        );
        return Err(Error::new(ErrorKind::Metadata, message));
    }
    Ok(uri)
}

/// The URLs of an authorization server's metadata: the well-known part goes between host and path,
/// whose slash at the end is dropped (RFC 8414 §3.1); or behind the path (OpenID Connect Discovery
/// §4).
fn issuer_metadata_urls(issuer: &str) -> Result<[Uri; 2], Error> {
    let label = "the issuer";
    let uri = secure_url(issuer, label)?;
    if uri.query().is_some() {
        let message = format!(
            "{label} {} has a query: an issuer has none (RFC 8414 section 2)",
            printable_url(issuer)
        );
        return Err(Error::new(ErrorKind::Metadata, message));
    }
    let path = uri.path().trim_end_matches('/');
    Ok([
        with_path(
            &uri,
            &format!("/.well-known/oauth-authorization-server{path}"),
            label,
        )?,
        with_path(
            &uri,
            &format!("{path}/.well-known/openid-configuration"),
            label,
        )?,
    ])
}

fn with_path(base: &Uri, path: &str, label: &str) -> Result<Uri, Error> {
    let mut parts = base.clone().into_parts();
    parts.path_and_query = Some(
        path.parse()
            .map_err(|e| unusable(&base.to_string(), label, e))?,
    );
    Uri::from_parts(parts).map_err(|e| unusable(&base.to_string(), label, e))
}

/// Parses an absolute https URL, or an http URL on loopback, which the client may still refuse
/// (CL-6).
///
/// # Errors
/// [`ErrorKind::Metadata`].
pub(super) fn secure_url(url: &str, label: &str) -> Result<Uri, Error> {
    let refuse = |why: &str| {
        let message = format!("{label} {} {why}", printable_url(url));
        Err(Error::new(ErrorKind::Metadata, message))
    };
    if url.contains('#') {
        return refuse("has a fragment");
    }
    let uri: Uri = url.parse().map_err(|e| unusable(url, label, e))?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return refuse("is not an absolute URL");
    };
    if authority.as_str().contains('@') {
        return Err(Error::new(
            ErrorKind::Metadata,
            format!("{label} is a URL with a user name, which would be logged"),
        ));
    }
    match scheme {
        "https" => Ok(uri),
        "http" if is_loopback(authority.host()) => Ok(uri),
        "http" => refuse("is plaintext: it must be https"),
        _ => refuse("is neither https nor http"),
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

fn unusable(url: &str, label: &str, error: impl Into<crate::error::BoxError>) -> Error {
    Error::with_source(
        ErrorKind::Metadata,
        format!("{label} {} is not a URL", printable_url(url)),
        error,
    )
}
