//! Where the access token of a request to an origin comes from (GW-7).
//!
//! - [`setting`]: how it is configured;
//! - [`ambient`]: which callers may use a token that they need not have;
//! - [`exchange`]: whose token is exchanged for another.

mod ambient;
mod exchange;
mod setting;

use std::path::Path;
use std::sync::Arc;

use bowline::Client;
use bowline::token::{
    AssertionKey, AuthorizationServer, Authorized, Builder, ClientAuthentication, OAuth, TokenFile,
    TokenSource,
};
use http::HeaderMap;

use self::exchange::Exchange;
pub(super) use self::setting::TokenSetting;
use self::setting::{Authentication, Server, ServerAt};
use super::hash;
use crate::egress::names::HostPort;
use crate::egress::refused::Refused;
use crate::failure::Failure;
use crate::secret;

/// The token source of an origin, at work.
#[derive(Clone)]
pub(super) struct Tokens {
    kind: Kind,
    made_from: MadeFrom,
}

#[derive(Clone)]
enum Kind {
    Caller,
    Ambient(Authorized),
    Exchange(Arc<Exchange>),
}

/// A reload that changes none of it keeps the source, and so its tokens.
#[derive(Clone, PartialEq, Eq)]
struct MadeFrom {
    setting: TokenSetting,
    /// Hashes of the files that it names.
    files: Vec<Option<[u8; 32]>>,
}

impl Tokens {
    /// `former` is the origin's source of before, if it is for the same client.
    ///
    /// # Errors
    /// A file or a setting cannot be used.
    pub(super) fn new(
        setting: &TokenSetting,
        name: &HostPort,
        client: &Client,
        former: Option<&Self>,
    ) -> Result<Self, Failure> {
        let made_from = MadeFrom {
            setting: setting.clone(),
            files: setting.files().into_iter().map(hash).collect(),
        };
        if let Some(former) = former.filter(|former| former.made_from == made_from) {
            return Ok(former.clone());
        }
        let origin = format!("https://{name}");
        let kind = Kind::new(setting, &origin, client);
        let kind =
            kind.map_err(|failure| Failure::usage(format!("{origin}: {}", failure.line())))?;
        Ok(Self { kind, made_from })
    }

    /// Whether a request gets a token without bringing one.
    pub(super) fn are_ambient(&self) -> bool {
        self.made_from.setting.ambient().is_some()
    }

    /// The files that hold a token or a key.
    pub(super) fn secrets(&self) -> Vec<&Path> {
        self.made_from.setting.secrets()
    }

    pub(super) fn exchanges(&self) -> bool {
        matches!(self.kind, Kind::Exchange(_))
    }

    /// Whether a redirect of this allowed origin may lead here.
    pub(super) fn takes_redirects_of(&self, from: &HostPort) -> bool {
        let ambient = self.made_from.setting.ambient();
        ambient.is_none_or(|ambient| ambient.redirects_from.contains(from))
    }

    /// What gives the token for a request with these fields, as they came; `None`: it has its own, or
    /// none. Takes out what is for this egress alone.
    ///
    /// # Errors
    /// 401 or 403: it gets none.
    pub(super) fn admit(
        &self,
        name: &HostPort,
        headers: &mut HeaderMap,
    ) -> Result<Option<Authorized>, Refused> {
        match &self.kind {
            Kind::Caller => Ok(None),
            Kind::Ambient(authorized) => {
                if let Some(ambient) = self.made_from.setting.ambient() {
                    ambient.admit(name, headers)?;
                }
                Ok(Some(authorized.clone()))
            }
            Kind::Exchange(exchange) => exchange.admit(headers).map(Some),
        }
    }
}

impl Kind {
    fn new(setting: &TokenSetting, origin: &str, client: &Client) -> Result<Self, Failure> {
        let ambient = |source: Arc<dyn TokenSource>| {
            let authorized = Authorized::new(client.clone(), source, origin);
            authorized.map(Self::Ambient).map_err(Failure::usage)
        };
        match setting {
            TokenSetting::Caller => Ok(Self::Caller),
            TokenSetting::File { path, .. } => ambient(Arc::new(TokenFile::new(path))),
            TokenSetting::Requested { server, seed, .. } => {
                let mut builder = builder(server, origin, client)?;
                if let Some(seed) = seed {
                    builder = builder.refresh(seed);
                }
                ambient(Arc::new(builder.build().map_err(Failure::usage)?))
            }
            TokenSetting::Exchange {
                server,
                actor,
                receipt_key,
            } => {
                let builder = builder(server, origin, client)?;
                let receipt_key = receipt_key.as_ref();
                let exchange = Exchange::new(client.clone(), origin, builder, *actor, receipt_key);
                exchange.map(Arc::new).map(Self::Exchange)
            }
        }
    }
}

fn builder(server: &Server, origin: &str, client: &Client) -> Result<Builder, Failure> {
    let at = match &server.at {
        ServerAt::Issuer(issuer) => AuthorizationServer::issuer(issuer),
        ServerAt::TokenEndpoint(url) => AuthorizationServer::token_endpoint(url),
        ServerAt::Listed(issuers) => {
            let resource = server.resource.as_deref().unwrap_or(origin);
            AuthorizationServer::for_resource(resource).only(issuers)
        }
    };
    let id = server.client_id.as_str();
    let mut authentication = match &server.authentication {
        Authentication::Tls => ClientAuthentication::tls(id),
        Authentication::SelfSignedTls => ClientAuthentication::self_signed_tls(id),
        Authentication::PrivateKeyJwt(None) => ClientAuthentication::certificate_key_jwt(id),
        Authentication::PrivateKeyJwt(Some(path)) => {
            ClientAuthentication::private_key_jwt(id, assertion_key(path)?)
        }
    };
    if let Some(audience) = &server.assertion_audience {
        authentication = authentication.audience(audience.as_str());
    }
    let mut builder = OAuth::builder(client.clone(), at, authentication).bound(server.bound);
    if let Some(resource) = &server.resource {
        builder = builder.resource(resource);
    }
    if let Some(audience) = &server.audience {
        builder = builder.audience(audience);
    }
    if let Some(scope) = &server.scope {
        builder = builder.scope(scope);
    }
    Ok(builder)
}

fn assertion_key(path: &Path) -> Result<AssertionKey, Failure> {
    let file = path.display();
    let text = secret::read_private_file("`auth-key`", path)?;
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::usage(format!(
            "`auth-key`: the key in {file} cannot be used: {error}"
        ))
    };
    let key = bowline_proof::pem::private_key(&text).map_err(|error| wrong(&error))?;
    AssertionKey::from_der(&key).map_err(|error| wrong(&error))
}
