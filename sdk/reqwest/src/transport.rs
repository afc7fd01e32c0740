//! Converts requests from reqwest's types to bowline's, and responses back.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bowline_http_client::Client;
use bowline_token::Authorized;
use bytes::Bytes;
use http::{Extensions, response};
use http_body_util::Full;
use reqwest::{Request, Response, ResponseBuilderExt, Url};
use reqwest_middleware::{Middleware, Next};
use tokio::time::timeout_at;

use crate::body::{Body, Deadline};
use crate::error::Error;

/// Sends reqwest's requests with a [`Client`], or with an [`Authorized`], which is a client with a
/// token source.
///
/// Cloning is cheap and shares everything. The [crate's documentation](crate) lists the features of
/// a `reqwest::Client` that it bypasses.
#[derive(Clone, Debug)]
pub struct Transport {
    sender: Sender,
}

#[derive(Clone, Debug)]
enum Sender {
    Client(Client),
    Authorized(Authorized),
}

impl Transport {
    /// A transport over this [`Client`], or over this [`Authorized`]; keep a clone of the client to
    /// read its statistics.
    ///
    /// An [`Authorized`] puts a token of its source into each request, to its own origin and no
    /// other (CL-6). A request that is refused with `invalid_token` is sent once more if the source
    /// has another token, and if its body can be read twice: bytes, JSON and forms can, streams
    /// cannot.
    pub fn new(client: impl Into<Self>) -> Self {
        client.into()
    }

    /// Sends a request and waits for the response's head, as `reqwest::Client::execute` does.
    ///
    /// A response with an error status is a response, not an error; a redirect is not followed
    /// (CL-6).
    ///
    /// # Errors
    /// Every [`ErrorKind`](crate::ErrorKind). A body that fails later gives a `reqwest::Error` that
    /// has an [`Error`] among its sources: see [`Error::find`].
    pub async fn execute(&self, request: Request) -> Result<Response, Error> {
        self.send(request, &Extensions::new()).await
    }

    /// As [`execute`](Self::execute), with extensions that did not come with the request.
    async fn send(&self, request: Request, more: &Extensions) -> Result<Response, Error> {
        let deadline = Deadline::for_request(&request);
        let url = request.url().clone();
        let mut request =
            http::Request::<reqwest::Body>::try_from(request).map_err(Error::invalid_url)?;
        request.extensions_mut().extend(more.clone());
        let sending = self.sender.send(request);
        let sent = match deadline {
            None => sending.await,
            Some(deadline) => timeout_at(deadline.at, sending)
                .await
                .map_err(|_| Error::timeout(deadline.limit))?,
        };
        let (head, body) = sent?.into_parts();
        Ok(response(head, Body::new(body, deadline), url))
    }
}

impl Sender {
    async fn send(
        &self,
        request: http::Request<reqwest::Body>,
    ) -> Result<http::Response<bowline_http_client::Body>, Error> {
        match self {
            Self::Client(client) => Ok(client.send(request).await?),
            // To send a request again, `Authorized` needs a body that can be cloned. reqwest's
            // cannot, but shows its bytes if it has them.
            Self::Authorized(authorized) => {
                match request.body().as_bytes().map(Bytes::copy_from_slice) {
                    Some(bytes) => Ok(authorized.send(request.map(|_| Full::new(bytes))).await?),
                    None => Ok(authorized.send_once(request).await?),
                }
            }
        }
    }
}

/// Builds reqwest's response. reqwest reads the URL from a private type among the extensions, which
/// only its `ResponseBuilderExt::url` can insert.
fn response(mut head: response::Parts, body: Body, url: Url) -> Response {
    let mut builder = http::Response::builder().url(url);
    if let Some(url) = builder.extensions_mut() {
        head.extensions.extend(std::mem::take(url));
    }
    http::Response::from_parts(head, reqwest::Body::wrap(body)).into()
}

impl From<Client> for Transport {
    fn from(client: Client) -> Self {
        Self {
            sender: Sender::Client(client),
        }
    }
}

impl From<Authorized> for Transport {
    fn from(authorized: Authorized) -> Self {
        Self {
            sender: Sender::Authorized(authorized),
        }
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
