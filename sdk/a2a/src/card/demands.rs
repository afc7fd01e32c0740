//! What an agent card demands of whoever calls the agent, decided before anything is sent.
//!
//! The card's security requirements are alternatives, each a set of schemes that are all needed (A2A §4.5). Of these,
//! mutual TLS and access tokens are this crate's business; API keys, HTTP Basic and whatever else a card may name are the
//! caller's, and count as met. Requirements of single skills are not looked at: which skill a message reaches, the agent
//! decides. Scopes are the token source's affair.
//!
//! A card demands; it cannot excuse from anything. What the access token demands (`cnf`), and what the client's policy
//! demands, holds whatever the card says or leaves out.

use a2a::{AgentCard, AgentInterface, SecurityScheme};
use bowline_client::{Call, PerRequestClaims, ProofRequired};
use http::Extensions;

use super::error::Cause;
use crate::card::CardError;
use crate::extension::{SESSION_BINDING, SessionBinding};

/// What a card demands. Pure: it is read once, and asks nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demands {
    binding: Option<SessionBinding>,
    /// One of these is to be met. Never empty.
    alternatives: Vec<Schemes>,
}

/// Schemes that are all needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Schemes {
    certificate: bool,
    token: bool,
}

/// What a client can show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Means {
    /// Whether it has a certificate.
    pub certificate: bool,
    /// Whether it has access tokens.
    pub token: bool,
}

/// What each request does for the sake of the card. The default is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Whether its token carries a proof from the first request on; and which calls have one of their own.
    binding: Option<PerRequestClaims>,
}

impl Demands {
    /// What `card` demands.
    ///
    /// # Errors
    /// [`InvalidExtension`](super::CardErrorKind::InvalidExtension): nobody can tell what the card wants.
    pub fn of(card: &AgentCard) -> Result<Self, CardError> {
        let binding = SessionBinding::of(card)?;
        // Who refuses what comes without a proof needs both for one.
        let always = binding.as_ref().is_some_and(SessionBinding::is_required);
        let required = card.security_requirements.as_deref().unwrap_or_default();
        let mut alternatives: Vec<_> = required
            .iter()
            .map(|names| names.keys().fold(Schemes::default(), |all, name| all.and(card, name)))
            .collect();
        if alternatives.is_empty() {
            alternatives.push(Schemes::default());
        }
        for schemes in &mut alternatives {
            schemes.certificate |= always;
            schemes.token |= always;
        }
        Ok(Self { binding, alternatives })
    }

    /// What the card says of session binding.
    pub fn session_binding(&self) -> Option<&SessionBinding> {
        self.binding.as_ref()
    }

    /// Whether nobody without a client certificate is served.
    pub fn needs_certificate(&self) -> bool {
        self.alternatives.iter().all(|schemes| schemes.certificate)
    }

    /// Whether nobody without an access token is served.
    pub fn needs_token(&self) -> bool {
        self.alternatives.iter().all(|schemes| schemes.token)
    }

    /// What requests to `interface` do for the card's sake, with what the client has.
    ///
    /// Where the card announces session binding, each access token carries a proof from the first request on, as far as the
    /// client has a certificate and the interface is TLS; and the extension is named in `A2A-Extensions`.
    ///
    /// # Errors
    /// No alternative can be met: [`Plaintext`](super::CardErrorKind::Plaintext),
    /// [`NoCertificate`](super::CardErrorKind::NoCertificate) or [`NoToken`](super::CardErrorKind::NoToken), by the
    /// alternative that wants least besides what there is.
    pub fn meet(&self, interface: &AgentInterface, means: Means) -> Result<Terms, CardError> {
        let is_tls = !is_plaintext(&interface.url);
        let lacks = self.alternatives.iter().map(|schemes| schemes.lacking(means, is_tls));
        match lacks.min_by_key(|lack| lack.len()).unwrap_or_default().first() {
            None => {}
            Some(Lack::Tls) => {
                let (what, url) = (self.certificate_for(), interface.url.clone());
                return Err(Cause::Plaintext { what, url }.into());
            }
            Some(Lack::Certificate) => return Err(Cause::NoCertificate(self.certificate_for()).into()),
            Some(Lack::Token) => return Err(Cause::NoToken(self.token_for()).into()),
        }
        let can_prove = means.certificate && means.token && is_tls;
        let binding = self.binding.as_ref().filter(|_| can_prove);
        Ok(Terms {
            binding: binding.map(SessionBinding::per_request_claims),
        })
    }

    fn requires_binding(&self) -> bool {
        self.binding.as_ref().is_some_and(SessionBinding::is_required)
    }

    fn certificate_for(&self) -> &'static str {
        match self.requires_binding() {
            true => "session-bound tokens",
            false => "mutual TLS",
        }
    }

    fn token_for(&self) -> &'static str {
        match self.requires_binding() {
            true => "a session-bound access token",
            false => "an access token",
        }
    }
}

impl Terms {
    /// What stands in `A2A-Extensions` for this: the extension's URI, or nothing.
    pub fn extension(&self) -> Option<&'static str> {
        self.binding.as_ref().map(|_| SESSION_BINDING)
    }

    /// Marks the request that calls `method`, named as in JSON-RPC: its token is proved ([`ProofRequired`]), and by a proof
    /// for this one request if the card wants that
    /// ([`ProofForThisRequest`](bowline_client::ProofForThisRequest)). It takes no mark away.
    pub fn apply_to(&self, method: &str, extensions: &mut Extensions) {
        let Some(claims) = &self.binding else { return };
        extensions.insert(ProofRequired);
        let call = Call {
            method,
            target: None,
            is_destructive: false,
        };
        claims.apply_to(&call, extensions);
    }
}

impl Schemes {
    /// With this scheme besides. One that the card does not declare is the caller's to know.
    fn and(mut self, card: &AgentCard, name: &str) -> Self {
        let declared = card.security_schemes.as_ref().and_then(|schemes| schemes.get(name));
        match declared {
            Some(SecurityScheme::MutualTls(_)) => self.certificate = true,
            Some(SecurityScheme::OAuth2(_) | SecurityScheme::OpenIdConnect(_)) => self.token = true,
            Some(SecurityScheme::HttpAuth(http)) if carries_token(&http.scheme) => self.token = true,
            Some(SecurityScheme::HttpAuth(_) | SecurityScheme::ApiKey(_)) | None => {}
        }
        self
    }

    /// What is missing, the worst first.
    fn lacking(self, means: Means, is_tls: bool) -> Vec<Lack> {
        let lacks = [
            (self.certificate && !is_tls, Lack::Tls),
            (self.certificate && !means.certificate, Lack::Certificate),
            (self.token && !means.token, Lack::Token),
        ];
        lacks.into_iter().filter(|(lacks, _)| *lacks).map(|(_, lack)| lack).collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lack {
    Tls,
    Certificate,
    Token,
}

/// The schemes of `Authorization` that this client sends access tokens with (RFC 6750, RFC 9449).
fn carries_token(scheme: &str) -> bool {
    ["bearer", "dpop"].iter().any(|known| scheme.eq_ignore_ascii_case(known))
}

/// A gRPC interface is `host:port`, and always TLS here.
fn is_plaintext(url: &str) -> bool {
    const HTTP: &str = "http://";
    url.get(..HTTP.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(HTTP))
}

#[cfg(test)]
mod tests;
