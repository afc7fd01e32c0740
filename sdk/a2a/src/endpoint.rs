//! Sends the requests of every binding: adds service parameters, access token, operation and proof
//! scope, follows redirects, and checks the response.

use std::fmt;

use a2a::jsonrpc::methods;
use a2a::{A2AError, VERSION};
use a2a_client::ServiceParams;
use bowline_http_client::bind::BindingRefusal;
use bowline_http_client::{Body, Client, Origin, Repeatable};
use bowline_proof::PROOF_HEADER;
use bowline_proof::dpop::DPOP_HEADER;
use bowline_transport::body::{self, WholeError};
use bowline_transport::credential::Credential;
use bowline_transport::head::{binding_error, is_unprocessed, media_type};
use bowline_transport::redact::SentTokens;
use bowline_transport::redirect::{FollowError, NotFollowed, follow_same_origin, shown_location};
use bowline_transport::{Call, Operations, RequestBoundCalls};
use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH,
    CONTENT_TYPE, COOKIE, EXPECT, HOST, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::Full;

use crate::card::CallRequirements;
use crate::decode::DecodeError;
use crate::error::{Error, ErrorKind};
use crate::text::{describe, is_html, printable, redacted, sent_tokens, shown_url};

const VERSION_FIELD: HeaderName = HeaderName::from_static("a2a-version");
const EXTENSIONS_FIELD: HeaderName = HeaderName::from_static("a2a-extensions");

/// Fields that no service parameter may set: they frame the message, determine how the response is
/// read, or belong to the connection.
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

/// Methods that may be sent again after a lost connection, whatever their HTTP method (CL-7): they
/// change nothing (A2A §3.3.1). Sending a message is not among them.
const REPEATABLE: [&str; 6] = [
    methods::GET_TASK,
    methods::LIST_TASKS,
    methods::SUBSCRIBE_TO_TASK,
    methods::GET_PUSH_CONFIG,
    methods::LIST_PUSH_CONFIGS,
    methods::GET_EXTENDED_AGENT_CARD,
];

/// Maximum bytes read of a body that is only quoted in an error.
const MAX_TEXT: usize = 4 * 1024;

/// One interface of one agent, and what requests to it are made with.
#[derive(Clone, Debug)]
pub(crate) struct AgentEndpoint {
    pub(crate) client: Client,
    /// The path of the interface's URL: redirects lead to it or below it (CL-6).
    pub(crate) path: String,
    /// Without a source, a call's access token comes from its service parameters, if an interceptor
    /// puts one there.
    pub(crate) credential: Credential,
    /// The tokens of the source that were sent.
    pub(crate) sent: SentTokens,
    pub(crate) operations: Operations,
    pub(crate) request_bound: RequestBoundCalls,
    /// What the agent's card requires of each call.
    pub(crate) requirements: CallRequirements,
    /// Maximum length of a response that is not a stream, in bytes.
    pub(crate) max_response_bytes: usize,
}

/// A call of one method. It travels through the generated gRPC stub in the request's extensions.
#[derive(Clone)]
pub(crate) struct OutgoingCall {
    pub(crate) method: &'static str,
    pub(crate) params: ServiceParams,
}

/// Without the parameters' values, which may be secret.
impl fmt::Debug for OutgoingCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutgoingCall")
            .field("method", &self.method)
            .field("params", &self.params.keys())
            .finish()
    }
}

impl AgentEndpoint {
    /// Sends a request, and again for each redirect that may be followed (CL-6).
    ///
    /// The response may have any status except a redirect's.
    ///
    /// # Errors
    /// Those of the client and of the token source; `InvalidCall`, `BindingRefused` and `Redirect`.
    pub(crate) async fn send(
        &self,
        call: &OutgoingCall,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Body>, Error> {
        let fields = request.headers_mut();
        write_params(&call.params, self.has_token(), fields)?;
        self.requirements
            .check_token(self.has_token() || fields.contains_key(AUTHORIZATION))?;
        if let Some(uri) = self.requirements.extension() {
            add_extension(uri, fields)?;
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
        self.request_bound.apply_to(&named, extensions);
        self.requirements.apply_to(call.method, extensions);
        let sent = self.tokens_of(&request);
        let send = |request| self.credential.send(&self.client, request);
        match follow_same_origin(request, &self.path, send).await {
            Ok(mut response) => {
                response.extensions_mut().insert(sent);
                check_response(response)
            }
            Err(FollowError::Send(e)) => Err(e.into()),
            Err(FollowError::NotFollowed(redirect)) => Err(redirect_error(*redirect, &sent)),
        }
    }

    /// The tokens that errors of this call must not show: the caller's, or those of the source.
    fn tokens_of<B>(&self, request: &Request<B>) -> SentTokens {
        if self.has_token() {
            return self.sent.clone();
        }
        SentTokens::of_caller(request.headers())
    }

    fn has_token(&self) -> bool {
        self.credential.has_token()
    }

    /// The body of a successful response that should be JSON, whatever its media type. An HTML page
    /// is rejected: it is likely a login page.
    ///
    /// # Errors
    /// As [`whole`](Self::whole), and `NotA2a`.
    pub(crate) async fn json(&self, head: &Parts, rest: Body) -> Result<Vec<u8>, Error> {
        if is_html(&head.headers) {
            let bytes = body::prefix(rest, MAX_TEXT).await;
            return Err(not_a2a(head, &bytes, "not JSON"));
        }
        self.whole(rest)
            .await
            .map_err(|failure| failure.with_head(head))
    }

    /// The body of an error response: all of it if it is JSON, otherwise its beginning.
    pub(crate) async fn error_text(&self, head: &Parts, rest: Body) -> Vec<u8> {
        if is_json(&head.headers) {
            self.whole(rest).await.unwrap_or_default()
        } else {
            body::prefix(rest, MAX_TEXT).await
        }
    }

    /// The whole body of a response that is not a stream.
    ///
    /// # Errors
    /// `TooLong`, `TimedOut`, and `MayHaveBeenProcessed` if its connection ended first.
    pub(crate) async fn whole(&self, rest: Body) -> Result<Vec<u8>, Error> {
        whole(rest, self.max_response_bytes).await
    }
}

/// A whole body of at most `limit` bytes.
pub(crate) async fn whole(rest: Body, limit: usize) -> Result<Vec<u8>, Error> {
    let failure = match body::whole(rest, limit).await {
        Ok(bytes) => return Ok(bytes),
        Err(failure) => failure,
    };
    let kind = match &failure {
        WholeError::TooLarge { .. } => ErrorKind::TooLong,
        WholeError::TimedOut(_) => ErrorKind::TimedOut,
        // `Client`; the enum is non-exhaustive.
        _ => ErrorKind::MayHaveBeenProcessed,
    };
    Err(Error::new(kind, failure.to_string()).with_processed(true))
}

/// Parses the URL of an interface and checks that requests may go there.
///
/// # Errors
/// `InvalidCall` if it is invalid, `OtherOrigin` if its origin is not one of `allowed` (CL-6).
pub(crate) fn checked_url(url: &str, allowed: &[Origin]) -> Result<Uri, Error> {
    let unusable = |why: String| {
        // Without user information and query, which may be secret.
        let url = shown_url(url);
        Error::new(
            ErrorKind::InvalidCall,
            format!("the URL {url:?} of the agent's interface {why}"),
        )
    };
    let uri: Uri = url
        .parse()
        .map_err(|e| unusable(format!("is invalid: {e}")))?;
    let origin = Origin::from_uri(&uri).map_err(|e| unusable(format!("cannot be used: {e}")))?;
    if !allowed.contains(&origin) {
        let message = format!(
            "the agent's card puts this interface at {origin}, and this client's requests are for \
             {}; add that origin (Transports::also) if it is the agent's",
            allowed
                .iter()
                .map(Origin::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        );
        return Err(Error::new(ErrorKind::OtherOrigin, message));
    }
    Ok(uri)
}

/// Writes service parameters into header fields (A2A §3.2.6), and the A2A version if they have
/// none.
fn write_params(
    params: &ServiceParams,
    has_token: bool,
    fields: &mut HeaderMap,
) -> Result<(), Error> {
    let invalid = |name: &str, why: &str| {
        let message = format!("the service parameter {:?} {why}", printable(name));
        Error::new(ErrorKind::InvalidCall, message)
    };
    for (key, values) in params {
        let name = HeaderName::from_bytes(key.as_bytes())
            .map_err(|_| invalid(key, "is not a valid field name"))?;
        if RESERVED.contains(&name) {
            return Err(invalid(key, "is reserved and cannot be set"));
        }
        if name == AUTHORIZATION && has_token {
            return Err(invalid(
                key,
                "and the transport's own token are two credentials: use one",
            ));
        }
        // A2A defines this field as a list (§9.2, §11.2). Other fields may not be lists.
        let joined = (name == EXTENSIONS_FIELD && values.len() > 1).then(|| vec![values.join(",")]);
        for value in joined.as_ref().unwrap_or(values) {
            let mut value = HeaderValue::from_str(value)
                .map_err(|_| invalid(key, "has an invalid field value"))?;
            value.set_sensitive(name == AUTHORIZATION || name == COOKIE);
            fields.append(name.clone(), value);
        }
    }
    if !fields.contains_key(VERSION_FIELD) {
        fields.insert(VERSION_FIELD, HeaderValue::from_static(VERSION));
    }
    Ok(())
}

/// Adds an extension to those that the caller lists in `A2A-Extensions`: one field, with commas
/// (A2A §9.2).
fn add_extension(uri: &str, fields: &mut HeaderMap) -> Result<(), Error> {
    let values = fields.get_all(EXTENSIONS_FIELD).iter();
    let named: Vec<_> = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|named| !named.is_empty() && *named != uri)
        .chain([uri])
        .collect();
    let value = HeaderValue::try_from(named.join(",")).map_err(|_| {
        Error::new(
            ErrorKind::InvalidCall,
            "A2A-Extensions has an invalid field value",
        )
    })?;
    fields.insert(EXTENSIONS_FIELD, value);
    Ok(())
}

/// Rejects responses that refuse the token binding.
fn check_response(response: Response<Body>) -> Result<Response<Body>, Error> {
    let failure = if let Some(refusal) = response.extensions().get::<BindingRefusal>() {
        let sent = response.extensions().get().cloned().unwrap_or_default();
        let message = binding_refusal_message(refusal, &sent);
        Error::new(ErrorKind::BindingRefused, message)
    } else if response.status() == StatusCode::UNAUTHORIZED
        && let Some(error) = binding_error(response.headers())
    {
        let message = format!(
            "the agent answered {error}, and this client cannot make such a proof: check that it \
             has a certificate and key, and that no proxy on the way terminates TLS"
        );
        Error::new(ErrorKind::BindingRefused, message)
    } else {
        return Ok(response);
    };
    let (head, rest) = response.into_parts();
    rest.drain_in_background();
    Err(failure
        .with_processed(!is_unprocessed(head.status, &head.headers))
        .with_head(&head))
}

/// The error for a redirect that is not followed.
fn redirect_error(redirect: NotFollowed, sent: &SentTokens) -> Error {
    let reason = redirect.reason();
    let (mut head, rest) = redirect.into_response().into_parts();
    rest.drain_in_background();
    let status = head.status;
    sent.redact_fields(&mut head.headers);
    let target = shown_location(&head.headers).unwrap_or_else(|| "nowhere".to_owned());
    let message = format!(
        "the agent answered with a redirect (HTTP {status}) to {target} that is not followed \
         ({reason}): configure its target as the interface's URL"
    );
    // Another redirect may point to the result of the call (RFC 9110 §15.4.4).
    Error::new(ErrorKind::Redirect, message)
        .with_processed(!is_unprocessed(status, &head.headers))
        .with_head(&head)
}

/// The error for a response with an error status and a body that is not A2A.
#[cfg(feature = "grpc")]
pub(crate) async fn error_from_response(head: &Parts, rest: Body) -> Error {
    let bytes = body::prefix(rest, MAX_TEXT).await;
    error_from_body(head, &bytes)
}

/// The same, with a body that has been read.
pub(crate) fn error_from_body(head: &Parts, bytes: &[u8]) -> Error {
    let what = describe(head, bytes);
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
        format!("the agent, or a proxy in front of it, answered HTTP {status} with {what}{hint}");
    error_from_status(head, message)
}

/// The error for an error status alone.
pub(crate) fn error_from_status(head: &Parts, message: impl Into<String>) -> Error {
    let kind = match head.status {
        StatusCode::UNAUTHORIZED => ErrorKind::Unauthorized,
        StatusCode::FORBIDDEN => ErrorKind::Forbidden,
        _ => ErrorKind::Status,
    };
    Error::new(kind, message)
        .with_processed(!is_unprocessed(head.status, &head.headers))
        .with_head(head)
}

/// Whether a status says more than the A2A error in the body.
pub(crate) fn overrides_a2a_error(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::SERVICE_UNAVAILABLE
    )
}

/// The error for a successful response that cannot be decoded.
pub(crate) fn decode_failed(error: DecodeError, head: &Parts, bytes: &[u8]) -> A2AError {
    match error {
        DecodeError::Reported(error) => redacted(&sent_tokens(head), error),
        DecodeError::NotA2a(why) => not_a2a(head, bytes, &why).into(),
    }
}

/// The error for a successful response that is not A2A.
fn not_a2a(head: &Parts, bytes: &[u8], why: &str) -> Error {
    let what = describe(head, bytes);
    let message = format!(
        "the agent, or a proxy in front of it, answered HTTP {} with something that is not A2A \
         ({}): {what}; is this the URL of the interface?",
        head.status,
        sent_tokens(head).printable(why)
    );
    Error::new(ErrorKind::NotA2a, message).with_head(head)
}

/// `application/json`, or a type built on it (RFC 6839 §3.1).
fn is_json(fields: &HeaderMap) -> bool {
    media_type(fields)
        .is_some_and(|media_type| media_type.ends_with("/json") || media_type.ends_with("+json"))
}

fn binding_refusal_message(refusal: &BindingRefusal, sent: &SentTokens) -> String {
    let certificate = match &refusal.certificate {
        Some(certificate) => format!(" made with certificate {certificate}"),
        None => String::new(),
    };
    let clock = match refusal.clock_difference {
        Some(seconds) => format!("; the agent's clock minus ours is {seconds} s"),
        None => String::new(),
    };
    format!(
        "the agent refused a fresh session-binding proof{certificate} with {}: check that no \
         proxy on the way terminates TLS, that the token's cnf names this certificate, and \
         whether the agent requires request-bound proofs (Transports::request_bound_calls){clock}",
        sent.printable(&refusal.error)
    )
}

#[cfg(test)]
mod tests;
