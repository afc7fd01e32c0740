//! The parameters of a request: a form, each parameter at most once (RFC 6749 §3.2).

use std::collections::HashMap;

use std::sync::Arc;

use axum::Extension;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::response::{IntoResponse, Response};
use bowline_server::ConnectionFacts;
use bytes::Bytes;
use http::{HeaderMap, Uri, header};

use super::rejection::Rejection;

/// The parameters; those that no endpoint reads are ignored.
pub(super) struct Form(HashMap<String, String>);

impl Form {
    fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Self, Rejection> {
        if !is_form(headers) {
            return Err(Rejection::invalid_request(
                "the body must be application/x-www-form-urlencoded",
            ));
        }
        let mut form = HashMap::new();
        for (name, value) in form_urlencoded::parse(body) {
            // A parameter without a value counts as omitted (RFC 6749 §3.2).
            if value.is_empty() {
                continue;
            }
            if form.insert(name.to_string(), value.into_owned()).is_some() {
                return Err(duplicated(&name));
            }
        }
        Ok(Self(form))
    }

    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(super) fn required(&self, name: &str) -> Result<&str, Rejection> {
        self.value(name).ok_or_else(|| Rejection::missing(name))
    }

    /// RFC 6749 §3.3: tokens of visible ASCII without `"` and `\`, one space between them.
    pub(super) fn scope(&self) -> Result<Option<&str>, Rejection> {
        let scope = self.value("scope");
        let is_name = |name: &str| {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
        };
        if scope.is_none_or(|scope| scope.split(' ').all(is_name)) {
            return Ok(scope);
        }
        Err(Rejection::new("invalid_scope", "the scope is malformed"))
    }

    /// RFC 8707 §2.
    pub(super) fn resource(&self) -> Result<Option<&str>, Rejection> {
        let resource = self.value("resource");
        let is_resource = |resource: &str| {
            let uri = resource.parse::<Uri>();
            !resource.contains('#')
                && uri.is_ok_and(|uri| uri.scheme().is_some() && uri.host().is_some())
        };
        if resource.is_none_or(is_resource) {
            return Ok(resource);
        }
        Err(Rejection::invalid_target(
            "the resource must be an absolute URI without fragment (RFC 8707 section 2)",
        ))
    }
}

/// A request with a form, and the connection that it came over.
pub(super) struct FormRequest {
    pub(super) facts: Arc<ConnectionFacts>,
    pub(super) headers: HeaderMap,
    pub(super) form: Form,
}

impl<S: Send + Sync> FromRequest<S> for FormRequest {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let Extension(facts) = Extension::from_request_parts(&mut parts, state)
            .await
            .map_err(IntoResponse::into_response)?;
        let headers = parts.headers.clone();
        let body = Bytes::from_request(Request::from_parts(parts, body), state)
            .await
            .map_err(IntoResponse::into_response)?;
        let form = Form::parse(&headers, &body).map_err(IntoResponse::into_response)?;
        Ok(Self {
            facts,
            headers,
            form,
        })
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE);
    let essence = content_type
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next());
    essence.is_some_and(|e| {
        e.trim()
            .eq_ignore_ascii_case("application/x-www-form-urlencoded")
    })
}

/// A request may name several targets (RFC 8707 §2, RFC 8693 §2.1), but tokens of this server have
/// one audience.
fn duplicated(name: &str) -> Rejection {
    match name {
        "resource" | "audience" => Rejection::invalid_target(format!("only one {name} at a time")),
        _ => Rejection::invalid_request(format!("the parameter {name} is there more than once")),
    }
}
