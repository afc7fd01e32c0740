//! A request's way from reqwest's types to bowline's, and its response's way back.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bowline_client::Client;
use http::{Extensions, response};
use reqwest::{Request, Response, ResponseBuilderExt, Url};
use reqwest_middleware::{Middleware, Next};
use tokio::time::timeout_at;

use crate::body::{Body, Deadline};
use crate::error::Error;

/// Sends reqwest's requests with a [`bowline_client::Client`].
///
/// Cloning is cheap and shares everything. See the [crate's documentation](crate) for what of a
/// `reqwest::Client` it bypasses.
#[derive(Clone, Debug)]
pub struct Transport {
    client: Client,
}

impl Transport {
    /// A transport over this client; keep a clone of the client to read its statistics.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Sends a request and waits for the response's head: what `reqwest::Client::execute` is to
    /// reqwest.
    ///
    /// A response with an error status is a response, not an error; a redirect is not followed
    /// (CL-6).
    ///
    /// # Errors
    /// Every [`ErrorKind`](crate::ErrorKind). A body that fails later does so with a `reqwest::Error` that
    /// has an [`Error`] among its sources: see [`Error::find`].
    pub async fn execute(&self, request: Request) -> Result<Response, Error> {
        self.send(request, &Extensions::new()).await
    }

    /// As [`execute`](Self::execute), with extensions that did not come with the request.
    async fn send(&self, request: Request, more: &Extensions) -> Result<Response, Error> {
        let deadline = Deadline::of(&request);
        let url = request.url().clone();
        let mut request =
            http::Request::<reqwest::Body>::try_from(request).map_err(Error::invalid_url)?;
        request.extensions_mut().extend(more.clone());
        let answer = self.client.send(request);
        let answered = match deadline {
            None => answer.await,
            Some(deadline) => timeout_at(deadline.at, answer)
                .await
                .map_err(|_| Error::timeout(deadline.limit))?,
        };
        let (head, body) = answered?.into_parts();
        Ok(response(head, Body::new(body, deadline), url))
    }
}

/// reqwest keeps the URL beside the head, and takes it from a private type among the extensions.
fn response(mut head: response::Parts, body: Body, url: Url) -> Response {
    let mut mark = http::Response::builder().url(url);
    if let Some(mark) = mark.extensions_mut() {
        head.extensions.extend(std::mem::take(mark));
    }
    http::Response::from_parts(head, reqwest::Body::wrap(body)).into()
}

impl From<Client> for Transport {
    fn from(client: Client) -> Self {
        Self::new(client)
    }
}

/// Terminal: it never calls `next`, so it must be the last middleware of its stack.
#[async_trait::async_trait]
impl Middleware for Transport {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        _next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        Ok(self.send(request, extensions).await?)
    }
}

impl tower_service::Service<Request> for Transport {
    type Response = Response;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Error>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let transport = self.clone();
        Box::pin(async move { transport.execute(request).await })
    }
}
