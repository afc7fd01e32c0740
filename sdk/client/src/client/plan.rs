//! classify: where a request goes and what it carries, before anything is opened.

use bowline_proof::dpop::DPOP_HEADER;
use bowline_proof::{AccessToken, InvalidAccessToken, PROOF_HEADER, Thumbprint};
use http::{Extensions, Method, Uri, header, request};

use super::recent_tokens::RecentTokens;
use crate::bind::RequestFacts;
use crate::error::{Error, ErrorKind};
use crate::observe::Operation;
use crate::origin::Origin;
use crate::request::{
    DpopProofRequired, Http2Only, NoRetryOn401, ProofRequired, Repeatable, RequestBoundProof,
    TokenSourceId, WithCertificate,
};

/// What is known of a request before a connection is chosen.
pub(super) struct Plan {
    pub(super) origin: Origin,
    pub(super) token: Option<AccessToken>,
    /// The certificate that the caller wants it to be authenticated with.
    pub(super) certificate: Option<Thumbprint>,
    source: Option<TokenSourceId>,
    operation: Operation,
    request_bound: bool,
    proof_required: bool,
    dpop_proof_required: bool,
    pub(super) http2_only: bool,
    /// Whether it may be sent again with a newer proof (CL-5).
    pub(super) may_retry_on_401: bool,
    /// Whether it may be sent again although it may have been processed (CL-7).
    pub(super) is_repeatable: bool,
}

impl Plan {
    pub(super) fn from_parts(
        parts: &mut request::Parts,
        recent: &RecentTokens,
    ) -> Result<Self, Error> {
        let origin = Origin::from_uri(&parts.uri)?;
        if parts.headers.contains_key(PROOF_HEADER) {
            return Err(Error::new(
                ErrorKind::InvalidRequest,
                "the request carries a Session-Binding-Proof already: leave it to this client, which \
                 alone knows the connection (CL-6)",
            ));
        }
        if parts.headers.contains_key(DPOP_HEADER) {
            return Err(Error::new(
                ErrorKind::InvalidRequest,
                "the request carries a DPoP proof already: leave it to this client, which makes \
                 another whenever it sends the request again",
            ));
        }
        let plan = Self {
            origin,
            token: token(parts, recent)?,
            certificate: parts
                .extensions
                .remove()
                .map(|WithCertificate(certificate)| certificate),
            source: parts.extensions.remove(),
            operation: operation(parts),
            request_bound: parts.extensions.remove::<RequestBoundProof>().is_some(),
            proof_required: parts.extensions.remove::<ProofRequired>().is_some(),
            dpop_proof_required: parts.extensions.remove::<DpopProofRequired>().is_some(),
            may_retry_on_401: parts.extensions.remove::<NoRetryOn401>().is_none(),
            http2_only: parts.extensions.remove::<Http2Only>().is_some(),
            is_repeatable: parts.extensions.remove::<Repeatable>().is_some()
                || parts.method.is_idempotent(),
        };
        if parts.extensions.is_empty() {
            // A clone would copy even an empty table.
            parts.extensions = Extensions::new();
        }
        Ok(plan)
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
        }
    }
}

/// `Authorization`, a proof, and what HTTP/1.1 needs: `Host` and the body's length.
pub(super) const MAX_ADDED: usize = 4;

pub(super) fn operation(parts: &request::Parts) -> Operation {
    parts.extensions.get().copied().unwrap_or(Operation::OTHER)
}

/// The access token of a request, from its extensions or its `Authorization` field, which is marked
/// sensitive.
fn token(parts: &mut request::Parts, recent: &RecentTokens) -> Result<Option<AccessToken>, Error> {
    let mut fields = parts.headers.get_all(header::AUTHORIZATION).iter();
    let (field, more) = (fields.next(), fields.next());
    let given: Option<AccessToken> = parts.extensions.remove();
    match (given, field, more) {
        (_, Some(_), Some(_)) | (Some(_), Some(_), None) => Err(Error::new(
            ErrorKind::InvalidRequest,
            "the request carries more than one credential: give one Authorization field or one \
             AccessToken",
        )),
        (Some(token), None, _) => {
            parts
                .headers
                .insert(header::AUTHORIZATION, token.authorization().clone());
            Ok(Some(token))
        }
        (None, None, _) => Ok(None),
        (None, Some(field), None) => {
            let token = match recent.find_or_read(field) {
                Ok(token) => Some(token),
                Err(InvalidAccessToken::OtherScheme) => None,
                Err(e) => {
                    let message = "the Authorization field holds no usable access token";
                    return Err(Error::with_source(ErrorKind::InvalidToken, message, e));
                }
            };
            if let Some(field) = parts.headers.get_mut(header::AUTHORIZATION) {
                field.set_sensitive(true);
            }
            Ok(token)
        }
    }
}
