//! `private_key_jwt`: a client authenticates with a signed assertion (RFC 7523 §3).

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;

use super::Port;
use super::form::Form;
use super::rejection::Rejection;
use crate::authority::names::{INTROSPECTION_PATH, TOKEN_PATH};

const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// No HMAC: a public key must not be taken for a shared secret.
pub(super) const ALGORITHMS: [Algorithm; 5] = [
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
    Algorithm::PS256,
    Algorithm::RS256,
];

#[derive(Deserialize)]
struct Claims {
    sub: String,
    #[serde(default)]
    jti: Option<String>,
}

/// Checks that the client with this id has signed the assertion for this server, that it has not
/// expired, and that it is used for the first time.
///
/// # Errors
/// `invalid_client` (RFC 7521 §4.2.1).
pub(super) fn check(
    port: &Port,
    form: &Form,
    client_id: &str,
    keys: &JwkSet,
) -> Result<(), Rejection> {
    if form.value("client_assertion_type") != Some(TYPE) {
        return Err(Rejection::invalid_client(format!(
            "the client has registered private_key_jwt: \
             client_assertion_type must be {TYPE} (RFC 7523 section 2.2)"
        )));
    }
    let assertion = form.value("client_assertion").ok_or_else(|| {
        Rejection::invalid_client("the client_assertion is missing (RFC 7523 section 2.2)")
    })?;
    let header = jsonwebtoken::decode_header(assertion).map_err(refused)?;
    if !ALGORITHMS.contains(&header.alg) {
        return Err(Rejection::invalid_client(
            "the alg of the client_assertion is not accepted here",
        ));
    }
    let validation = validation(port, header.alg, client_id);
    let mut failure = Rejection::invalid_client(
        "the client has registered no key with the kid of the client_assertion",
    );
    for key in keys
        .keys
        .iter()
        .filter(|key| may_have_signed(key, header.kid.as_deref()))
    {
        let Ok(key) = DecodingKey::from_jwk(key) else {
            continue;
        };
        match jsonwebtoken::decode::<Claims>(assertion, &key, &validation) {
            Ok(token) => return once(port, client_id, token.claims.jti.as_deref()),
            Err(error) => failure = refused(error),
        }
    }
    Err(failure)
}

/// The client that the assertion names; nothing is verified yet.
pub(super) fn subject(assertion: &str) -> Result<String, Rejection> {
    jsonwebtoken::dangerous::insecure_decode::<Claims>(assertion)
        .map(|token| token.claims.sub)
        .map_err(refused)
}

/// RFC 7523 §3 items 1 to 5. The audience is this server: its issuer identifier, or an endpoint.
fn validation(port: &Port, algorithm: Algorithm, client_id: &str) -> Validation {
    let state = &port.state;
    let mut validation = Validation::new(algorithm);
    validation.set_required_spec_claims(&["iss", "sub", "aud", "exp"]);
    validation.set_issuer(&[client_id]);
    validation.sub = Some(client_id.to_owned());
    validation.set_audience(&[
        state.issuer.clone(),
        state.url(TOKEN_PATH),
        state.mtls_url(TOKEN_PATH),
        state.url(INTROSPECTION_PATH),
        state.mtls_url(INTROSPECTION_PATH),
    ]);
    validation.validate_nbf = true;
    validation.leeway = 0;
    validation
}

fn may_have_signed(key: &Jwk, name: Option<&str>) -> bool {
    match (&key.common.key_id, name) {
        (Some(key), Some(name)) => key == name,
        _ => true,
    }
}

/// RFC 7523 §3 item 7, which is a MAY; here it is required.
fn once(port: &Port, client_id: &str, jti: Option<&str>) -> Result<(), Rejection> {
    let jti = jti.ok_or_else(|| Rejection::invalid_client("the client_assertion has no jti"))?;
    if port.state.use_up(client_id, jti) {
        return Ok(());
    }
    Err(Rejection::invalid_client(
        "the jti of the client_assertion was seen before",
    ))
}

fn refused(error: jsonwebtoken::errors::Error) -> Rejection {
    Rejection::invalid_client(match error.kind() {
        ErrorKind::ExpiredSignature => "the client_assertion has expired".to_owned(),
        ErrorKind::ImmatureSignature => "the client_assertion is not valid yet (nbf)".to_owned(),
        ErrorKind::InvalidAudience => {
            "the aud of the client_assertion is neither the issuer nor the token endpoint"
                .to_owned()
        }
        ErrorKind::InvalidIssuer | ErrorKind::InvalidSubject => {
            "iss and sub of the client_assertion must both be the client_id (RFC 7523 section 3)"
                .to_owned()
        }
        ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm => {
            "the signature of the client_assertion is by none of the client's keys".to_owned()
        }
        ErrorKind::MissingRequiredClaim(name) => format!("the client_assertion has no {name}"),
        _ => "the client_assertion is not a well-formed JWT".to_owned(),
    })
}
