//! What the generated stub calls: one HTTP request out by [`Wire`], and its answer judged before
//! tonic sees it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use a2a::A2AError;
use a2a_client::ServiceParams;
use bowline_client::{Body, Http2Only};
use bowline_transport::body;
use bowline_transport::head::has_media_type;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tower_service::Service;

use super::answer::{Answer, Shape};
use super::ending::{Ending, Place};
use crate::failure::{ErrorKind, Failure, shown};
use crate::wire::{self, Outbound, Wire};

/// How much of an answer that is no gRPC is read, in bytes.
const MAX_TEXT: usize = 4 * 1024;

/// A tower service for one shape of answers.
#[derive(Clone)]
pub(super) struct Channel {
    wire: Arc<Wire>,
    shape: Shape,
}

impl Channel {
    pub(super) fn new(wire: Arc<Wire>, shape: Shape) -> Self {
        Self { wire, shape }
    }

    async fn send(
        &self,
        request: Request<tonic::body::Body>,
    ) -> Result<Response<Answer>, A2AError> {
        let (mut head, body) = request.into_parts();
        let mut call: Outbound = head.extensions.remove().ok_or_else(|| {
            Failure::new(ErrorKind::InvalidCall, "the request came without its call")
        })?;
        metadata(&mut call.params)?;
        // All of it, so that it can be sent again: once a challenge is answered, with another
        // token.
        let message = body.collect().await.map_err(|status| {
            let message = format!("the request cannot be encoded: {}", status.message());
            Failure::new(ErrorKind::InvalidCall, message)
        })?;
        let mut request = Request::new(Full::new(message.to_bytes()));
        (*request.method_mut(), *request.uri_mut()) = (head.method, head.uri);
        *request.headers_mut() = head.headers;
        request.extensions_mut().insert(Http2Only);
        let response = self.wire.send(&call, request).await?;
        self.judge(response).await
    }

    /// The answer, if it is gRPC's and has not failed yet.
    async fn judge(&self, response: Response<Body>) -> Result<Response<Answer>, A2AError> {
        let (head, body) = response.into_parts();
        if !is_grpc(&head.headers) {
            return Err(match head.status {
                StatusCode::OK => not_grpc(&head, body).await,
                _ => wire::refused(&head, body).await,
            }
            .into());
        }
        match Ending::of(&head.headers) {
            Ending::Error(status) => return Err(status.into_error(&head.headers, Place::Head)),
            Ending::Unreadable(failure) => return Err(failure.with_head(&head).into()),
            Ending::Ok => return Ok(self.answered(Answer::nothing(), true)),
            Ending::None => {}
        }
        if head.status != StatusCode::OK {
            return Err(wire::refused(&head, body).await.into());
        }
        if let Some(encoding) = head
            .headers
            .get("grpc-encoding")
            .filter(|encoding| *encoding != "identity")
        {
            let encoding = shown(&String::from_utf8_lossy(encoding.as_bytes()));
            let message = format!(
                "the agent's answer is compressed ({encoding}), which it was not asked for"
            );
            return Err(Failure::new(ErrorKind::NotA2a, message).into());
        }
        Ok(self.answered(Answer::new(body, self.shape), false))
    }

    /// What tonic gets to see of an answer's head: next to nothing.
    fn answered(&self, answer: Answer, has_ended: bool) -> Response<Answer> {
        let mut response = Response::new(answer);
        if has_ended {
            *response.headers_mut() = super::answer::success();
        }
        response
    }
}

impl Service<Request<tonic::body::Body>> for Channel {
    type Response = Response<Answer>;
    type Error = A2AError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answer>, A2AError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), A2AError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { this.send(request).await })
    }
}

/// Whether messages of ours can be in it. gRPC-Web is another protocol, and so is gRPC with
/// messages in JSON.
fn is_grpc(fields: &HeaderMap) -> bool {
    ["application/grpc", "application/grpc+proto"]
        .iter()
        .any(|media_type| has_media_type(fields, media_type))
}

async fn not_grpc(head: &http::response::Parts, rest: Body) -> Failure {
    let bytes = body::prefix(rest, MAX_TEXT).await;
    let what = wire::describe(&head.headers, &bytes);
    let message = format!(
        "the agent, or what is in front of it, answered HTTP 200 with {what}, and not with gRPC"
    );
    Failure::new(ErrorKind::NotA2a, message).with_head(head)
}

/// Service parameters as gRPC has them.
///
/// Several values are one entry, with commas (A2A §10.2), but for credentials, of which there can
/// be one only.
fn metadata(params: &mut ServiceParams) -> Result<(), Failure> {
    for (name, values) in params {
        let lower = name.to_ascii_lowercase();
        if lower.starts_with("grpc-") {
            let message = format!("the service parameter {:?} is gRPC's own", shown(name));
            return Err(Failure::new(ErrorKind::InvalidCall, message));
        }
        if lower.ends_with("-bin") {
            let message = format!(
                "the service parameter {:?} would be binary metadata in gRPC, and service parameters are text",
                shown(name)
            );
            return Err(Failure::new(ErrorKind::InvalidCall, message));
        }
        if values.len() > 1 && lower != "authorization" {
            *values = vec![values.join(",")];
        }
    }
    Ok(())
}
