//! The HTTP service below the generated stub: it sends a request through [`AgentEndpoint`], and
//! checks the response before tonic sees it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use a2a::A2AError;
use a2a_client::ServiceParams;
use bowline_http_client::{Body, Http2Only};
use bowline_transport::body;
use bowline_transport::head::has_media_type;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tower_service::Service;

use super::body::{ResponseBody, ok_trailers};
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
        let response = self.endpoint.send(&call, request).await?;
        self.check(response).await
    }

    /// The response for tonic, if it is gRPC and its head reports no error.
    async fn check(&self, response: Response<Body>) -> Result<Response<ResponseBody>, A2AError> {
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
                return Err(status.into_error(&head.headers, StatusLocation::Head, &sent));
            }
            GrpcStatus::Invalid(failure) => return Err(failure.with_head(&head).into()),
            GrpcStatus::Ok => return Ok(self.response(ResponseBody::empty(), true)),
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
        Ok(self.response(ResponseBody::new(body, self.shape, sent), false))
    }

    /// The response that tonic sees: of the head, only the status of one that has ended.
    fn response(&self, body: ResponseBody, has_ended: bool) -> Response<ResponseBody> {
        let mut response = Response::new(body);
        if has_ended {
            *response.headers_mut() = ok_trailers();
        }
        response
    }
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
