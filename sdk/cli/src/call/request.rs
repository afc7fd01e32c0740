//! The request that is sent, once or many times.

use std::io::Read;

use bowline::AccessToken;
use bowline::client::{Operation, Origin};
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, COOKIE, PROXY_AUTHORIZATION, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::Full;

use super::options::CallOptions;
use crate::failure::Failure;
use crate::secret;

/// What each request is made from.
#[derive(Clone)]
pub(super) struct Template {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) token: Option<AccessToken>,
    pub(super) body: Bytes,
}

impl Template {
    pub(super) fn from_options(options: &CallOptions) -> Result<Self, Failure> {
        let (headers, body) = (headers(&options.header)?, body(&options.data)?);
        let method = match (&options.request, options.data.is_empty()) {
            (Some(method), _) => method
                .parse()
                .map_err(|_| Failure::usage(format!("--request `{method}` is no method")))?,
            (None, true) => Method::GET,
            (None, false) => Method::POST,
        };
        let mut template = Self {
            method,
            uri: uri(&options.url)?,
            headers,
            token: token(options)?,
            body,
        };
        if template.token.is_some() && template.headers.contains_key(AUTHORIZATION) {
            return Err(Failure::usage(
                "--token and an Authorization field of --header: give one of them",
            ));
        }
        let mut default = |name, value| {
            template
                .headers
                .entry(name)
                .or_insert(HeaderValue::from_static(value));
        };
        default(USER_AGENT, concat!("bowline/", env!("CARGO_PKG_VERSION")));
        default(ACCEPT, "*/*");
        if !options.data.is_empty() {
            default(CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        Ok(template)
    }

    pub(super) fn origin(&self) -> Result<Origin, Failure> {
        Origin::from_uri(&self.uri).map_err(|error| Failure::usage(format!("the URL: {error}")))
    }

    /// One request, counted under `operation`.
    pub(super) fn request(&self, operation: Operation) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request.extensions_mut().insert(operation);
        if let Some(token) = &self.token {
            request.extensions_mut().insert(token.clone());
        }
        request
    }
}

fn uri(text: &str) -> Result<Uri, Failure> {
    let whole = match text.contains("://") {
        true => text.to_owned(),
        false => format!("https://{text}"),
    };
    // A fragment is not sent (RFC 9110 §4.1).
    let sent = whole.split('#').next().unwrap_or_default();
    sent.parse()
        .map_err(|error| Failure::usage(format!("the URL cannot be read: {error}")))
}

fn token(options: &CallOptions) -> Result<Option<AccessToken>, Failure> {
    let Some(given) = &options.token else {
        return Ok(None);
    };
    let text = given.read_text("--token")?;
    let token = AccessToken::new(text).map_err(|e| Failure::usage(format!("--token: {e}")))?;
    // What `cnf` does not tell, the key does: a token that goes with a DPoP key is of type DPoP.
    let shows_nothing = matches!(token.demand(), Ok(bowline::client::Demand::None));
    Ok(Some(if options.dpop_key.is_some() && shows_nothing {
        token.with_scheme(bowline::client::Scheme::Dpop)
    } else {
        token
    }))
}

fn headers(given: &[String]) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    for field in given {
        match field.strip_prefix('@') {
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|error| {
                    Failure::usage(format!("--header: {path} cannot be read: {error}"))
                })?;
                for line in text.lines().filter(|line| !line.trim().is_empty()) {
                    add(&mut headers, line)?;
                }
            }
            None => {
                let name = add(&mut headers, field)?;
                if is_secret(&name) {
                    secret::warn_if_on_command_line("--header", field);
                }
            }
        }
    }
    Ok(headers)
}

fn add(headers: &mut HeaderMap, line: &str) -> Result<HeaderName, Failure> {
    // The value may be a secret: no message quotes it.
    let wrong = |why: &str| Failure::usage(format!("--header: {why}: give `Name: value`"));
    let (name, value) = line
        .split_once(':')
        .ok_or_else(|| wrong("a field has no colon"))?;
    let name: HeaderName = name
        .trim()
        .parse()
        .map_err(|_| wrong("a field's name cannot be used"))?;
    let mut value = HeaderValue::from_str(value.trim())
        .map_err(|_| wrong(&format!("the value of {name} cannot be used")))?;
    value.set_sensitive(is_secret(&name));
    headers.append(name.clone(), value);
    Ok(name)
}

/// Fields whose values `-v` does not show.
pub(super) fn is_secret(name: &HeaderName) -> bool {
    [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE].contains(name)
}

fn body(given: &[String]) -> Result<Bytes, Failure> {
    let mut body = Vec::new();
    for (index, data) in given.iter().enumerate() {
        if index > 0 {
            body.push(b'&');
        }
        match data.strip_prefix('@') {
            None => body.extend_from_slice(data.as_bytes()),
            Some("-") => {
                std::io::stdin().read_to_end(&mut body).map_err(|error| {
                    Failure::usage(format!("--data: standard input cannot be read: {error}"))
                })?;
            }
            Some(path) => body.extend(std::fs::read(path).map_err(|error| {
                Failure::usage(format!("--data: {path} cannot be read: {error}"))
            })?),
        }
    }
    Ok(body.into())
}
