//! The middleware's service: checks a request, then forwards it or answers for the inner service.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::{fmt, mem};

use bowline_proof::dpop::{NONCE_HEADER, Nonce};
use bowline_proof::{Check, Scheme};
use http::header::CACHE_CONTROL;
use http::request::Parts;
use http::{HeaderValue, Request, Response};
use tower_service::Service;

use super::{Current, Settings, checks, rejection, transport};
use crate::event::report_refusal;
use crate::proxies::ForwardedFields;
use crate::reserved_fields;
use crate::{ConnectionFacts, TokenValidator};

/// The service that a [`BindingLayer`](super::BindingLayer) wraps around another.
pub struct BindingService<S, V> {
    pub(super) inner: S,
    pub(super) current: Arc<Current<V>>,
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
        // The future takes the inner service that was polled ready, and a fresh clone takes its
        // place.
        let fresh = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, fresh);
        let configuration = self.current.load();
        // Outside of the future, so that it does not hold the request twice.
        let (mut parts, body) = request.into_parts();
        Box::pin(async move {
            let (settings, validator) = (&configuration.settings, &*configuration.validator);
            let newer_nonce = match admit(&mut parts, settings, validator).await {
                Ok(newer_nonce) => newer_nonce,
                Err(response) => return Ok(response),
            };
            let mut response = inner.call(Request::from_parts(parts, body)).await?;
            if let Some(nonce) = newer_nonce {
                let headers = response.headers_mut();
                headers.insert(NONCE_HEADER, nonce.header_value());
                // A cached response would carry a stale nonce (RFC 9449 §8.2).
                headers.append(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            }
            Ok(response)
        })
    }
}

/// Checks the request. If it passes, inserts its [`VerifiedBinding`](crate::VerifiedBinding) and
/// returns the nonce that its response must carry, if any; if not, returns the response that
/// refuses it.
async fn admit<V: TokenValidator, B: Default>(
    request: &mut Parts,
    settings: &Settings,
    validator: &V,
) -> Result<Option<Nonce>, Response<B>> {
    let observer = settings.observer.as_deref();
    // GW-2: hop-by-hop fields first, then the reserved ones.
    if reserved_fields::connection_names_one(&request.headers) {
        tracing::debug!("a request was refused: its Connection field names a field that must stay");
        return Err(rejection::bad_request());
    }
    let forwarded = ForwardedFields::strip(&mut request.headers);
    let facts = connection_facts(request);
    if let Some(facts) = &facts
        && let Some(reason) = checks::certificate_end(facts, settings)
    {
        facts.drain(reason);
        report_refusal(observer, facts.id(), Check::Certificate.into());
        return Err(rejection::certificate_expired(
            request.version,
            scheme(request),
            settings,
        ));
    }
    if settings.is_public(request) && !transport::has_token_in_query(request) {
        transport::strip_credentials(&mut request.headers);
        return Ok(None);
    }
    if transport::has_proof_in_early_data(request) {
        tracing::debug!("a request was refused: it carries a proof and came in early data");
        return Err(rejection::too_early());
    }
    let Some(facts) = facts else {
        tracing::error!(
            "BindingLayer found no ConnectionFacts on a request and refused it: serve with bowline_server::serve, or give \
             axum::serve a bowline_server::Listener and into_make_service_with_connect_info::<PeerFacts>()"
        );
        return Err(rejection::without_facts());
    };
    match checks::check(request, &forwarded, &facts, settings, validator).await {
        Ok(passed) => {
            passed.report(settings);
            request.extensions.insert(passed.binding);
            Ok(passed.newer_nonce)
        }
        Err(rejection) => {
            rejection.report(settings, &facts);
            Err(rejection.into_response(scheme(request), settings))
        }
    }
}

/// The scheme of the challenge, if the request is refused.
fn scheme(request: &Parts) -> Scheme {
    if transport::is_dpop(request) {
        Scheme::Dpop
    } else {
        Scheme::Bearer
    }
}

/// The facts, as `serve` or `axum::serve` passes them.
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

impl<S: Clone, V> Clone for BindingService<S, V> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            current: self.current.clone(),
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
