//! One request out, whatever the binding: service parameters, access token, label, claims; and
//! whether its answer is one.

use std::fmt;
use std::time::Duration;

use a2a::jsonrpc::methods;
use a2a::{A2AError, VERSION};
use a2a_client::ServiceParams;
use bowline_client::bind::BindingRefusal;
use bowline_client::{Body, Client, Origin, Repeatable};
use bowline_proof::PROOF_HEADER;
use bowline_proof::dpop::DPOP_HEADER;
use bowline_token::Authorized;
use bowline_transport::body;
use bowline_transport::head::{
    MAX_REDIRECTS, binding_error, content_type, has_media_type, media_type, onward, shown_target,
};
use bowline_transport::{Call, Operations, RequestBoundCalls};
use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH,
    CONTENT_TYPE, COOKIE, EXPECT, HOST, LOCATION, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use tokio::time::timeout;

use crate::card::Terms;
use crate::failure::{ErrorKind, Failure, shown};
use crate::results::Misread;

const VERSION_FIELD: HeaderName = HeaderName::from_static("a2a-version");
const EXTENSIONS_FIELD: HeaderName = HeaderName::from_static("a2a-extensions");

/// What is not a service parameter's to say: it frames the message, says how the answer is read, or
/// belongs to the connection.
const RESERVED: [HeaderName; 17] = [
    ACCEPT,
    ACCEPT_ENCODING,
    CONNECTION,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    EXPECT,
    HOST,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    PROOF_HEADER,
    DPOP_HEADER,
];

/// Methods that may be sent again after a connection that ended, whatever HTTP makes of them
/// (CL-7): they change nothing (A2A §3.3.1). Sending a message is none of them.
const REPEATABLE: [&str; 6] = [
    methods::GET_TASK,
    methods::LIST_TASKS,
    methods::SUBSCRIBE_TO_TASK,
    methods::GET_PUSH_CONFIG,
    methods::LIST_PUSH_CONFIGS,
    methods::GET_EXTENDED_AGENT_CARD,
];

/// How long an answer's body may take once its head has come: what takes long in A2A takes long
/// before that.
const BODY_TIME: Duration = Duration::from_secs(60);

/// How much is read of an answer that only a person will read, in bytes.
const MAX_TEXT: usize = 4 * 1024;

/// Where the access token of a call comes from.
#[derive(Clone, Debug)]
pub(crate) enum Credential {
    /// From the call's service parameters, if at all: an interceptor puts it there.
    Theirs,
    /// From a source, for one origin.
    Own(Authorized),
}

/// The way to one interface of one agent.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    pub(crate) client: Client,
    pub(crate) credential: Credential,
    pub(crate) operations: Operations,
    pub(crate) claims: RequestBoundCalls,
    /// What the agent's card wants of each call.
    pub(crate) terms: Terms,
    /// Longest answer that is no stream, in bytes.
    pub(crate) longest_answer: usize,
}

/// A call of one method on its way through HTTP machinery that does not know it: in a request's
/// extensions.
#[derive(Clone)]
pub(crate) struct Outbound {
    pub(crate) method: &'static str,
    pub(crate) params: ServiceParams,
}

/// The parameters' values may be secret.
impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound")
            .field("method", &self.method)
            .field("params", &self.params.keys())
            .finish()
    }
}

impl Wire {
    /// Sends a request, and once more for each redirect to the same origin.
    ///
    /// The answer may have any status but that of a redirect.
    ///
    /// # Errors
    /// Those of the client and of the token source; `InvalidCall`, `BindingRefused` and `Redirect`.
    pub(crate) async fn send(
        &self,
        call: &Outbound,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Body>, Failure> {
        let fields = request.headers_mut();
        put(&call.params, self.has_token(), fields)?;
        self.terms
            .allow(self.has_token() || fields.contains_key(AUTHORIZATION))?;
        if let Some(uri) = self.terms.extension() {
            activate(uri, fields)?;
        }
        let named = Call {
            method: call.method,
            target: None,
            is_destructive: false,
        };
        let extensions = request.extensions_mut();
        extensions.insert(self.operations.of(call.method));
        if REPEATABLE.contains(&call.method) {
            extensions.insert(Repeatable);
        }
        self.claims.apply_to(&named, extensions);
        self.terms.apply_to(call.method, extensions);
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send_once(request.clone()).await?;
            let (head, rest) = response.into_parts();
            let Some(target) = onward(request.uri(), &head) else {
                return checked(Response::from_parts(head, rest));
            };
            // Not where to: a server may put into a path what it was sent (EX-7).
            tracing::debug!(status = %head.status, "redirected within the origin");
            body::discard(rest).await;
            *request.uri_mut() = target;
        }
        let message =
            format!("the agent redirects for more than {MAX_REDIRECTS} times; ask whoever runs it");
        Err(Failure::new(ErrorKind::Redirect, message))
    }

    fn has_token(&self) -> bool {
        matches!(self.credential, Credential::Own(_))
    }

    async fn send_once(&self, request: Request<Full<Bytes>>) -> Result<Response<Body>, Failure> {
        match &self.credential {
            Credential::Own(authorized) => Ok(authorized.send(request).await?),
            Credential::Theirs => Ok(self.client.send(request).await?),
        }
    }

    /// The body of an answer of success that should be JSON, whatever type it says it has. A page
    /// is not read: somebody wants people to log in.
    ///
    /// # Errors
    /// As [`whole`](Self::whole), and `NotA2a`.
    pub(crate) async fn json(&self, head: &Parts, rest: Body) -> Result<Vec<u8>, Failure> {
        if is_html(&head.headers) {
            let bytes = body::prefix(rest, MAX_TEXT).await;
            return Err(not_a2a(head, &bytes, "no JSON"));
        }
        self.whole(rest)
            .await
            .map_err(|failure| failure.with_head(head))
    }

    /// The body of an error status, which may be JSON that says more: as much of it as can be had.
    pub(crate) async fn error_text(&self, head: &Parts, rest: Body) -> Vec<u8> {
        match is_json(&head.headers) {
            true => self.whole(rest).await.unwrap_or_default(),
            false => body::prefix(rest, MAX_TEXT).await,
        }
    }

    /// The whole body of an answer that is no stream.
    ///
    /// # Errors
    /// `TooLong`, `TimedOut`, and `MayHaveBeenProcessed` if its connection ended first.
    pub(crate) async fn whole(&self, rest: Body) -> Result<Vec<u8>, Failure> {
        whole(rest, self.longest_answer).await
    }
}

/// A whole body of no more than `limit` bytes.
pub(crate) async fn whole(rest: Body, limit: usize) -> Result<Vec<u8>, Failure> {
    let (kind, message) = match timeout(BODY_TIME, body::whole(rest, limit)).await {
        Ok(Ok(bytes)) => return Ok(bytes),
        Ok(Err(body::WholeError::Client(e))) => (ErrorKind::MayHaveBeenProcessed, e.to_string()),
        Ok(Err(e)) => (ErrorKind::TooLong, e.to_string()),
        Err(_) => {
            let message = format!("the agent began to answer and did not end within {BODY_TIME:?}");
            (ErrorKind::TimedOut, message)
        }
    };
    Err(Failure::new(kind, message).processed(true))
}

/// The URL of an interface, if requests may go there.
///
/// # Errors
/// `InvalidCall` if it is none, `OtherOrigin` if its origin is not one of `allowed` (CL-6).
pub(crate) fn endpoint(url: &str, allowed: &[Origin]) -> Result<Uri, Failure> {
    let unusable = |why: String| {
        // What is in front of the host, or behind the path, may be secret.
        let url = shown_target(url).unwrap_or_default();
        Failure::new(
            ErrorKind::InvalidCall,
            format!("the URL {url:?} of the agent's interface {why}"),
        )
    };
    let uri: Uri = url.parse().map_err(|e| unusable(format!("is none: {e}")))?;
    let origin = Origin::of(&uri).map_err(|e| unusable(format!("cannot be used: {e}")))?;
    if !allowed.contains(&origin) {
        let message = format!(
            "the agent's card puts this interface at {origin}, and this client's requests are for {}; add that origin \
             (Transports::also) if it is the agent's",
            allowed
                .iter()
                .map(Origin::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        );
        return Err(Failure::new(ErrorKind::OtherOrigin, message));
    }
    Ok(uri)
}

/// Writes service parameters into header fields, as every binding has them (A2A §3.2.6), and the
/// version if none is among them.
fn put(params: &ServiceParams, has_token: bool, fields: &mut HeaderMap) -> Result<(), Failure> {
    let invalid = |name: &str, why: &str| {
        let message = format!("the service parameter {:?} {why}", shown(name));
        Failure::new(ErrorKind::InvalidCall, message)
    };
    for (key, values) in params {
        let name = HeaderName::from_bytes(key.as_bytes())
            .map_err(|_| invalid(key, "is no name of a header field"))?;
        if RESERVED.contains(&name) {
            return Err(invalid(key, "is not the caller's to give"));
        }
        if name == AUTHORIZATION && has_token {
            return Err(invalid(
                key,
                "and the transport's own token are two credentials: give one",
            ));
        }
        // One field for the list that A2A has (§9.2, §11.2); of other fields nobody knows whether
        // they are lists.
        let joined = (name == EXTENSIONS_FIELD && values.len() > 1).then(|| vec![values.join(",")]);
        for value in joined.as_ref().unwrap_or(values) {
            let mut value = HeaderValue::from_str(value)
                .map_err(|_| invalid(key, "has a value that no field can have"))?;
            value.set_sensitive(name == AUTHORIZATION || name == COOKIE);
            fields.append(name.clone(), value);
        }
    }
    if !fields.contains_key(VERSION_FIELD) {
        fields.insert(VERSION_FIELD, HeaderValue::from_static(VERSION));
    }
    Ok(())
}

/// Names an extension in `A2A-Extensions` besides those that the caller names: one field, with
/// commas (A2A §9.2).
fn activate(uri: &str, fields: &mut HeaderMap) -> Result<(), Failure> {
    let values = fields.get_all(EXTENSIONS_FIELD).iter();
    let named: Vec<_> = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|named| !named.is_empty() && *named != uri)
        .chain([uri])
        .collect();
    let value = HeaderValue::try_from(named.join(",")).map_err(|_| {
        Failure::new(
            ErrorKind::InvalidCall,
            "A2A-Extensions has a value that no field can have",
        )
    })?;
    fields.insert(EXTENSIONS_FIELD, value);
    Ok(())
}

/// An answer that is worth reading for the binding.
fn checked(response: Response<Body>) -> Result<Response<Body>, Failure> {
    let failure = if let Some(refusal) = response.extensions().get::<BindingRefusal>() {
        Failure::new(ErrorKind::BindingRefused, binding_refused(refusal))
    } else if response.status() == StatusCode::UNAUTHORIZED
        && let Some(error) = binding_error(response.headers())
    {
        let message = format!(
            "the agent answers {error}, and no proof that it takes could be made: check that the client has a certificate \
             and key, and that nothing on the way terminates TLS"
        );
        Failure::new(ErrorKind::BindingRefused, message)
    } else if response.status().is_redirection() {
        let location = response
            .headers()
            .get(LOCATION)
            .and_then(|value| value.to_str().ok());
        let to = location
            .and_then(shown_target)
            .unwrap_or_else(|| "nowhere".to_owned());
        // Segment by segment: a slash is a character of tokens.
        let to = to.split('/').map(shown).collect::<Vec<_>>().join("/");
        let message = format!(
            "the agent redirects (HTTP {}) to {to}: configure that as the interface's URL",
            response.status()
        );
        let has_moved = matches!(
            response.status(),
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
        );
        // Any other may lead to what came of the call (RFC 9110 §15.4.4).
        Failure::new(ErrorKind::Redirect, message).processed(!has_moved)
    } else {
        return Ok(response);
    };
    let (head, rest) = response.into_parts();
    rest.drain_in_background();
    Err(failure.with_head(&head))
}

/// An answer that is no A2A, of an error status: what it says of itself.
pub(crate) async fn refused(head: &Parts, rest: Body) -> Failure {
    let bytes = body::prefix(rest, MAX_TEXT).await;
    refused_with(head, &bytes)
}

/// The same, of one that has been read.
pub(crate) fn refused_with(head: &Parts, bytes: &[u8]) -> Failure {
    let what = describe(&head.headers, bytes);
    let status = head.status;
    let hint = match status {
        StatusCode::UNAUTHORIZED => "; the access token is missing or not accepted",
        StatusCode::FORBIDDEN => "; the access token does not allow this",
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
            "; is this the URL of the interface?"
        }
        _ => "",
    };
    let message =
        format!("the agent, or what is in front of it, answered HTTP {status} with {what}{hint}");
    of_status(head, message)
}

/// What an error status means by itself.
pub(crate) fn of_status(head: &Parts, message: impl Into<String>) -> Failure {
    let kind = match head.status {
        StatusCode::UNAUTHORIZED => ErrorKind::Unauthorized,
        StatusCode::FORBIDDEN => ErrorKind::Forbidden,
        _ => ErrorKind::Status,
    };
    Failure::new(kind, message)
        .processed(head.status.is_server_error())
        .with_head(head)
}

/// Whether a status says more than an A2A error that comes with it.
pub(crate) fn says_more(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::SERVICE_UNAVAILABLE
    )
}

/// What an answer of success is instead of a result.
pub(crate) fn answered(misread: Misread, head: &Parts, bytes: &[u8]) -> A2AError {
    match misread {
        Misread::Reported(error) => error,
        Misread::NotA2a(why) => not_a2a(head, bytes, &why).into(),
    }
}

/// An answer of success that is no A2A.
fn not_a2a(head: &Parts, bytes: &[u8], why: &str) -> Failure {
    let what = describe(&head.headers, bytes);
    let message = format!(
        "the agent, or what is in front of it, answered HTTP {} with what is no A2A ({}): {what}; is this the URL of the \
         interface?",
        head.status,
        shown(why)
    );
    Failure::new(ErrorKind::NotA2a, message).with_head(head)
}

/// What an answer holds that is not A2A's.
pub(crate) fn describe(fields: &HeaderMap, bytes: &[u8]) -> String {
    let text = shown(&String::from_utf8_lossy(bytes));
    match content_type(fields) {
        _ if bytes.is_empty() => "no text".to_owned(),
        // Nobody reads markup in a log.
        Some(_) if is_html(fields) => "an HTML page".to_owned(),
        Some(media_type) => format!("{}: {text}", shown(&media_type)),
        None => format!("text of no stated type: {text}"),
    }
}

fn is_html(fields: &HeaderMap) -> bool {
    has_media_type(fields, "text/html") || has_media_type(fields, "application/xhtml+xml")
}

/// `application/json`, or a type built on it (RFC 6839 §3.1).
fn is_json(fields: &HeaderMap) -> bool {
    media_type(fields)
        .is_some_and(|media_type| media_type.ends_with("/json") || media_type.ends_with("+json"))
}

fn binding_refused(refusal: &BindingRefusal) -> String {
    let certificate = match &refusal.certificate {
        Some(certificate) => format!(" made with certificate {certificate}"),
        None => String::new(),
    };
    let clock = match refusal.clock_difference {
        Some(seconds) => format!("; the agent's clock less ours is {seconds} s"),
        None => String::new(),
    };
    format!(
        "the agent refused a fresh session-binding proof{certificate} with {}: check that nothing on the way terminates TLS, \
         that the token's cnf names this certificate, and whether the agent wants proofs for single calls \
         (Transports::request_bound_calls){clock}",
        shown(&refusal.error)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_among_the_parameters_is_shown_to_nobody() {
        let names = ["authorization", "Cookie", "x-one"];
        let params: ServiceParams = names
            .map(|name| (name.to_owned(), vec!["a-secret".to_owned()]))
            .into();
        let mut fields = HeaderMap::new();
        put(&params, false, &mut fields).unwrap();
        assert!(fields[AUTHORIZATION].is_sensitive() && fields[COOKIE].is_sensitive());
        assert!(!fields["x-one"].is_sensitive());
        let outbound = Outbound {
            method: methods::GET_TASK,
            params,
        };
        let shown = format!("{outbound:?}");
        assert!(
            shown.contains("x-one") && !shown.contains("a-secret"),
            "{shown}"
        );
    }
}
