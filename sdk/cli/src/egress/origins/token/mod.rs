//! Where the access token of a request to an origin comes from (GW-7).
//!
//! - [`setting`]: how it is configured;
//! - [`ambient`]: which callers may use a token that they need not have;
//! - [`exchange`]: whose token is exchanged for another;
//! - [`figures`]: what the source does, for the metrics.

mod ambient;
mod exchange;
mod figures;
mod setting;

use std::path::Path;
use std::sync::Arc;

use bowline::Client;
use bowline::token::{
    AssertionKey, AuthorizationServer, Authorized, Builder, ClientAuthentication, OAuth, Observer,
    TokenFile, TokenFileOptions, TokenSource,
};
use http::HeaderMap;

use self::exchange::Exchange;
use self::figures::Figures;
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
    /// `None`: there is no source.
    figures: Option<Arc<Figures>>,
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
        let figures = match setting {
            TokenSetting::Caller => None,
            TokenSetting::Exchange { .. } => Some(Figures::new(name, false)),
            TokenSetting::File { .. } | TokenSetting::Requested { .. } => {
                Some(Figures::new(name, true))
            }
        };
        let figures = figures.map(Arc::new);
        let kind = Kind::new(setting, &origin, client, figures.as_ref());
        let kind =
            kind.map_err(|failure| Failure::usage(format!("{origin}: {}", failure.line())))?;
        Ok(Self {
            kind,
            made_from,
            figures,
        })
    }

    /// Whether these are the same source, which a reload has kept.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (&self.figures, &other.figures) {
            (Some(own), Some(others)) => Arc::ptr_eq(own, others),
            (None, None) => true,
            _ => false,
        }
    }

    /// Its source is not in use any more.
    pub(super) fn retire(&self) {
        if let Some(figures) = &self.figures {
            figures.forget();
        }
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
    fn new(
        setting: &TokenSetting,
        origin: &str,
        client: &Client,
        figures: Option<&Arc<Figures>>,
    ) -> Result<Self, Failure> {
        let observer = figures.map(|figures| figures.clone() as Arc<dyn Observer>);
        let ambient = |source: Arc<dyn TokenSource>| {
            let authorized = Authorized::new(client.clone(), source, origin);
            authorized.map(Self::Ambient).map_err(Failure::usage)
        };
        match setting {
            TokenSetting::Caller => Ok(Self::Caller),
            TokenSetting::File { path, .. } => {
                let mut options = TokenFileOptions::default();
                options.observer = observer;
                ambient(Arc::new(TokenFile::with(path, options)))
            }
            TokenSetting::Requested { server, seed, .. } => {
                let mut builder = builder(server, origin, client)?;
                if let Some(seed) = seed {
                    builder = builder.refresh(seed);
                }
                if let Some(observer) = observer {
                    builder = builder.observer(observer);
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
                // The actor's own tokens are not given to requests, so they are not counted.
                let actor = match actor {
                    true => Some(builder.clone().build().map_err(Failure::usage)?),
                    false => None,
                };
                let builder = match observer {
                    Some(observer) => builder.observer(observer),
                    None => builder,
                };
                let exchange = Exchange::new(client.clone(), origin, builder, actor, receipt_key);
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
