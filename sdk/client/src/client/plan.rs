//! classify: where a request goes and what it carries, before anything is opened.

use std::sync::Arc;

use bowline_proof::dpop::DPOP_HEADER;
use bowline_proof::{AccessToken, InvalidAccessToken, PROOF_HEADER, Thumbprint};
use http::{Extensions, HeaderMap, HeaderValue, Method, Uri, header, request};

use super::Inner;
use super::recent_tokens::RecentTokens;
use crate::bind::RequestFacts;
use crate::bind::select::asks_for_dpop;
use crate::error::{Error, ErrorKind};
use crate::observe::Operation;
use crate::origin::Origin;
use crate::pool::Resend;
use crate::request::{
    DpopProofRequired, Http2Only, NoRetryOn401, ProofRequired, Repeatable, RequestBoundProof,
    TokenSourceId, WithCertificate,
};

/// What is known of a request before a connection is chosen.
pub(super) struct Plan {
    pub(super) origin: Arc<Origin>,
    pub(super) token: Option<AccessToken>,
    /// Whether it came in the extensions, not in `Authorization`.
    is_token_apart: bool,
    /// The certificate that the caller wants it to be authenticated with.
    pub(super) certificate: Option<Thumbprint>,
    source: Option<TokenSourceId>,
    operation: Operation,
    request_bound: bool,
    proof_required: bool,
    dpop_proof_required: bool,
    /// By the token or by the caller.
    asks_for_dpop: bool,
    pub(super) http2_only: bool,
    /// Whether it may be sent again with a newer proof (CL-5).
    pub(super) may_retry_on_401: bool,
    /// Whether it may be sent again although it may have been processed (CL-7).
    pub(super) is_repeatable: bool,
}

impl Plan {
    /// `given`: the token that came in the extensions.
    pub(super) fn from_parts(
        parts: &mut request::Parts,
        given: Option<AccessToken>,
        client: &Inner,
    ) -> Result<Self, Error> {
        let origin = client.recent_origins.find_or_read(&parts.uri)?;
        let is_token_apart = given.is_some();
        let mut plan = Self {
            origin,
            token: token(&mut parts.headers, given, &client.recent_tokens)?,
            is_token_apart,
            certificate: None,
            source: None,
            operation: Operation::OTHER,
            request_bound: false,
            proof_required: false,
            dpop_proof_required: false,
            asks_for_dpop: false,
            http2_only: false,
            may_retry_on_401: true,
            is_repeatable: parts.method.is_idempotent(),
        };
        if !parts.extensions.is_empty() {
            plan.read_extensions(parts);
        }
        plan.asks_for_dpop = asks_for_dpop(plan.token.as_ref(), plan.dpop_proof_required);
        if parts.extensions.is_empty() {
            // A clone would copy even an empty table.
            parts.extensions = Extensions::new();
        }
        Ok(plan)
    }

    fn read_extensions(&mut self, parts: &mut request::Parts) {
        self.operation = operation(parts);
        let extensions = &mut parts.extensions;
        let certificate = extensions.remove();
        self.certificate = certificate.map(|WithCertificate(certificate)| certificate);
        self.source = extensions.remove();
        self.request_bound = extensions.remove::<RequestBoundProof>().is_some();
        self.proof_required = extensions.remove::<ProofRequired>().is_some();
        self.dpop_proof_required = extensions.remove::<DpopProofRequired>().is_some();
        self.may_retry_on_401 = extensions.remove::<NoRetryOn401>().is_none();
        self.http2_only = extensions.remove::<Http2Only>().is_some();
        self.is_repeatable |= extensions.remove::<Repeatable>().is_some();
    }

    /// Whether it may be sent again if its connection ends before it is answered.
    pub(super) fn resend(&self) -> Resend {
        match self.is_repeatable {
            true => Resend::Allowed,
            false => Resend::Never,
        }
    }

    /// The access token that the header fields lack.
    pub(super) fn authorization(&self) -> Option<&HeaderValue> {
        let token = self.token.as_ref().filter(|_| self.is_token_apart);
        token.map(AccessToken::authorization)
    }

    pub(super) fn facts<'a>(
        &'a self,
        method: &'a Method,
        uri: &'a Uri,
        is_retry: bool,
    ) -> RequestFacts<'a> {
        RequestFacts {
            method,
            uri,
            token: self.token.as_ref(),
            source: self.source,
            operation: self.operation,
            request_bound: self.request_bound,
            proof_required: self.proof_required,
            dpop_proof_required: self.dpop_proof_required,
            is_retry,
            asks_for_dpop: self.asks_for_dpop,
        }
    }
}

pub(super) fn operation(parts: &request::Parts) -> Operation {
    if parts.extensions.is_empty() {
        return Operation::OTHER;
    }
    parts.extensions.get().copied().unwrap_or(Operation::OTHER)
}

/// The access token of a request: the one `given` in its extensions, or the one in its
/// `Authorization` field, which is marked sensitive.
///
/// Looks at each field once: that costs less than to look four names up.
fn token(
    headers: &mut HeaderMap,
    given: Option<AccessToken>,
    recent: &RecentTokens,
) -> Result<Option<AccessToken>, Error> {
    let (mut field, mut fields) = (None, 0_usize);
    for (name, value) in headers.iter_mut() {
        if *name == header::AUTHORIZATION {
            value.set_sensitive(true);
            fields += 1;
            field = Some(value);
        } else if *name == PROOF_HEADER {
            return Err(Error::new(
                ErrorKind::InvalidRequest,
                "the request carries a Session-Binding-Proof already: leave it to this client, which \
                 alone knows the connection (CL-6)",
            ));
        } else if *name == DPOP_HEADER {
            return Err(Error::new(
                ErrorKind::InvalidRequest,
                "the request carries a DPoP proof already: leave it to this client, which makes \
                 another whenever it sends the request again",
            ));
        }
    }
    if fields + usize::from(given.is_some()) > 1 {
        return Err(Error::new(
            ErrorKind::InvalidRequest,
            "the request carries more than one credential: give one Authorization field or one \
             AccessToken",
        ));
    }
    match (given, field) {
        (Some(token), _) => Ok(Some(token)),
        (None, None) => Ok(None),
        (None, Some(field)) => match recent.find_or_read(field) {
            Ok(token) => Ok(Some(token)),
            Err(InvalidAccessToken::OtherScheme) => Ok(None),
            Err(e) => {
                let message = "the Authorization field holds no usable access token";
                Err(Error::with_source(ErrorKind::InvalidToken, message, e))
            }
        },
    }
}
