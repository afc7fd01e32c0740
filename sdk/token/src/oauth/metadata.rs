//! Who issues tokens for a resource, and where: RFC 9728, then RFC 8414.

use std::time::Duration;

use bowline_client::Client;
use bowline_proof::challenges;
use http::{HeaderMap, Uri};
use serde::Deserialize;

use super::http::{What, document, present};
use crate::error::printable;
use crate::{Error, Kind};

/// The `resource_metadata` of a 401: where the resource says who issues tokens for it (RFC 9728 §5.1).
pub fn resource_metadata(headers: &HeaderMap) -> Option<String> {
    let challenges = challenges(headers);
    let urls = challenges.iter().filter_map(|challenge| challenge.param("resource_metadata"));
    urls.map(str::to_owned).next()
}

/// What a protected resource says about itself (RFC 9728 §2), as far as it matters here.
#[derive(Deserialize)]
pub(super) struct ResourceMetadata {
    resource: String,
    #[serde(default)]
    pub(super) authorization_servers: Vec<String>,
}

impl ResourceMetadata {
    /// # Errors
    /// [`Kind::Metadata`] if it is about another resource (§3.3) or names no authorization server.
    pub(super) async fn fetch(client: &Client, resource: &str, at: Option<&str>, limit: Duration) -> Result<Self, Error> {
        let uri = match at {
            Some(url) => secure(url, "resource_metadata")?,
            None => well_known(resource, "oauth-protected-resource", "the resource")?,
        };
        let url = uri.to_string();
        let what = What { name: "the metadata of the resource", url: &url };
        let metadata: Self = document(client, uri, &what, limit).await?;
        if metadata.resource != resource {
            let message = format!(
                "{what} is about {}, and not about {}: they must be identical (RFC 9728 section 3.3)",
                printable(&metadata.resource),
                printable(resource)
            );
            return Err(Error::new(Kind::Metadata, message));
        }
        if metadata.authorization_servers.is_empty() {
            let message = format!("{what} names no authorization server: name one by its issuer");
            return Err(Error::new(Kind::Metadata, message));
        }
        Ok(metadata)
    }
}

/// What an authorization server says about itself (RFC 8414 §2), as far as it matters here.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ServerMetadata {
    pub(super) issuer: String,
    #[serde(default, deserialize_with = "present")]
    token_endpoint: Option<String>,
    #[serde(default, deserialize_with = "present")]
    grant_types_supported: Option<Vec<String>>,
    #[serde(default, deserialize_with = "present")]
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default, deserialize_with = "present")]
    token_endpoint_auth_signing_alg_values_supported: Option<Vec<String>>,
    #[serde(default)]
    mtls_endpoint_aliases: Aliases,
}

/// RFC 8705 §5.
#[derive(Clone, Debug, Default, Deserialize)]
struct Aliases {
    #[serde(default, deserialize_with = "present")]
    token_endpoint: Option<String>,
}

/// What the client will do at the token endpoint.
pub(super) struct Wish {
    pub(super) grant_type: &'static str,
    pub(super) method: &'static str,
    /// The algorithm of its assertions.
    pub(super) algorithm: Option<&'static str>,
    /// Whether it means to present its certificate.
    pub(super) mutual_tls: bool,
}

impl ServerMetadata {
    /// # Errors
    /// [`Kind::Metadata`] if it is another issuer's (§3.3).
    pub(super) async fn fetch(client: &Client, issuer: &str, limit: Duration) -> Result<Self, Error> {
        let uri = well_known(issuer, "oauth-authorization-server", "the issuer")?;
        let url = uri.to_string();
        let what = What { name: "the metadata of the authorization server", url: &url };
        let metadata: Self = document(client, uri, &what, limit).await?;
        if metadata.issuer != issuer {
            let message = format!(
                "{what} is that of the issuer {}, and not of {}: they must be identical (RFC 8414 section 3.3)",
                printable(&metadata.issuer),
                printable(issuer)
            );
            return Err(Error::new(Kind::Metadata, message));
        }
        Ok(metadata)
    }

    /// The token endpoint, if the server can do what is wished for. A server that lists nothing may be able to.
    ///
    /// # Errors
    /// [`Kind::Metadata`].
    pub(super) fn token_endpoint(&self, wish: &Wish) -> Result<Uri, Error> {
        let issuer = printable(&self.issuer);
        let lists = |list: &Option<Vec<String>>, value| list.as_ref().is_none_or(|list| list.iter().any(|v| v == value));
        if !lists(&self.grant_types_supported, wish.grant_type) {
            let message = format!("{issuer} does not list the grant {} as supported", wish.grant_type);
            return Err(Error::new(Kind::Metadata, message));
        }
        if !lists(&self.token_endpoint_auth_methods_supported, wish.method) {
            let message = format!("{issuer} does not list client authentication by {} as supported", wish.method);
            return Err(Error::new(Kind::Metadata, message));
        }
        if let Some(algorithm) = wish.algorithm
            && !lists(&self.token_endpoint_auth_signing_alg_values_supported, algorithm)
        {
            let message = format!("{issuer} does not list {algorithm}, the algorithm of the client's key, as supported");
            return Err(Error::new(Kind::Metadata, message));
        }
        let alias = self.mtls_endpoint_aliases.token_endpoint.as_ref().filter(|_| wish.mutual_tls);
        let Some(endpoint) = alias.or(self.token_endpoint.as_ref()) else {
            return Err(Error::new(Kind::Metadata, format!("{issuer} names no token endpoint")));
        };
        secure(endpoint, "the token endpoint")
    }
}

/// Where the metadata of a URL is: the well-known part goes between host and path (RFC 8414 §3.1, RFC 9728 §3.1).
fn well_known(url: &str, name: &str, what: &str) -> Result<Uri, Error> {
    let uri = secure(url, what)?;
    if name == "oauth-authorization-server" && uri.query().is_some() {
        let message = format!("{what} {} has a query: an issuer has none (RFC 8414 section 2)", printable(url));
        return Err(Error::new(Kind::Metadata, message));
    }
    let mut parts = uri.into_parts();
    let path = parts.path_and_query.as_ref().map_or("", |path| path.as_str());
    // A slash that ends the host is removed first.
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let path = if path == "/" { "" } else { path };
    let query = query.map_or(String::new(), |query| format!("?{query}"));
    let path = format!("/.well-known/{name}{path}{query}");
    parts.path_and_query = Some(path.parse().map_err(|e| unusable(url, what, e))?);
    Uri::from_parts(parts).map_err(|e| unusable(url, what, e))
}

/// An absolute URL that nobody on the way can listen to. Plaintext on loopback is the client's to allow (CL-6).
///
/// # Errors
/// [`Kind::Metadata`].
pub(super) fn secure(url: &str, what: &str) -> Result<Uri, Error> {
    let refuse = |why: &str| {
        let message = format!("{what} {} {why}", printable(url));
        Err(Error::new(Kind::Metadata, message))
    };
    if url.contains('#') {
        return refuse("has a fragment");
    }
    let uri: Uri = url.parse().map_err(|e| unusable(url, what, e))?;
    let Some(authority) = uri.authority() else {
        return refuse("is not an absolute URL");
    };
    if authority.as_str().contains('@') {
        return Err(Error::new(Kind::Metadata, format!("{what} is a URL with a user name, which would be logged")));
    }
    match uri.scheme_str() {
        Some("https") => Ok(uri),
        Some("http") if is_loopback(authority.host()) => Ok(uri),
        Some("http") => refuse("is plaintext: it must be https"),
        _ => refuse("is neither https nor http"),
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn unusable(url: &str, what: &str, error: impl Into<crate::error::BoxError>) -> Error {
    Error::because(Kind::Metadata, format!("{what} {} is not a URL", printable(url)), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_well_known_part_goes_between_host_and_path() {
        for (name, url, expected) in [
            ("oauth-authorization-server", "https://as.example", "https://as.example/.well-known/oauth-authorization-server"),
            ("oauth-authorization-server", "https://as.example/", "https://as.example/.well-known/oauth-authorization-server"),
            (
                "oauth-authorization-server",
                "https://as.example/tenant/1",
                "https://as.example/.well-known/oauth-authorization-server/tenant/1",
            ),
            (
                "oauth-authorization-server",
                "https://as.example:8443/tenant/",
                "https://as.example:8443/.well-known/oauth-authorization-server/tenant/",
            ),
            ("oauth-protected-resource", "https://rs.example/mcp", "https://rs.example/.well-known/oauth-protected-resource/mcp"),
            (
                "oauth-protected-resource",
                "https://rs.example/mcp?a=b",
                "https://rs.example/.well-known/oauth-protected-resource/mcp?a=b",
            ),
            (
                "oauth-protected-resource",
                "https://rs.example?a=b",
                "https://rs.example/.well-known/oauth-protected-resource?a=b",
            ),
        ] {
            assert_eq!(well_known(url, name, "it").unwrap().to_string(), expected);
        }
    }

    #[test]
    fn a_url_that_cannot_be_trusted_is_refused_with_the_reason() {
        for (url, reason) in [
            ("http://as.example/", "plaintext"),
            ("ftp://as.example/", "neither"),
            ("/relative", "not an absolute"),
            ("https://as.example/#here", "fragment"),
            ("https://user:secret@as.example/", "user name"),
            ("https://as example/", "not a URL"),
            ("", "not a URL"),
        ] {
            let error = secure(url, "it").unwrap_err();
            assert_eq!(error.kind(), Kind::Metadata);
            assert!(error.to_string().contains(reason), "{url}: {error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        assert!(secure("http://127.0.0.1:8080/", "it").is_ok());
        assert!(secure("http://[::1]:8080/", "it").is_ok());
        let error = well_known("https://as.example/?q", "oauth-authorization-server", "the issuer").unwrap_err();
        assert!(error.to_string().contains("query"), "{error}");
    }
}
