//! Protected resource metadata (RFC 9728).

use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use bowline_proof::Algorithm;
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use serde::Serialize;
use serde_json::{Map, Value};
use tower_service::Service;

use crate::endpoint::is_loopback;

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// The metadata of one protected resource (RFC 9728 section 2).
///
/// It informs clients. What is required of them, [`BindingLayer`](crate::BindingLayer) decides.
///
/// ```
/// # use bowline_server::TokenValidator;
/// # type Error = Box<dyn std::error::Error>;
/// # fn run<V: TokenValidator>(validator: V) -> Result<axum::Router, Error> {
/// use bowline_server::{BindingLayer, ResourceMetadata};
///
/// let metadata = ResourceMetadata::new("https://api.example.com/mcp")?
///     .authorization_servers(["https://as.example.com"])
///     .scopes(["mcp:read", "mcp:write"])
///     .certificate_bound_tokens(true);
/// // Named in every challenge, and public.
/// let binding = BindingLayer::new(validator).resource(&metadata);
/// let router = axum::Router::new()
///     .route("/mcp", axum::routing::post(async || "hello"))
///     .route_service(metadata.path(), metadata.service())
///     .layer(binding);
/// # Ok(router)
/// # }
/// ```
#[derive(Clone, Debug, Serialize)]
pub struct ResourceMetadata {
    resource: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    authorization_servers: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scopes_supported: Vec<String>,
    /// Tokens are accepted only in `Authorization` (TK-0).
    bearer_methods_supported: [&'static str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_client_certificate_bound_access_tokens: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dpop_signing_alg_values_supported: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dpop_bound_access_tokens_required: Option<bool>,
    #[serde(flatten)]
    further: Map<String, Value>,
    #[serde(skip)]
    url: String,
    #[serde(skip)]
    path: String,
}

impl ResourceMetadata {
    /// For the resource with this identifier: an `https` URL (or an `http` URL on loopback, for
    /// development) without query and fragment, which clients name when they request tokens (RFC
    /// 8707) and which is the audience of these tokens.
    ///
    /// # Errors
    /// It is not such a URL.
    pub fn new(resource: impl Into<String>) -> Result<Self, InvalidResource> {
        let resource = resource.into();
        let uri: Uri = resource.parse().map_err(|_| InvalidResource)?;
        let host = uri
            .host()
            .filter(|host| !host.is_empty())
            .ok_or(InvalidResource)?;
        let scheme = match uri.scheme_str() {
            Some("https") => "https",
            Some("http") if is_loopback(host) => "http",
            _ => return Err(InvalidResource),
        };
        let authority = uri.authority().ok_or(InvalidResource)?.as_str();
        // `Uri` drops a fragment silently.
        if uri.query().is_some() || resource.contains('#') || authority.contains('@') {
            return Err(InvalidResource);
        }
        // Section 3.1: a lone slash after the host is dropped; otherwise the path follows the
        // well-known path.
        let path = match uri.path() {
            "/" => WELL_KNOWN.to_owned(),
            path => format!("{WELL_KNOWN}{path}"),
        };
        Ok(Self {
            url: format!("{scheme}://{authority}{path}"),
            path,
            resource,
            authorization_servers: Vec::new(),
            scopes_supported: Vec::new(),
            bearer_methods_supported: ["header"],
            tls_client_certificate_bound_access_tokens: None,
            dpop_signing_alg_values_supported: Vec::new(),
            dpop_bound_access_tokens_required: None,
            further: Map::new(),
        })
    }

    /// `authorization_servers`: the issuers whose tokens are accepted here.
    #[must_use]
    pub fn authorization_servers(
        mut self,
        issuers: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        self.authorization_servers = issuers.into_iter().map(Into::into).collect();
        self
    }

    /// `scopes_supported`.
    #[must_use]
    pub fn scopes(mut self, scopes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.scopes_supported = scopes.into_iter().map(Into::into).collect();
        self
    }

    /// `tls_client_certificate_bound_access_tokens`: whether tokens that are bound to a client
    /// certificate (RFC 8705), including session-bound tokens, are accepted.
    #[must_use]
    pub fn certificate_bound_tokens(mut self, taken: bool) -> Self {
        self.tls_client_certificate_bound_access_tokens = Some(taken);
        self
    }

    /// `dpop_signing_alg_values_supported`, with the algorithms that
    /// [`BindingLayer::dpop`](crate::BindingLayer::dpop) accepts; and
    /// `dpop_bound_access_tokens_required`.
    #[must_use]
    pub fn dpop(mut self, required: bool) -> Self {
        self.dpop_signing_alg_values_supported = Algorithm::ALL.map(Algorithm::name).to_vec();
        self.dpop_bound_access_tokens_required = Some(required);
        self
    }

    /// Another member, such as `resource_name` or `resource_documentation`. A member that another
    /// method sets is not replaced.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        const OWN: [&str; 7] = [
            "resource",
            "authorization_servers",
            "scopes_supported",
            "bearer_methods_supported",
            "tls_client_certificate_bound_access_tokens",
            "dpop_signing_alg_values_supported",
            "dpop_bound_access_tokens_required",
        ];
        let name = name.into();
        if !OWN.contains(&&*name) {
            self.further.insert(name, value.into());
        }
        self
    }

    /// The identifier of the resource.
    #[must_use]
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// The URL of this document (RFC 9728 section 3.1): `resource_metadata` in challenges.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The path of [`url`](Self::url), to which [`service`](Self::service) must be routed.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// A service that answers `GET` and `HEAD` with this document.
    #[must_use]
    pub fn service(&self) -> MetadataService {
        let document = serde_json::to_vec(self).expect("strings and JSON values");
        MetadataService(document.into())
    }
}

/// The text is not a valid resource identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a resource identifier is an https URL without query, fragment and user name; http is for loopback only"
)]
pub struct InvalidResource;

/// Answers with protected resource metadata. See [`ResourceMetadata::service`].
#[derive(Clone)]
pub struct MetadataService(Bytes);

impl<B> Service<Request<B>> for MetadataService {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut response = Response::new(Full::default());
        match *request.method() {
            // hyper omits the body of a response to HEAD and keeps its length.
            Method::GET | Method::HEAD => {
                let json = HeaderValue::from_static("application/json");
                response.headers_mut().insert(CONTENT_TYPE, json);
                *response.body_mut() = self.0.clone().into();
            }
            _ => {
                *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
                response
                    .headers_mut()
                    .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            }
        }
        ready(Ok(response))
    }
}

impl fmt::Debug for MetadataService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetadataService").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
