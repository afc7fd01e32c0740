//! Reads the token, the proof and the path from a request, and refuses tokens in places where they
//! must not be (TK-0, RS-4).

use bowline_proof::dpop::{DPOP_HEADER, DpopCheck};
use bowline_proof::{AccessToken, Check, InvalidAccessToken, PROOF_HEADER, Refusal, Scheme};
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::reserved_fields;

const EARLY_DATA: HeaderName = HeaderName::from_static("early-data");

/// Whether the request has a token in its query (TK-0).
pub(super) fn has_token_in_query(request: &Parts) -> bool {
    request.uri.query().is_some_and(names_access_token)
}

/// Removes what a request that passes as public must not carry onward (RS-13): it was not checked.
pub(super) fn strip_credentials(headers: &mut HeaderMap) {
    reserved_fields::strip_named(headers, &["dpop", "session-binding-proof"]);
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let is_basic = match (fields.next(), fields.next()) {
        (Some(field), None) => is_basic(field.as_bytes()),
        _ => false,
    };
    if !is_basic {
        headers.remove(AUTHORIZATION);
    }
}

/// `Basic` and one token68 (RFC 7617 section 2). Nothing may follow that another reader would take
/// for other credentials.
fn is_basic(field: &[u8]) -> bool {
    let is_token68 = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
    let (scheme, credentials) = field.split_at(field.len().min(6));
    let credentials = credentials.trim_ascii();
    scheme.eq_ignore_ascii_case(b"Basic ")
        && !credentials.is_empty()
        && credentials.iter().all(is_token68)
}

/// The one `Authorization` field. A token in the query is refused. The body is not read, so a token
/// there is ignored (TK-0).
pub(super) fn authorization(request: &Parts) -> Result<&HeaderValue, Refusal> {
    if has_token_in_query(request) {
        return Err(Refusal::with_detail(
            Check::TokenTransport,
            "an access token in the query is not accepted",
        ));
    }
    let mut fields = request.headers.get_all(AUTHORIZATION).iter();
    match (fields.next(), fields.next()) {
        (_, Some(_)) => Err(Refusal::with_detail(
            Check::TokenTransport,
            "more than one Authorization header",
        )),
        (field, None) => field.ok_or(Check::NoToken.into()),
    }
}

/// The access token in the `Authorization` field, with the scheme `Bearer` (or `DPoP`, if
/// that is accepted).
pub(super) fn access_token(field: &HeaderValue, accept_dpop: bool) -> Result<AccessToken, Refusal> {
    let token = if accept_dpop {
        AccessToken::from_credentials(field)
    } else {
        AccessToken::from_authorization(field)
    };
    token.map_err(|error| match error {
        InvalidAccessToken::OtherScheme => Check::NoToken.into(),
        _ => Refusal::with_detail(
            Check::Token,
            "the Authorization header holds no well-formed access token",
        ),
    })
}

/// The token that the request presents, wherever it stands and with either scheme, for a request
/// that passes although it stands in the wrong place. The handler may take any of them, so they
/// must all be the same one.
pub(super) fn only_token(request: &Parts) -> Result<Option<AccessToken>, Refusal> {
    let fields = request.headers.get_all(AUTHORIZATION).iter();
    let in_fields = fields.map(|field| access_token(field, true));
    let query = request.uri.query().unwrap_or_default();
    let in_query = form_urlencoded::parse(query.as_bytes())
        .filter(|(name, _)| name == "access_token")
        .map(|(_, value)| AccessToken::new(value).map_err(|_| Check::Token.into()));
    let mut only: Option<AccessToken> = None;
    for token in in_fields.chain(in_query) {
        match (token, &only) {
            // Credentials of another scheme.
            (Err(refusal), _) if refusal.check() == Check::NoToken => {}
            (Err(refusal), _) => return Err(refusal),
            (Ok(token), Some(first)) if token != *first => {
                return Err(Check::TokenTransport.into());
            }
            (Ok(_), Some(_)) => {}
            (Ok(token), None) => only = Some(token),
        }
    }
    Ok(only)
}

/// The one proof, if there is one (RS-4). Several proofs in one field do not parse as a proof.
pub(super) fn proof(request: &Parts) -> Result<Option<&[u8]>, Refusal> {
    let mut fields = request.headers.get_all(PROOF_HEADER).iter();
    match (fields.next(), fields.next()) {
        (_, Some(_)) => Err(Check::ProofDuplicated.into()),
        (field, None) => Ok(field.map(|field| field.as_bytes())),
    }
}

/// Whether a session-binding proof came in early data, which can be sent again by who recorded it
/// (EX-8). This server's own TLS takes none (EX-3); a gateway in front of it says so with
/// `Early-Data`, of which any value counts as 1 (RFC 8470 §5.1).
pub(super) fn has_proof_in_early_data(request: &Parts) -> bool {
    // The rarer field first: a name costs a hash for each look-up.
    request.headers.contains_key(EARLY_DATA) && request.headers.contains_key(PROOF_HEADER)
}

/// The one DPoP proof (RFC 9449 §4.3 item 1, §7.1). Several proofs in one field do not parse as a
/// proof.
pub(super) fn dpop_proof(request: &Parts) -> Result<&[u8], DpopCheck> {
    let mut fields = request.headers.get_all(DPOP_HEADER).iter();
    match (fields.next(), fields.next()) {
        (_, Some(_)) => Err(DpopCheck::Duplicated),
        (Some(field), None) => Ok(field.as_bytes()),
        (None, None) => Err(DpopCheck::Missing),
    }
}

/// Whether the request presents its token with the scheme `DPoP`, well-formed or not.
pub(super) fn is_dpop(request: &Parts) -> bool {
    let scheme = |field: &HeaderValue| {
        let field = field.as_bytes();
        let end = field
            .iter()
            .position(|&byte| byte == b' ')
            .unwrap_or(field.len());
        field[..end].eq_ignore_ascii_case(Scheme::Dpop.name().as_bytes())
    };
    request.headers.get(AUTHORIZATION).is_some_and(scheme)
}

/// The path as the client sent it: axum's `nest` strips prefixes. It keeps the original URI as an
/// extension, which can be read with the feature `axum` of this crate; without it, [`serve`] keeps
/// it.
///
/// [`serve`]: crate::serve
pub(super) fn path(request: &Parts) -> &str {
    #[cfg(feature = "axum")]
    use axum::extract::OriginalUri;
    match request.extensions.get::<OriginalUri>() {
        Some(original) => original.0.path(),
        None => request.uri.path(),
    }
}

/// The URI of a request before any router has changed it.
#[cfg(not(feature = "axum"))]
#[derive(Clone)]
struct OriginalUri(http::Uri);

/// Keeps the URI of a request for [`path`], where axum's own extension cannot be read.
pub(crate) fn keep_uri<B>(request: &mut http::Request<B>) {
    #[cfg(not(feature = "axum"))]
    {
        let original = OriginalUri(request.uri().clone());
        request.extensions_mut().insert(original);
    }
    let _ = request;
}

/// Whether the query has a parameter `access_token` (RFC 6750 §2.3), however it is escaped.
fn names_access_token(query: &str) -> bool {
    form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "access_token")
}

#[cfg(test)]
mod tests;
