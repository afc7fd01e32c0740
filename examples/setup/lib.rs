//! What the examples need around them, all on loopback: certificates, an authorization server
//! (`bowline-testkit`), a log that leaks credentials, and attackers.
//!
//! A program of yours has files and URLs in their place.

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

mod a2a;
mod attacks;
mod servers;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use axum::http::Request;
use bowline::server::JwksUrl;
use bowline::token::Authorized;
use bowline::{AccessToken, Client, Identity, Trust};
use bowline_testkit::attacker::LeakyLog;
use bowline_testkit::authority::{self, Authority, AuthorityOptions, TokenRequest};
use bowline_testkit::pki::{KeyKind, Leaf, Pki};

pub use a2a::{agent, ask_over_each_binding, card, echoed, message};
pub use attacks::refusal;
pub use servers::LegacyServer;

/// Any error.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// A certification authority, an authorization server, and a careless log.
pub struct Setup {
    pki: Pki,
    authority: Authority,
    log: LeakyLog,
    leaves: Mutex<BTreeMap<String, Leaf>>,
}

/// A certificate and its key, and the certification authority to trust: PEM.
pub struct Pem {
    /// The certificate chain.
    pub certificate: Vec<u8>,
    /// The private key.
    pub key: Vec<u8>,
    /// The certification authority of both ends.
    pub ca: Vec<u8>,
}

impl Setup {
    /// Makes the certification authority and starts the authorization server.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn start() -> Self {
        let pki = Pki::new();
        Self {
            authority: Authority::start(&pki, AuthorityOptions::default()),
            pki,
            log: LeakyLog::default(),
            leaves: Mutex::default(),
        }
    }

    /// The client certificate of this name, the same one at each call.
    pub fn certificate(&self, name: &str) -> Pem {
        self.pem(&self.leaf(name))
    }

    /// A certificate for `localhost`.
    pub fn server_certificate(&self) -> Pem {
        self.pem(&self.pki.localhost())
    }

    /// The authorization server's issuer identifier.
    pub fn issuer(&self) -> &str {
        self.authority.issuer()
    }

    /// The authorization server's public keys, whose TLS certificate is of the same authority.
    ///
    /// # Errors
    /// None, if the set-up is right.
    pub fn keys(&self) -> Result<JwksUrl, Error> {
        let keys = JwksUrl::new(&self.authority.jwks_url())?;
        Ok(keys.trust_only_pem(self.authority.ca_pem().as_bytes())?)
    }

    /// A token for `audience`, bound to the certificate of this client and to be proved on each
    /// connection. No request is made for it.
    ///
    /// # Errors
    /// None, if the set-up is right.
    pub fn token(&self, client: &str, audience: &str) -> Result<AccessToken, Error> {
        let bound = TokenRequest::session_bound(client, self.leaf(client).thumbprint());
        Ok(AccessToken::new(
            self.authority.issue(&bound.audience(audience)),
        )?)
    }

    /// A bowline client with the certificate of this name.
    ///
    /// # Errors
    /// None, if the set-up is right.
    pub fn client(&self, name: &str) -> Result<Client, Error> {
        let pem = self.certificate(name);
        Ok(Client::builder()
            .identity(Identity::from_pem(&pem.certificate, &pem.key)?)
            .trust(Trust::from_pem(&pem.ca)?)
            .build()?)
    }

    /// Registers a client that tokens with this audience are addressed to, so that it may exchange
    /// them (AS-2).
    pub fn register(&self, id: &str, audience: &str) {
        self.authority.register(authority::Client {
            resources: vec![audience.to_owned()],
            ..authority::Client::new(id)
        });
    }

    /// Puts a log in front of a server. As a careless one does, it keeps access tokens and proofs.
    pub fn leaky_log(&self, router: axum::Router) -> axum::Router {
        self.log.in_front_of(router)
    }

    fn leaf(&self, name: &str) -> Leaf {
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        let issued = || self.pki.client(name, KeyKind::P256);
        leaves.entry(name.to_owned()).or_insert_with(issued).clone()
    }

    fn pem(&self, leaf: &Leaf) -> Pem {
        Pem {
            certificate: leaf.chain_pem().into(),
            key: leaf.key_pem().into(),
            ca: self.pki.ca_pem().into(),
        }
    }
}

/// The text at this URL.
///
/// # Errors
/// Those of the client; another status than 200.
pub async fn text(client: &Authorized, url: &str) -> Result<String, Error> {
    let response = client.send(Request::get(url).body(String::new())?).await?;
    expected("200", response.status().as_str())?;
    let bytes = response.into_body().bytes_limited(64 * 1024).await?;
    Ok(String::from_utf8(bytes)?)
}

/// Prints what happened, if it is what the example shows.
///
/// # Errors
/// As [`expected`].
pub fn show(label: &str, what: &str, happened: impl Into<String>) -> Result<(), Error> {
    println!("{label}: {}", expected(what, happened)?);
    Ok(())
}

/// `happened`, or an error if it is not what the example shows.
///
/// # Errors
/// If `happened` does not contain `what`.
pub fn expected(what: &str, happened: impl Into<String>) -> Result<String, Error> {
    let happened = happened.into();
    if happened.contains(what) {
        Ok(happened)
    } else {
        Err(format!("expected {what}: {happened}").into())
    }
}
