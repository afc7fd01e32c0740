//! The HTTP service below the generated stub: it sends a request through [`AgentEndpoint`], and
//! checks the response before tonic sees it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use a2a::A2AError;
use a2a_client::ServiceParams;
use bowline_http_client::{Body, Http2Only};
use bowline_transport::body;
use bowline_transport::credential::SentAgain;
use bowline_transport::head::has_media_type;
use bytes::Bytes;
use futures_util::FutureExt;
use http::{Extensions, HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tower_service::Service;

use super::body::{Resend, ResponseBody, ok_trailers};
use super::status::{GrpcStatus, ResponseShape, StatusLocation};
use crate::endpoint::{self, AgentEndpoint, OutgoingCall};
use crate::error::{Error, ErrorKind};
use crate::text::{self, printable};

/// Maximum bytes read of a response that is not gRPC.
const MAX_TEXT: usize = 4 * 1024;

/// A tower service for methods of one response shape.
#[derive(Clone)]
pub(super) struct Channel {
    endpoint: Arc<AgentEndpoint>,
    shape: ResponseShape,
}

impl Channel {
    pub(super) fn new(endpoint: Arc<AgentEndpoint>, shape: ResponseShape) -> Self {
        Self { endpoint, shape }
    }

    async fn send(
        &self,
        request: Request<tonic::body::Body>,
    ) -> Result<Response<ResponseBody>, A2AError> {
        let (mut head, body) = request.into_parts();
        let mut call: OutgoingCall = head
            .extensions
            .remove()
            .ok_or_else(|| Error::new(ErrorKind::InvalidCall, "the request has no OutgoingCall"))?;
        metadata(&mut call.params)?;
        // Buffered, so that the request can be sent again, with a proof or with another token.
        let message = body.collect().await.map_err(|status| {
            let message = format!("the request cannot be encoded: {}", status.message());
            Error::new(ErrorKind::InvalidCall, message)
        })?;
        let mut request = Request::new(Full::new(message.to_bytes()));
        (*request.method_mut(), *request.uri_mut()) = (head.method, head.uri);
        *request.headers_mut() = head.headers;
        request.extensions_mut().insert(Http2Only);
        match self.attempt(&call, request.clone()).await {
            Err(Failure::TokenRefused(refusal)) => self.send_again(call, request, refusal).await,
            Err(Failure::Other(error)) => Err(error),
            Ok(response) => Ok(response),
        }
    }

    /// Sends a request once more if the source has another token than the refused one, by the rule
    /// for a 401 (CL-7: the agent has not acted on a call without valid credentials).
    async fn send_again(
        &self,
        call: OutgoingCall,
        mut request: Request<Full<Bytes>>,
        refusal: TokenRefusal,
    ) -> Result<Response<ResponseBody>, A2AError> {
        if !self.endpoint.credential.refused(&refusal.response).await {
            return Err(refusal.error);
        }
        request.extensions_mut().insert(SentAgain);
        match self.attempt(&call, request).await {
            Err(Failure::TokenRefused(refusal)) => {
                self.endpoint.credential.refused(&refusal.response).await;
                Err(refusal.error)
            }
            Err(Failure::Other(error)) => Err(error),
            Ok(response) => Ok(response),
        }
    }

    async fn attempt(
        &self,
        call: &OutgoingCall,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<ResponseBody>, Failure> {
        let response = self.endpoint.send(call, request.clone()).await?;
        let resend = self.resend(call.clone(), request, response.extensions().clone());
        self.check(response, resend).await
    }

    /// For trailers that refuse the token of a request, whose first response had these extensions.
    //
    // Not in `attempt`: the compiler cannot tell of a future in itself whether it is `Send`.
    fn resend(
        &self,
        call: OutgoingCall,
        request: Request<Full<Bytes>>,
        response: Extensions,
    ) -> Resend {
        let this = self.clone();
        Box::new(move |error| {
            let refusal = TokenRefusal { error, response };
            async move { this.send_again(call, request, refusal).await }.boxed()
        })
    }

    /// The response for tonic, if it is gRPC and its head reports no error: of the head, only the
    /// status of one that has ended.
    async fn check(
        &self,
        response: Response<Body>,
        resend: Resend,
    ) -> Result<Response<ResponseBody>, Failure> {
        let (head, body) = response.into_parts();
        let sent = text::sent_tokens(&head);
        if !is_grpc(&head.headers) {
            return Err(match head.status {
                StatusCode::OK => not_grpc(&head, body).await,
                _ => endpoint::error_from_response(&head, body).await,
            }
            .into());
        }
        match GrpcStatus::from_fields(&head.headers, &sent) {
            GrpcStatus::Error(status) => {
                let refuses_token = status.refuses_token(&head.headers);
                let error = status.into_error(&head.headers, StatusLocation::Head, &sent);
                if !refuses_token {
                    return Err(error.into());
                }
                return Err(Failure::TokenRefused(TokenRefusal {
                    error,
                    response: head.extensions,
                }));
            }
            GrpcStatus::Invalid(failure) => return Err(failure.with_head(&head).into()),
            GrpcStatus::Ok => {
                let mut response = Response::new(ResponseBody::empty());
                *response.headers_mut() = ok_trailers();
                return Ok(response);
            }
            GrpcStatus::Absent => {}
        }
        if head.status != StatusCode::OK {
            return Err(endpoint::error_from_response(&head, body).await.into());
        }
        if let Some(encoding) = head
            .headers
            .get("grpc-encoding")
            .filter(|encoding| *encoding != "identity")
        {
            let encoding = sent.printable(&String::from_utf8_lossy(encoding.as_bytes()));
            let message = format!(
                "the agent's response is compressed ({encoding}), although the request does not \
                 allow that"
            );
            return Err(Error::new(ErrorKind::NotA2a, message).into());
        }
        let body = ResponseBody::new(body, self.shape, sent, resend);
        Ok(Response::new(body))
    }
}

/// Why there is no response for tonic.
enum Failure {
    TokenRefused(TokenRefusal),
    Other(A2AError),
}

impl From<A2AError> for Failure {
    fn from(error: A2AError) -> Self {
        Self::Other(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error.into())
    }
}

/// A response that refuses the access token before any message.
struct TokenRefusal {
    error: A2AError,
    /// The extensions of the response.
    response: Extensions,
}

impl Service<Request<tonic::body::Body>> for Channel {
    type Response = Response<ResponseBody>;
    type Error = A2AError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, A2AError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), A2AError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { this.send(request).await })
    }
}

/// Whether the body is gRPC with protobuf messages. gRPC-Web and gRPC with JSON messages are other
/// protocols.
fn is_grpc(fields: &HeaderMap) -> bool {
    ["application/grpc", "application/grpc+proto"]
        .iter()
        .any(|media_type| has_media_type(fields, media_type))
}

async fn not_grpc(head: &http::response::Parts, rest: Body) -> Error {
    let bytes = body::prefix(rest, MAX_TEXT).await;
    let what = text::describe(head, &bytes);
    let message = format!(
        "the agent, or a proxy in front of it, answered HTTP 200 with {what} instead of gRPC"
    );
    Error::new(ErrorKind::NotA2a, message).with_head(head)
}

/// Turns service parameters into gRPC metadata.
///
/// Several values become one entry, with commas (A2A §10.2), except for credentials, of which there
/// can be one only.
fn metadata(params: &mut ServiceParams) -> Result<(), Error> {
    for (name, values) in params {
        let lower = name.to_ascii_lowercase();
        if lower.starts_with("grpc-") {
            let message = format!(
                "the service parameter {:?} is reserved for gRPC",
                printable(name)
            );
            return Err(Error::new(ErrorKind::InvalidCall, message));
        }
        if lower.ends_with("-bin") {
            let message = format!(
                "the service parameter {:?} would be binary metadata in gRPC, and service \
                 parameters are text",
                printable(name)
            );
            return Err(Error::new(ErrorKind::InvalidCall, message));
        }
        if values.len() > 1 && lower != "authorization" {
            *values = vec![values.join(",")];
        }
    }
    Ok(())
}
