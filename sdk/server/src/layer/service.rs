use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::{fmt, mem};

use bowline_proof::dpop::{NONCE_HEADER, Nonce};
use bowline_proof::{Check, Refusal, Scheme};
use http::header::CACHE_CONTROL;
use http::request::Parts;
use http::{HeaderValue, Request, Response};
use tower_service::Service;

use super::checks::{self, Refused};
use super::{Settings, refused, transport};
use crate::proxies::Claimed;
use crate::{CloseReason, ConnectionFacts, ServerEvent, TokenValidator};

/// The service that a [`BindingLayer`](super::BindingLayer) makes of another.
pub struct BindingService<S, V> {
    pub(super) inner: S,
    pub(super) validator: Arc<V>,
    pub(super) settings: Arc<Settings>,
}

impl<S, V, ReqBody, ResBody> Service<Request<ReqBody>> for BindingService<S, V>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send,
    V: TokenValidator,
    ReqBody: Send + 'static,
    ResBody: Default,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        // The inner service that was polled ready goes along; a fresh clone takes its place.
        let fresh = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, fresh);
        let (validator, settings) = (self.validator.clone(), self.settings.clone());
        // Out here, so that the future does not hold the request twice.
        let (mut parts, body) = request.into_parts();
        Box::pin(async move {
            let newer_nonce = match admit(&mut parts, &settings, &*validator).await {
                Ok(newer_nonce) => newer_nonce,
                Err(response) => return Ok(response),
            };
            let mut response = inner.call(Request::from_parts(parts, body)).await?;
            if let Some(nonce) = newer_nonce {
                let headers = response.headers_mut();
                headers.insert(NONCE_HEADER, nonce.header_value());
                // A stored response would bring a stale nonce (RFC 9449 §8.2).
                headers.append(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            }
            Ok(response)
        })
    }
}

/// Lets the request pass, with its [`VerifiedBinding`](crate::VerifiedBinding), or gives the response that refuses
/// it. The response of one that passes may have to tell a nonce.
async fn admit<V: TokenValidator, B: Default>(
    request: &mut Parts,
    settings: &Settings,
    validator: &V,
) -> Result<Option<Nonce>, Response<B>> {
    let scheme = match transport::is_dpop(request) {
        true => Scheme::Dpop,
        false => Scheme::Bearer,
    };
    let claimed = Claimed::strip(&mut request.headers);
    let facts = connection_facts(request);
    if let Some(facts) = &facts
        && checks::certificate_has_expired(facts, settings)
    {
        facts.drain(CloseReason::Certificate);
        report_refusal(settings, facts, Check::Certificate.into());
        return Err(refused::expired(request.version, scheme, settings));
    }
    let path = transport::path(request);
    if settings.is_public(path) {
        return Ok(None);
    }
    let Some(facts) = facts else {
        tracing::error!(
            "BindingLayer found no ConnectionFacts on a request and refused it: serve with bowline_server::serve, or give \
             axum::serve a bowline_server::Listener and into_make_service_with_connect_info::<PeerFacts>()"
        );
        return Err(refused::without_facts());
    };
    match checks::check(request, &claimed, &facts, settings, validator).await {
        Ok(passed) => {
            report(settings, &passed.event());
            request.extensions.insert(passed.binding);
            Ok(passed.newer_nonce)
        }
        Err(Refused::By(refusal)) => {
            report_refusal(settings, &facts, refusal);
            Err(refused::challenge(refusal, scheme, settings))
        }
        Err(Refused::Scope(required)) => {
            report_refusal(settings, &facts, Check::Scope.into());
            Err(refused::insufficient_scope(&required, scheme, settings))
        }
        Err(Refused::ByDpop(refusal)) => {
            tracing::debug!(connection = %facts.id(), %refusal, "request refused");
            let (connection, check) = (facts.id(), refusal.check());
            report(settings, &ServerEvent::DpopRefused { connection, check });
            Err(refused::dpop_challenge(refusal, settings))
        }
        Err(Refused::ReplayStore(why)) => {
            tracing::warn!(connection = %facts.id(), why, "a request was refused, because nobody can say whether its proof was used before");
            report(
                settings,
                &ServerEvent::Unavailable {
                    connection: facts.id(),
                },
            );
            Err(refused::replay_unknown())
        }
        Err(Refused::Unavailable(error)) => {
            let cause = std::error::Error::source(&error);
            tracing::warn!(connection = %facts.id(), %error, cause, "a token could not be validated");
            report(
                settings,
                &ServerEvent::Unavailable {
                    connection: facts.id(),
                },
            );
            Err(refused::unavailable(&error))
        }
    }
}

/// From `serve`, or from `axum::serve`.
fn connection_facts(request: &Parts) -> Option<Arc<ConnectionFacts>> {
    #[cfg(feature = "axum")]
    if let Some(info) = request
        .extensions
        .get::<axum::extract::ConnectInfo<crate::PeerFacts>>()
    {
        return Some(info.0.0.clone());
    }
    request.extensions.get::<Arc<ConnectionFacts>>().cloned()
}

fn report_refusal(settings: &Settings, facts: &ConnectionFacts, refusal: Refusal) {
    tracing::debug!(connection = %facts.id(), %refusal, "request refused");
    let (connection, check) = (facts.id(), refusal.check());
    report(settings, &ServerEvent::Refused { connection, check });
}

fn report(settings: &Settings, event: &ServerEvent) {
    if let Some(observer) = &settings.observer {
        observer.observe(event);
    }
}

impl<S: Clone, V> Clone for BindingService<S, V> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            validator: self.validator.clone(),
            settings: self.settings.clone(),
        }
    }
}

impl<S: fmt::Debug, V> fmt::Debug for BindingService<S, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BindingService")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
