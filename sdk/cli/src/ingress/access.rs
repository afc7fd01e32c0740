//! What the access log says of a request to the ingress.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bowline::server::{Check, ConnectionFacts, DpopCheck, VerifiedBinding};
use http::{Extensions, Request, Response};
use http_body::Body;
use tower::Service;

use super::proxy::{Passed, Refused};
use crate::ops::access::{InFlight, Line, LoggedBody, Note};

/// The outermost service: logs what the others have answered.
#[derive(Clone)]
pub(crate) struct Access<S> {
    inner: S,
    in_flight: Arc<InFlight>,
}

impl<S> Access<S> {
    pub(crate) fn new(inner: S, in_flight: Arc<InFlight>) -> Self {
        Self { inner, in_flight }
    }
}

impl<S, R, B> Service<Request<R>> for Access<S>
where
    S: Service<Request<R>, Response = Response<B>>,
    S::Future: Send + 'static,
    B: Body,
{
    type Response = Response<LoggedBody<B>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let facts = request.extensions().get::<Arc<ConnectionFacts>>();
        let note = Note {
            connection: facts.map(|facts| facts.id()),
            class: Some("none"),
            ..Note::default()
        };
        let mut line = Line::begin(&request, self.in_flight.clone(), note);
        let response = self.inner.call(request);
        Box::pin(async move {
            let response = response.await?;
            describe(&mut line.note, response.extensions());
            Ok(line.answered(response))
        })
    }
}

fn describe(note: &mut Note, extensions: &Extensions) {
    if let Some(binding) = extensions.get::<VerifiedBinding>() {
        note.class = Some(binding.class().name());
        note.observed = binding.observed().map(|observed| observed.name());
        let failed = binding.observed().and_then(|observed| observed.check());
        note.check = failed.map(|check| check.name());
        note.id = failed.map(|check| check.id());
    } else if extensions.get::<Passed>().is_some() {
        note.class = Some("public");
    }
    if let Some(check) = extensions.get::<Check>() {
        (note.check, note.id) = (Some(check.name()), Some(check.id()));
    } else if let Some(check) = extensions.get::<DpopCheck>() {
        (note.check, note.id) = (Some(check.name()), Some(check.id()));
    } else if let Some(refused) = extensions.get::<Refused>() {
        note.check = Some(refused.reason);
    }
}
