//! `token = { source = "…", … }` in an `[[origin]]` table, and `--token-source`.

use std::path::{Path, PathBuf};

use bowline::token::RequiredBinding;

use crate::egress::names::HostPort;
use crate::secret::SecretAt;
use crate::table::Fields;

/// Where the access tokens for an origin come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::egress::origins) enum TokenSetting {
    /// The request brings one, or none.
    #[default]
    Caller,
    /// A file that another program replaces.
    File { path: PathBuf, ambient: Ambient },
    /// An authorization server, for this client itself.
    Requested {
        server: Server,
        /// The refresh token's file; without it the client's own credentials are the grant.
        seed: Option<PathBuf>,
        ambient: Ambient,
    },
    /// An authorization server, for the token that the request brings.
    Exchange {
        server: Server,
        /// Whether the client itself is named as the actor, by a token of its own.
        actor: bool,
        /// The key of the ingress beside this egress; `None`: nobody has verified the token.
        receipt_key: Option<SecretAt>,
    },
}

/// What is asked of a caller whose request gets a token that it need not have (GW-7).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::egress::origins) struct Ambient {
    /// What callers that must send something send as their bearer token.
    pub(super) placeholder: Option<String>,
    /// The allowed origins that may redirect here.
    pub(super) redirects_from: Vec<HostPort>,
}

/// An authorization server, and this client there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::egress::origins) struct Server {
    pub(super) at: ServerAt,
    pub(super) client_id: String,
    pub(super) authentication: Authentication,
    /// The `aud` of assertions, if it is not the issuer (CL-10).
    pub(super) assertion_audience: Option<String>,
    /// What the tokens are for (RFC 8707).
    pub(super) resource: Option<String>,
    pub(super) audience: Option<String>,
    pub(super) scope: Option<String>,
    pub(super) bound: RequiredBinding,
    /// With DPoP: the file of its key. One of this process's own, if it is empty.
    pub(in crate::egress::origins) dpop: Option<Option<PathBuf>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ServerAt {
    Issuer(String),
    TokenEndpoint(String),
    /// One of these, which the origin's metadata names (RFC 9728, CL-10).
    Listed(Vec<String>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Authentication {
    Tls,
    SelfSignedTls,
    /// With the key in this file, or else with the certificate's.
    PrivateKeyJwt(Option<PathBuf>),
}

const AMBIENT: [&str; 2] = ["placeholder", "redirects-from"];
const SERVER: [&str; 11] = [
    "issuer",
    "token-endpoint",
    "issuers",
    "client-id",
    "auth",
    "auth-key",
    "assertion-audience",
    "resource",
    "audience",
    "scope",
    "bound",
];

/// The sources, and the keys that each has.
const SOURCES: [(&str, &[&[&str]]); 6] = [
    ("caller", &[]),
    ("file", &[&AMBIENT, &["path"]]),
    ("oauth", &[&AMBIENT, &SERVER]),
    ("refresh", &[&AMBIENT, &SERVER, &["seed"]]),
    ("dpop", &[&AMBIENT, &SERVER, &["dpop-key", "seed"]]),
    (
        "exchange",
        &[&SERVER, &["actor", "receipt-key", "exchange-unverified"]],
    ),
];

impl TokenSetting {
    /// Reads the table `token` of an origin's table.
    ///
    /// # Errors
    /// No source of that name, a key that it does not have, one that is missing.
    pub(in crate::egress::origins) fn read(
        origin: Fields<'_>,
        name: &HostPort,
    ) -> Result<Self, String> {
        let all: Vec<&str> = SOURCES.iter().flat_map(|(_, keys)| keys_of(keys)).collect();
        let Some(fields) = origin.table("token", &all)? else {
            return Ok(Self::Caller);
        };
        let names = SOURCES.map(|(name, _)| name).join(", ");
        let source = fields
            .text("source")?
            .ok_or_else(|| format!("`token`: `source` is missing: one of {names}"))?;
        let (source, keys) = SOURCES
            .iter()
            .find(|(name, _)| *name == source)
            .ok_or_else(|| format!("`token`: `source` is one of {names}"))?;
        let read = origin
            .table("token", &keys_of(keys))
            .and_then(|fields| Self::of(source, fields.expect("it was there"), name));
        read.map_err(|error| format!("`token`, {source}: {error}"))
    }

    fn of(source: &str, fields: Fields<'_>, name: &HostPort) -> Result<Self, String> {
        let path = |key: &str| fields.text(key).map(|path| path.map(PathBuf::from));
        let needed =
            |key: &str, what: &str| path(key)?.ok_or_else(|| format!("`{key}` is missing: {what}"));
        match source {
            "caller" => Ok(Self::Caller),
            "file" => Ok(Self::File {
                path: needed("path", "the file that holds the access token")?,
                ambient: Ambient::read(fields)?,
            }),
            "oauth" | "refresh" | "dpop" => {
                let mut server = Server::read(fields, name)?;
                if source == "dpop" {
                    server.dpop = Some(path("dpop-key")?);
                    server.bound = RequiredBinding::Dpop;
                }
                Ok(Self::Requested {
                    server,
                    seed: match source {
                        "refresh" => Some(needed("seed", "the file that holds the refresh token")?),
                        "dpop" => path("seed")?,
                        _ => None,
                    },
                    ambient: Ambient::read(fields)?,
                })
            }
            _ => {
                let receipt_key = match (fields.text("receipt-key")?, unverified(fields)?) {
                    (Some(at), false) => Some(
                        at.parse()
                            .map_err(|error| format!("`receipt-key`: {error}"))?,
                    ),
                    (None, true) => None,
                    (Some(_), true) => {
                        return Err("`receipt-key` and `exchange-unverified` contradict".to_owned());
                    }
                    (None, false) => {
                        return Err(
                            "`receipt-key` is missing: the one of the ingress beside this egress, \
                             which verifies the tokens that are exchanged (AS-3)"
                                .to_owned(),
                        );
                    }
                };
                Ok(Self::Exchange {
                    server: Server::read(fields, name)?,
                    actor: fields.flag("actor")?.unwrap_or(false),
                    receipt_key,
                })
            }
        }
    }

    /// `[ORIGIN=]file:PATH` or `[ORIGIN=]refresh:SEED`; without an origin it is for the only one.
    ///
    /// # Errors
    /// Another form; a seed that does not say whose it is.
    pub(in crate::egress::origins) fn parse(
        text: &str,
    ) -> Result<(Option<HostPort>, SimpleSource), String> {
        let form = "write ORIGIN=file:PATH or ORIGIN=refresh:SEED";
        let (origin, source) = match text.strip_prefix("https://") {
            None => (None, text),
            Some(rest) => {
                let (_, source) = rest.split_once('=').ok_or(form)?;
                let origin = &text[..text.len() - source.len() - 1];
                (Some(HostPort::from_origin(origin)?), source)
            }
        };
        let source = match source.split_once(':') {
            Some((_, "")) | None => return Err(form.to_owned()),
            Some(("file", path)) => SimpleSource::File(path.into()),
            Some(("refresh", path)) => SimpleSource::Refresh(path.into()),
            Some(_) => return Err(form.to_owned()),
        };
        Ok((origin, source))
    }

    /// As `source` has it.
    pub(in crate::egress::origins) fn name(&self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::File { .. } => "file",
            Self::Requested { server, .. } if server.dpop.is_some() => "dpop",
            Self::Requested { seed: Some(_), .. } => "refresh",
            Self::Requested { seed: None, .. } => "oauth",
            Self::Exchange { .. } => "exchange",
        }
    }

    /// What makes a request's token the egress's own, and not the caller's.
    pub(super) fn ambient(&self) -> Option<&Ambient> {
        match self {
            Self::File { ambient, .. } | Self::Requested { ambient, .. } => Some(ambient),
            Self::Caller | Self::Exchange { .. } => None,
        }
    }

    pub(in crate::egress::origins) fn server(&self) -> Option<&Server> {
        match self {
            Self::Requested { server, .. } | Self::Exchange { server, .. } => Some(server),
            Self::Caller | Self::File { .. } => None,
        }
    }

    /// The files that hold a token or a key.
    pub(super) fn secrets(&self) -> Vec<&Path> {
        let mut secrets = self.files();
        match self {
            Self::File { path: file, .. }
            | Self::Requested {
                seed: Some(file), ..
            } => {
                secrets.push(file);
            }
            Self::Requested { seed: None, .. } | Self::Exchange { .. } | Self::Caller => {}
        }
        secrets
    }

    /// The files that are read once, when the source is made: keys.
    pub(in crate::egress::origins) fn files(&self) -> Vec<&Path> {
        let mut files = Vec::new();
        if let Some(server) = self.server() {
            if let Authentication::PrivateKeyJwt(Some(path)) = &server.authentication {
                files.push(path.as_path());
            }
            files.extend(server.dpop.iter().flatten().map(PathBuf::as_path));
        }
        if let Self::Exchange {
            receipt_key: Some(at),
            ..
        } = self
        {
            files.extend(at.file());
        }
        files
    }
}

/// What `--token-source` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::egress::origins) enum SimpleSource {
    File(PathBuf),
    Refresh(PathBuf),
}

impl SimpleSource {
    /// The setting for this origin. A seed says itself which client and which server it is of.
    ///
    /// # Errors
    /// The seed cannot be read.
    pub(in crate::egress::origins) fn setting(
        self,
        name: &HostPort,
    ) -> Result<TokenSetting, String> {
        let ambient = Ambient::default();
        match self {
            Self::File(path) => Ok(TokenSetting::File { path, ambient }),
            Self::Refresh(seed) => {
                let owner =
                    bowline::token::SeedOwner::read(&seed).map_err(|error| error.to_string())?;
                let server = Server {
                    at: ServerAt::Issuer(owner.issuer),
                    client_id: owner.client_id,
                    authentication: Authentication::Tls,
                    assertion_audience: None,
                    resource: Some(format!("https://{name}")),
                    audience: None,
                    scope: None,
                    bound: RequiredBinding::AsIssued,
                    dpop: None,
                };
                Ok(TokenSetting::Requested {
                    server,
                    seed: Some(seed),
                    ambient,
                })
            }
        }
    }
}

impl Ambient {
    fn read(fields: Fields<'_>) -> Result<Self, String> {
        let origins = fields.texts("redirects-from")?.unwrap_or_default();
        let origins = origins.into_iter().map(HostPort::from_origin);
        Ok(Self {
            placeholder: fields.text("placeholder")?.map(str::to_owned),
            redirects_from: origins
                .collect::<Result<_, _>>()
                .map_err(|error| format!("`redirects-from`: {error}"))?,
        })
    }
}

impl Server {
    fn read(fields: Fields<'_>, name: &HostPort) -> Result<Self, String> {
        let text = |key: &str| fields.text(key).map(|text| text.map(str::to_owned));
        let at = match (
            text("issuer")?,
            text("token-endpoint")?,
            fields.texts("issuers")?,
        ) {
            (Some(issuer), None, None) => ServerAt::Issuer(issuer),
            (None, Some(url), None) => ServerAt::TokenEndpoint(url),
            (None, None, Some(issuers)) if !issuers.is_empty() => {
                ServerAt::Listed(issuers.into_iter().map(str::to_owned).collect())
            }
            _ => {
                return Err(
                    "which authorization server? Give one of `issuer`, `token-endpoint`, and \
                     `issuers`, the list from which the origin's own metadata may choose"
                        .to_owned(),
                );
            }
        };
        let key = text("auth-key")?.map(PathBuf::from);
        let authentication = match (fields.text("auth")?, key) {
            (None | Some("tls"), None) => Authentication::Tls,
            (Some("self-signed-tls"), None) => Authentication::SelfSignedTls,
            (Some("private-key-jwt"), key) => Authentication::PrivateKeyJwt(key),
            (None | Some("tls" | "self-signed-tls"), Some(_)) => {
                return Err("`auth-key` is for auth = \"private-key-jwt\"".to_owned());
            }
            (Some(_), _) => {
                return Err(
                    "`auth` is tls, self-signed-tls or private-key-jwt; there is none with a client \
                     secret"
                        .to_owned(),
                );
            }
        };
        let resource = match text("resource")? {
            None => Some(format!("https://{name}")),
            Some(resource) => Some(resource).filter(|resource| !resource.is_empty()),
        };
        let bound = match fields.text("bound")? {
            None => RequiredBinding::AsIssued,
            Some("certificate") => RequiredBinding::Certificate,
            Some("session") => RequiredBinding::Session,
            Some(_) => return Err("`bound` is certificate or session".to_owned()),
        };
        Ok(Self {
            at,
            client_id: text("client-id")?.ok_or("`client-id` is missing")?,
            authentication,
            assertion_audience: text("assertion-audience")?,
            resource,
            audience: text("audience")?,
            scope: text("scope")?,
            bound,
            dpop: None,
        })
    }
}

fn unverified(fields: Fields<'_>) -> Result<bool, String> {
    Ok(fields.flag("exchange-unverified")?.unwrap_or(false))
}

fn keys_of(keys: &[&[&'static str]]) -> Vec<&'static str> {
    let mut all = vec!["source"];
    all.extend(keys.iter().flat_map(|some| some.iter().copied()));
    all
}

#[cfg(test)]
mod tests;
