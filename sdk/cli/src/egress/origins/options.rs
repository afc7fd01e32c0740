//! Which origins are allowed, and with which settings: options for all of them, and a table for each
//! that has settings of its own.

use std::path::PathBuf;

use bowline::server::Routes;
use clap::{Args, ValueEnum};

use super::callers::OnlyCallers;
use super::token::TokenSetting;
use crate::egress::names::HostPort;
use crate::table::{Fields, Table};
use crate::values::{Pattern, ProofScope, routes};

/// What both `bowline run` and `bowline egress` are told.
#[derive(Clone, Debug, Args)]
pub(crate) struct OriginOptions {
    /// An origin that gets the certificate and proofs, such as https://mcp.example.com (repeatable)
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) allow: Vec<String>,
    /// The client certificate with its chain, PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) cert: Option<PathBuf>,
    /// Its private key, PEM; others must not be able to read it
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// The authorities that the origins' certificates come from, PEM; without it, those that this
    /// machine trusts
    #[arg(long, value_name = "FILE")]
    pub(crate) cacert: Option<PathBuf>,
    /// What a session-binding proof covers
    #[arg(long, value_enum, default_value = "connection", value_name = "SCOPE")]
    pub(crate) proof_scope: ProofScope,
    /// Requests that get a proof for themselves alone, whatever the scope: '/admin/*', 'DELETE *'
    /// (repeatable; `!` takes out)
    #[arg(long, value_name = "PATTERN")]
    pub(crate) request_bound: Vec<Pattern>,
    /// The only requests that are passed on: 'GET *', '/mcp/*'. A path that could be read in another
    /// way, too, is not (repeatable; `!` takes out) [default: all]
    #[arg(long, value_name = "PATTERN")]
    pub(crate) requests: Vec<Pattern>,
    /// An allowed origin with settings of its own, of which the others are those of the options:
    /// { url = "https://api.example.com", proof-scope = "request" }. In the file an [[origin]] table;
    /// its keys are url, cert, key, cacert, proof-scope, request-bound, requests, callers and token
    /// (repeatable)
    #[arg(long, value_name = "TABLE")]
    pub(crate) origin: Vec<Table>,
    /// Where the access tokens for an allowed origin come from, so that the agent has none:
    /// [ORIGIN=]file:PATH, or [ORIGIN=]refresh:SEED with a refresh token (repeatable; without ORIGIN=
    /// where one origin is allowed). Others are in [[origin]] tables
    #[arg(long, value_name = "SOURCE")]
    pub(crate) token_source: Vec<String>,
}

/// An origin as it is to be.
pub(super) struct Setting {
    pub(super) name: HostPort,
    pub(super) credentials: Credentials,
    pub(super) proof_scope: ProofScope,
    pub(super) request_bound: Option<Routes>,
    /// `None`: all.
    pub(super) requests: Option<Routes>,
    /// `None`: all that may use the egress.
    pub(super) callers: Option<OnlyCallers>,
    pub(super) token: TokenSetting,
}

/// The files by which this end and the origins authenticate each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Credentials {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
    pub(super) cacert: Option<PathBuf>,
    /// For tokens that are bound to one.
    pub(super) dpop_key: Option<DpopKeyAt>,
}

/// Where a DPoP key is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum DpopKeyAt {
    File(PathBuf),
    /// In memory, for this origin alone.
    Memory(HostPort),
}

impl OriginOptions {
    /// All allowed origins.
    ///
    /// # Errors
    /// What cannot be used, with the option or the table.
    pub(super) fn settings(&self) -> Result<Vec<Setting>, String> {
        let mut settings: Vec<Setting> = Vec::new();
        for (at, table) in self.origin.iter().enumerate() {
            let read = self.read_table(table);
            let setting = read.map_err(|error| format!("[[origin]] number {}: {error}", at + 1))?;
            if settings.iter().any(|known| known.name == setting.name) {
                return Err(format!(
                    "[[origin]] https://{}: it is there twice",
                    setting.name
                ));
            }
            settings.push(setting);
        }
        for text in &self.allow {
            let name =
                HostPort::from_origin(text).map_err(|error| format!("--allow {text}: {error}"))?;
            if settings.iter().all(|known| known.name != name) {
                let request_bound = patterns("--request-bound", &self.request_bound)?;
                settings.push(Setting {
                    credentials: self.credentials(None, &name, None)?,
                    name,
                    proof_scope: self.proof_scope,
                    request_bound,
                    requests: patterns("--requests", &self.requests)?,
                    callers: None,
                    token: TokenSetting::default(),
                });
            }
        }
        for text in &self.token_source {
            give_source(&mut settings, text)
                .map_err(|error| format!("--token-source {text}: {error}"))?;
        }
        match settings.is_empty() {
            true => Err("no origin is allowed: name one with --allow".to_owned()),
            false => Ok(settings),
        }
    }

    fn read_table(&self, table: &Table) -> Result<Setting, String> {
        let fields = table.fields(&[
            "url",
            "cert",
            "key",
            "cacert",
            "proof-scope",
            "request-bound",
            "requests",
            "callers",
            "token",
        ])?;
        let url = fields.text("url")?;
        let url = url.ok_or("`url` is missing, such as \"https://api.example.com\"")?;
        let name = HostPort::from_origin(url).map_err(|error| format!("{url}: {error}"))?;
        self.read_fields(fields, name)
            .map_err(|error| format!("{url}: {error}"))
    }

    fn read_fields(&self, fields: Fields<'_>, name: HostPort) -> Result<Setting, String> {
        let proof_scope = match fields.text("proof-scope")? {
            None => self.proof_scope,
            Some(text) => ProofScope::from_str(text, false)
                .map_err(|_| "`proof-scope` is connection, request or adaptive")?,
        };
        let request_bound = read_patterns(fields, "request-bound", &self.request_bound)?;
        let requests = read_patterns(fields, "requests", &self.requests)?;
        let token = TokenSetting::read(fields, &name)?;
        let dpop_key = match token.server().and_then(|server| server.dpop.as_ref()) {
            None => None,
            Some(Some(path)) => Some(DpopKeyAt::File(path.clone())),
            Some(None) => Some(DpopKeyAt::Memory(name.clone())),
        };
        Ok(Setting {
            credentials: self.credentials(Some(fields), &name, dpop_key)?,
            name,
            proof_scope,
            request_bound: patterns("request-bound", &request_bound)?,
            requests: patterns("requests", &requests)?,
            callers: OnlyCallers::read(fields)?,
            token,
        })
    }

    /// A table's own, or those of the options. A certificate goes with its key.
    fn credentials(
        &self,
        own: Option<Fields<'_>>,
        name: &HostPort,
        dpop_key: Option<DpopKeyAt>,
    ) -> Result<Credentials, String> {
        let own = |key| match own {
            None => Ok(None),
            Some(fields) => fields.text(key).map(|path| path.map(PathBuf::from)),
        };
        let (cert, key) = match (own("cert")?, own("key")?) {
            (None, None) => (self.cert.clone(), self.key.clone()),
            (Some(cert), Some(key)) => (Some(cert), Some(key)),
            _ => return Err("`cert` and `key` go together: give both, or neither".to_owned()),
        };
        let missing = |option: &str| {
            format!("{option} is missing: https://{name} needs a client certificate and its key")
        };
        Ok(Credentials {
            cert: cert.ok_or_else(|| missing("--cert"))?,
            key: key.ok_or_else(|| missing("--key"))?,
            cacert: own("cacert")?.or_else(|| self.cacert.clone()),
            dpop_key,
        })
    }
}

/// `--token-source`, of the origin that it names, or else of the only one.
fn give_source(settings: &mut [Setting], text: &str) -> Result<(), String> {
    let (origin, source) = TokenSetting::parse(text)?;
    let setting = match (origin, &mut *settings) {
        (None, [one]) => one,
        (None, _) => return Err("several origins are allowed: write ORIGIN= before it".to_owned()),
        (Some(name), all) => all
            .iter_mut()
            .find(|setting| setting.name == name)
            .ok_or_else(|| format!("https://{name} is not allowed: --allow https://{name}"))?,
    };
    if setting.token != TokenSetting::Caller {
        return Err("the origin has a token source already".to_owned());
    }
    setting.token = source.setting(&setting.name)?;
    Ok(())
}

/// A table's own, or those of the option.
fn read_patterns(
    fields: Fields<'_>,
    key: &str,
    option: &[Pattern],
) -> Result<Vec<Pattern>, String> {
    match fields.texts(key)? {
        None => Ok(option.to_vec()),
        Some(texts) => texts
            .into_iter()
            .map(str::parse)
            .collect::<Result<_, String>>()
            .map_err(|error| format!("`{key}`: {error}")),
    }
}

fn patterns(option: &str, patterns: &[Pattern]) -> Result<Option<Routes>, String> {
    match patterns {
        [] => Ok(None),
        patterns => routes(option, patterns).map(Some),
    }
}
