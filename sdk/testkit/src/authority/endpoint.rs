//! The token endpoint: who asks, for what, and what is wrong with it (RFC 6749 §4.4, §5; RFC 8705 §2).

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Json, Response};
use bowline_server::ConnectionFacts;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri, header};
use serde_json::{Value, json};

use super::{Binding, House, TokenRequest};

/// `POST /token`.
pub(super) async fn token(
    State(house): State<Arc<House>>,
    Extension(facts): Extension<Arc<ConnectionFacts>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refused> {
    let certificate = facts.certificate().ok_or(Refused::invalid_client(
        "this endpoint needs a client certificate in the TLS handshake (RFC 8705)",
    ))?;
    let form = Form::parse(&headers, &body)?;
    let grant_type = form
        .grant_type
        .ok_or(Refused::invalid_request("the parameter grant_type is missing"))?;
    if grant_type != "client_credentials" {
        return Err(Refused::new(
            "unsupported_grant_type",
            "only client_credentials is granted here",
        ));
    }
    let client_id = form.client_id.ok_or(Refused::invalid_request(
        "the parameter client_id is missing (RFC 8705 section 2)",
    ))?;
    let binding = authenticate(&house, &client_id, certificate.der())?;

    let confirmation = binding.confirmation(certificate.thumbprint()); // AS-1
    let mut request = TokenRequest::new(&client_id, confirmation);
    if let Some(scope) = &form.scope {
        request = request.scope(scope);
    }
    if let Some(resource) = form.resource {
        request = request.audience(resource);
    }
    let mut answer = json!({
        "access_token": house.issue(&request),
        "token_type": "Bearer",
        "expires_in": house.options.lifetime.as_secs(),
    });
    if let Some(scope) = form.scope {
        answer["scope"] = json!(scope);
    }
    Ok(uncached(StatusCode::OK, answer))
}

/// Finds out whether the certificate is this client's, and how its tokens are bound.
///
/// RFC 8705 §2.1: the certificate's subject is the one registered for the client; here, for a
/// client that is not registered, its id.
fn authenticate(house: &House, client_id: &str, certificate: &[u8]) -> Result<Binding, Refused> {
    let registered = house.options.clients.iter().find(|c| c.id == client_id);
    let (subject, binding) = match registered {
        Some(client) => (client.subject.as_str(), client.binding),
        None => (client_id, house.options.binding),
    };
    if common_name(certificate).as_deref() != Some(subject) {
        return Err(Refused::invalid_client(
            "the certificate's subject common name is not that of the client",
        ));
    }
    Ok(binding)
}

fn common_name(certificate: &[u8]) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let name = certificate.subject().iter_common_name().next()?;
    name.as_str().ok().map(str::to_owned)
}

/// The parameters that are understood; others are ignored (RFC 6749 §3.2).
#[derive(Default)]
struct Form {
    grant_type: Option<String>,
    client_id: Option<String>,
    scope: Option<String>,
    resource: Option<String>,
}

impl Form {
    fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Self, Refused> {
        if !is_form(headers) {
            return Err(Refused::invalid_request(
                "the body must be application/x-www-form-urlencoded",
            ));
        }
        let mut form = Self::default();
        for (name, value) in form_urlencoded::parse(body) {
            let place = match &*name {
                "grant_type" => &mut form.grant_type,
                "client_id" => &mut form.client_id,
                "scope" => &mut form.scope,
                "resource" => &mut form.resource,
                _ => continue,
            };
            // A parameter without a value counts as omitted (RFC 6749 §3.2).
            if value.is_empty() {
                continue;
            }
            if place.replace(value.into_owned()).is_some() {
                return Err(Refused::twice(&name));
            }
        }
        if form.scope.as_deref().is_some_and(|s| !is_scope(s)) {
            return Err(Refused::new("invalid_scope", "the scope is malformed"));
        }
        if form.resource.as_deref().is_some_and(|r| !is_resource(r)) {
            return Err(Refused::new(
                "invalid_target",
                "the resource must be an absolute URI without fragment (RFC 8707 section 2)",
            ));
        }
        Ok(form)
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE);
    let essence = content_type
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next());
    essence.is_some_and(|e| e.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded"))
}

/// RFC 6749 §3.3: tokens of visible ASCII without `"` and `\`, one space between them.
fn is_scope(scope: &str) -> bool {
    scope
        .split(' ')
        .all(|token| !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\'))
}

fn is_resource(resource: &str) -> bool {
    let uri = resource.parse::<Uri>();
    !resource.contains('#') && uri.is_ok_and(|uri| uri.scheme().is_some() && uri.host().is_some())
}

/// An error response (RFC 6749 §5.2).
pub(super) struct Refused {
    status: StatusCode,
    error: &'static str,
    description: String,
}

impl Refused {
    fn new(error: &'static str, description: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            error,
            description: description.into(),
        }
    }

    fn invalid_request(description: &'static str) -> Self {
        Self::new("invalid_request", description)
    }

    fn invalid_client(description: &'static str) -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            ..Self::new("invalid_client", description)
        }
    }

    /// Several resources may be named (RFC 8707 §2), but one audience is all that tokens have here.
    fn twice(name: &str) -> Self {
        match name {
            "resource" => Self::new("invalid_target", "only one resource at a time"),
            _ => Self::new("invalid_request", format!("{name} is there more than once")),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let body = json!({ "error": self.error, "error_description": self.description });
        uncached(self.status, body)
    }
}

/// RFC 6749 §5.1: what the token endpoint says is never stored.
fn uncached(status: StatusCode, body: Value) -> Response {
    (status, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}
