//! What an agent card requires of callers, decided before anything is sent.
//!
//! The card's security requirements are alternatives, each a set of schemes that are all needed
//! (A2A §4.4.1, §4.5). This crate handles mutual TLS and access tokens; API keys, HTTP Basic and
//! other schemes are left to the caller and count as met. Requirements of single skills are
//! ignored, because the agent decides which skill a message reaches. Scopes are left to the token
//! source.
//!
//! A card can only add requirements. Those of the access token (`cnf`) and of the client's policy
//! hold whatever the card says or leaves out.

use a2a::{AgentCard, SecurityScheme};
use bowline_http_client::ProofRequired;
use bowline_transport::{Call, RequestBoundCalls};
use http::uri::Scheme;
use http::{Extensions, Uri};

use crate::error::{Error, ErrorKind};
use crate::extension::{SESSION_BINDING, SessionBinding};

/// What a card requires of callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardRequirements {
    binding: Option<SessionBinding>,
    /// One of these must be met. Never empty.
    alternatives: Vec<Schemes>,
}

/// Schemes that are all required.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Schemes {
    certificate: bool,
    token: bool,
}

/// What the card requires of the calls over one interface. The default is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallRequirements {
    /// If set, each token carries a proof from the first request on, and these calls carry one of
    /// their own.
    request_bound: Option<RequestBoundCalls>,
    needs_token: bool,
}

impl CardRequirements {
    /// Reads the requirements of `card`.
    ///
    /// # Errors
    /// [`ErrorKind::NotA2a`] if its session-binding extension is invalid.
    pub fn from_card(card: &AgentCard) -> Result<Self, Error> {
        let binding = SessionBinding::from_card(card).map_err(|e| {
            let message = format!("{e}; ask the agent's operator");
            Error::new(ErrorKind::NotA2a, message).with_processed(false)
        })?;
        let required = card.security_requirements.as_deref().unwrap_or_default();
        let mut alternatives: Vec<_> = required
            .iter()
            .map(|names| {
                names
                    .keys()
                    .fold(Schemes::default(), |all, name| all.and(card, name))
            })
            .collect();
        if alternatives.is_empty() {
            alternatives.push(Schemes::default());
        }
        if binding.as_ref().is_some_and(SessionBinding::is_required) {
            // Required session binding implies a certificate and a token.
            alternatives = vec![Schemes {
                certificate: true,
                token: true,
            }];
        }
        Ok(Self {
            binding,
            alternatives,
        })
    }

    /// The card's session-binding extension.
    pub fn session_binding(&self) -> Option<&SessionBinding> {
        self.binding.as_ref()
    }

    /// Whether every alternative needs a client certificate.
    pub fn needs_certificate(&self) -> bool {
        self.alternatives.iter().all(|schemes| schemes.certificate)
    }

    /// Whether every alternative needs an access token.
    pub fn needs_token(&self) -> bool {
        self.alternatives.iter().all(|schemes| schemes.token)
    }

    /// The requirements for calls to the interface at `endpoint`, an absolute URL, of a client with
    /// or without a certificate.
    ///
    /// If the card announces session binding, and the client has a certificate and the interface is
    /// TLS, then each access token carries a proof from the first request on, and `A2A-Extensions`
    /// names the extension.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if a certificate is required and the client has none, or the
    /// interface is plaintext.
    pub fn resolve(
        &self,
        endpoint: &Uri,
        has_certificate: bool,
    ) -> Result<CallRequirements, Error> {
        let is_tls = endpoint.scheme() == Some(&Scheme::HTTPS);
        let can_authenticate = has_certificate && is_tls;
        let mut possible = self
            .alternatives
            .iter()
            .filter(|schemes| can_authenticate || !schemes.certificate)
            .peekable();
        if possible.peek().is_none() {
            return Err(self.certificate_missing(is_tls));
        }
        let binding = self.binding.as_ref().filter(|_| can_authenticate);
        Ok(CallRequirements {
            request_bound: binding.map(SessionBinding::request_bound_calls),
            needs_token: possible.all(|schemes| schemes.token),
        })
    }

    fn certificate_missing(&self, is_tls: bool) -> Error {
        let binding = self.binding.as_ref();
        let what = if binding.is_some_and(SessionBinding::is_required) {
            "access tokens that are bound to a mutual-TLS connection"
        } else {
            "mutual TLS"
        };
        let but = if is_tls {
            "this client has no certificate: give it one (Builder::identity)"
        } else {
            "this interface is plaintext: use one that is https"
        };
        let message = format!("the agent's card requires {what}, and {but}");
        Error::new(ErrorKind::Configuration, message)
    }
}

impl CallRequirements {
    /// The extension's URI for `A2A-Extensions`, if the card announces session binding.
    pub fn extension(&self) -> Option<&'static str> {
        self.request_bound.as_ref().map(|_| SESSION_BINDING)
    }

    /// Checks that a call has an access token if the card requires one.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if it is required and missing.
    pub fn check_token(&self, has_token: bool) -> Result<(), Error> {
        if has_token || !self.needs_token {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Configuration,
            "the agent's card requires an access token, and this call has none: give the \
             transports one (Transports::token, Transports::source), or each call its own",
        ))
    }

    /// Marks the request that calls `method`, named as in JSON-RPC: its token needs a proof
    /// ([`ProofRequired`]), and one for this request alone if the card requires that
    /// ([`RequestBoundProof`](bowline_http_client::RequestBoundProof)). It removes no mark.
    pub fn apply_to(&self, method: &str, extensions: &mut Extensions) {
        let Some(request_bound) = &self.request_bound else {
            return;
        };
        extensions.insert(ProofRequired);
        let call = Call {
            method,
            target: None,
            is_destructive: false,
        };
        request_bound.apply_to(&call, extensions);
    }
}

impl Schemes {
    /// Adds a scheme. One that the card does not declare is left to the caller.
    fn and(mut self, card: &AgentCard, name: &str) -> Self {
        let declared = card
            .security_schemes
            .as_ref()
            .and_then(|schemes| schemes.get(name));
        match declared {
            Some(SecurityScheme::MutualTls(_)) => self.certificate = true,
            Some(SecurityScheme::OAuth2(_) | SecurityScheme::OpenIdConnect(_)) => self.token = true,
            Some(SecurityScheme::HttpAuth(http)) if carries_token(&http.scheme) => {
                self.token = true
            }
            Some(SecurityScheme::HttpAuth(_) | SecurityScheme::ApiKey(_)) | None => {}
        }
        self
    }
}

/// The schemes of `Authorization` that this client sends access tokens with (RFC 6750, RFC 9449).
fn carries_token(scheme: &str) -> bool {
    ["bearer", "dpop"]
        .iter()
        .any(|known| scheme.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests;
