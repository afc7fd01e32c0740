//! Token exchange (RFC 8693), within AS-1..AS-3 and TK-4.
//!
//! The new token has the same subject, no wider scope, no longer lifetime and no weaker binding.
//! Whether the subject token came over the connection that it is bound to cannot be checked here:
//! the server that received it has verified its proof (AS-3).

use bowline_proof::{Confirmation, Demand};
use serde_json::{Value, json};

use super::authentication::AuthenticatedClient;
use super::dpop::DpopProof;
use super::form::Form;
use super::rejection::Rejection;
use super::{Grant, Port};
use crate::authority::state::Unusable;
use crate::authority::{TokenBinding, TokenFormat, TokenRequest};

const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// # Errors
/// RFC 8693 §2.2.2: `invalid_request` for a token that is invalid or not this client's to exchange,
/// `invalid_target`, `invalid_scope`.
pub(super) fn grant(
    port: &Port,
    party: &AuthenticatedClient,
    proof: Option<&DpopProof>,
    form: &Form,
) -> Result<Grant, Rejection> {
    let subject = Presented::read(port, form, "subject_token")?
        .ok_or_else(|| Rejection::missing("subject_token"))?;
    let actor = Presented::read(port, form, "actor_token")?;
    let binding = subject.may_be_exchanged_by(party, proof)?;
    if let Some(actor) = &actor {
        actor.is_own_token_of(party, proof)?;
    }
    let confirmation = party.confirmation(proof, binding);
    if confirmation.is_none() && subject.is_bound() {
        return Err(Rejection::invalid_request(
            "the subject_token is bound, and is not exchanged for a bearer token: \
             use mutual TLS, or a DPoP proof",
        ));
    }
    let (format, issued_type) = requested_type(form, party)?;

    let name = |claim: &Value| claim.as_str().unwrap_or_default().to_owned();
    let mut request = TokenRequest::new(&party.client.id, confirmation)
        .subject(name(&subject.claims["sub"]))
        .actor(actors(&subject.claims, actor.as_ref(), &party.client.id))
        .not_after(subject.claims["exp"].as_u64().unwrap_or_default());
    if let Some(format) = format {
        request = request.format(format);
    }
    if let Some(scope) = narrowed(form.scope()?, subject.claims["scope"].as_str())? {
        request = request.scope(scope);
    }
    if let Some(target) = target(form)? {
        request = request.audience(target);
    }
    Ok((request, json!({ "issued_token_type": issued_type })))
}

/// A token among the parameters that this authority has issued and that is still valid.
struct Presented {
    parameter: &'static str,
    claims: Value,
    confirmation: Confirmation,
    demand: Demand,
}

impl Presented {
    fn read(port: &Port, form: &Form, parameter: &'static str) -> Result<Option<Self>, Rejection> {
        let type_parameter = format!("{parameter}_type");
        let Some(token) = form.value(parameter) else {
            // RFC 8693 §2.1: then its type must not be there.
            return match form.value(&type_parameter) {
                Some(_) => Err(Rejection::missing(parameter)),
                None => Ok(None),
            };
        };
        let is_jwt = token.split('.').count() == 3;
        match form.required(&type_parameter)? {
            ACCESS_TOKEN => {}
            JWT if is_jwt => {}
            JWT => {
                return Err(Rejection::invalid_request(format!(
                    "the {parameter} is not a JWT"
                )));
            }
            _ => {
                return Err(Rejection::invalid_request(format!(
                    "{type_parameter} must be {ACCESS_TOKEN} or {JWT}"
                )));
            }
        }
        let unusable = |why| Rejection::invalid_request(format!("the {parameter} {why}"));
        let claims = port.state.validate(token).map_err(|reason| {
            unusable(match reason {
                Unusable::Unknown => "was not issued by this authority, or its signature is wrong",
                Unusable::Expired => "has expired",
                Unusable::Revoked => "has been revoked",
            })
        })?;
        let confirmation =
            Confirmation::from_claims(&claims).map_err(|_| unusable("has a malformed cnf"))?;
        let demand = confirmation
            .demand()
            .map_err(|_| unusable("has a cnf that cannot be satisfied (TK-0..TK-2)"))?;
        Ok(Some(Self {
            parameter,
            claims,
            confirmation,
            demand,
        }))
    }

    fn is_bound(&self) -> bool {
        self.demand != Demand::None || self.confirmation.x5t_s256.is_some()
    }

    /// Whether the token is bound to this client, by its certificate or its DPoP key; false for a
    /// bearer token.
    fn is_bound_to(&self, party: &AuthenticatedClient, proof: Option<&DpopProof>) -> bool {
        match self.demand {
            Demand::Dpop => self.confirmation.jkt == proof.map(|proof| proof.key),
            _ => {
                self.confirmation.x5t_s256.is_some()
                    && self.confirmation.x5t_s256 == party.certificate
            }
        }
    }

    /// AS-2, and the weakest binding that the new token may have (TK-4). This server applies AS-2
    /// also to certificate-bound and DPoP-bound tokens, as far as it fits them.
    fn may_be_exchanged_by(
        &self,
        party: &AuthenticatedClient,
        proof: Option<&DpopProof>,
    ) -> Result<TokenBinding, Rejection> {
        let needs_certificate = self.confirmation.x5t_s256.is_some();
        if needs_certificate && party.certificate.is_none() {
            return Err(Rejection::invalid_request(
                "AS-2: the subject_token is bound to a certificate, \
                 and is exchanged only over mutual TLS",
            ));
        }
        let addressed = party.client.is_addressed_by(&self.claims["aud"]);
        if self.is_bound() && !addressed && !self.is_bound_to(party, proof) {
            return Err(Rejection::invalid_request(
                "AS-2: the subject_token is neither bound nor addressed to this client",
            ));
        }
        match self.demand {
            Demand::Session if proof.is_some() => Err(Rejection::invalid_request(
                "TK-4: the subject_token is session-bound, so the new token is as well: \
                 leave out the DPoP proof",
            )),
            Demand::Session => Ok(TokenBinding::Session), // TK-4
            _ if needs_certificate && party.client.binding == TokenBinding::Bearer => {
                Ok(TokenBinding::Certificate)
            }
            _ => Ok(party.client.binding),
        }
    }

    /// RFC 8693 §1.1: the actor is the client that makes this request.
    fn is_own_token_of(
        &self,
        party: &AuthenticatedClient,
        proof: Option<&DpopProof>,
    ) -> Result<(), Rejection> {
        let is_own = self.claims["client_id"] == json!(party.client.id);
        if is_own && (!self.is_bound() || self.is_bound_to(party, proof)) {
            return Ok(());
        }
        Err(Rejection::invalid_request(format!(
            "the {} was not issued to this client, or is bound to another key",
            self.parameter
        )))
    }
}

/// RFC 8693 §4.1: the current actor, with earlier actors nested inside, the latest outermost. A
/// client that exchanges its own token adds no actor.
fn actors(subject: &Value, actor: Option<&Presented>, client_id: &str) -> Option<Value> {
    let earlier = subject.get("act");
    let latest = earlier.map_or(&subject["sub"], |act| &act["sub"]);
    let now = actor.map_or_else(|| json!(client_id), |actor| actor.claims["sub"].clone());
    match (*latest == now, earlier) {
        (true, earlier) => earlier.cloned(),
        (false, None) => Some(json!({ "sub": now })),
        (false, Some(earlier)) => Some(json!({ "sub": now, "act": earlier })),
    }
}

/// The requested scope, if the subject token has all of it; without a request, the subject token's.
fn narrowed(requested: Option<&str>, granted: Option<&str>) -> Result<Option<String>, Rejection> {
    let has =
        |name: &str| granted.is_some_and(|granted| granted.split(' ').any(|known| known == name));
    match requested {
        Some(scope) if !scope.split(' ').all(has) => Err(Rejection::new(
            "invalid_scope",
            "the scope is wider than that of the subject_token",
        )),
        Some(scope) => Ok(Some(scope.to_owned())),
        None => Ok(granted.map(str::to_owned)),
    }
}

/// `resource` is a URI, `audience` a name (RFC 8693 §2.1). Tokens have one audience here.
fn target(form: &Form) -> Result<Option<&str>, Rejection> {
    match (form.resource()?, form.value("audience")) {
        (Some(resource), Some(audience)) if resource != audience => Err(Rejection::invalid_target(
            "resource and audience name different targets",
        )),
        (resource, audience) => Ok(resource.or(audience)),
    }
}

/// The form of the new token, and its name.
fn requested_type(
    form: &Form,
    party: &AuthenticatedClient,
) -> Result<(Option<TokenFormat>, &'static str), Rejection> {
    match form.value("requested_token_type") {
        None | Some(ACCESS_TOKEN) => Ok((party.client.format, ACCESS_TOKEN)),
        Some(JWT) => Ok((Some(TokenFormat::Jwt), JWT)),
        Some(_) => Err(Rejection::invalid_request(format!(
            "requested_token_type must be {ACCESS_TOKEN} or {JWT}"
        ))),
    }
}
