//! What an agent card demands of whoever calls the agent, decided before anything is sent.
//!
//! The card's security requirements are alternatives, each a set of schemes that are all needed
//! (A2A §4.4.1, §4.5). Of these, mutual TLS and access tokens are this crate's business; API keys,
//! HTTP Basic and whatever else a card may name are the caller's, and count as met. Requirements of
//! single skills are not looked at: which skill a message reaches, the agent decides. Scopes are
//! the token source's affair.
//!
//! A card demands; it cannot excuse from anything. What the access token demands (`cnf`), and what
//! the client's policy demands, holds whatever the card says or leaves out.

use a2a::{AgentCard, SecurityScheme};
use bowline_client::ProofRequired;
use bowline_transport::{Call, RequestBoundCalls};
use http::uri::Scheme;
use http::{Extensions, Uri};

use crate::extension::{SESSION_BINDING, SessionBinding};
use crate::failure::{ErrorKind, Failure};

/// What a card demands.
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

/// What requests over one interface do for the sake of the card. The default is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Whether a token carries a proof from the first request on; and which calls have one of their
    /// own.
    binding: Option<RequestBoundCalls>,
    needs_token: bool,
}

impl Demands {
    /// What `card` demands.
    ///
    /// # Errors
    /// [`ErrorKind::NotA2a`]: what it says of session binding cannot be followed.
    pub fn of(card: &AgentCard) -> Result<Self, Failure> {
        let binding = SessionBinding::of(card).map_err(|e| {
            let message = format!("{e}; ask whoever runs the agent");
            Failure::new(ErrorKind::NotA2a, message).processed(false)
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
            // Whoever refuses what comes without a proof wants both that it is made of.
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

    /// What requests to the interface at `endpoint`, an absolute URL, do for the card's sake, by a
    /// client that has a certificate or has none.
    ///
    /// Where the card announces session binding, each access token carries a proof from the first
    /// request on, if there is a certificate and the interface is TLS; and the extension is named
    /// in `A2A-Extensions`.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`]: nobody is served without a certificate, and there is none, or could be none because the
    /// interface is plaintext.
    pub fn meet(&self, endpoint: &Uri, has_certificate: bool) -> Result<Terms, Failure> {
        let is_tls = endpoint.scheme() == Some(&Scheme::HTTPS);
        let can_authenticate = has_certificate && is_tls;
        let mut within_reach = self
            .alternatives
            .iter()
            .filter(|schemes| can_authenticate || !schemes.certificate)
            .peekable();
        if within_reach.peek().is_none() {
            return Err(self.out_of_reach(is_tls));
        }
        let binding = self.binding.as_ref().filter(|_| can_authenticate);
        Ok(Terms {
            binding: binding.map(SessionBinding::request_bound_calls),
            needs_token: within_reach.all(|schemes| schemes.token),
        })
    }

    fn out_of_reach(&self, is_tls: bool) -> Failure {
        let what = match self
            .binding
            .as_ref()
            .is_some_and(SessionBinding::is_required)
        {
            true => "access tokens that are bound to a mutual-TLS connection",
            false => "mutual TLS",
        };
        let message = match is_tls {
            true => format!(
                "the agent's card demands {what}, and this client has no certificate: give it one (Builder::identity)"
            ),
            false => format!(
                "the agent's card demands {what}, and this interface is plaintext: use one that is https"
            ),
        };
        Failure::new(ErrorKind::Configuration, message)
    }
}

impl Terms {
    /// What stands in `A2A-Extensions` for this: the extension's URI, or nothing.
    pub fn extension(&self) -> Option<&'static str> {
        self.binding.as_ref().map(|_| SESSION_BINDING)
    }

    /// Whether a call may go without an access token.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if the agent serves nobody without.
    pub fn allow(&self, has_token: bool) -> Result<(), Failure> {
        if has_token || !self.needs_token {
            return Ok(());
        }
        Err(Failure::new(
            ErrorKind::Configuration,
            "the agent's card demands an access token, and this call has none: give the transports one (Transports::token, \
             Transports::source), or each call its own",
        ))
    }

    /// Marks the request that calls `method`, named as in JSON-RPC: its token is proved
    /// ([`ProofRequired`]), and by a proof for this one request if the card wants that
    /// ([`RequestBoundProof`](bowline_client::RequestBoundProof)). It takes no mark away.
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
#[path = "demands_tests.rs"]
mod tests;
