//! The allowed origins: of each, what a request to it needs.
//!
//! - [`options`]: what the command line and the configuration file say;
//! - [`callers`]: whose requests go there;
//! - [`clients`]: the connections outwards, shared by origins with the same certificate;
//! - [`token`]: where the access token of a request comes from;
//! - [`redirects`]: where an origin may not lead an agent.

mod callers;
mod clients;
mod options;
mod redirects;
mod token;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use bowline::server::{Routes, overrides_method};
use bowline::token::Authorized;
use bowline::{Body, Client, RequestBoundProof};
use http::header::LOCATION;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body::Body as HttpBody;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

use self::callers::OnlyCallers;
use self::clients::Clients;
pub(crate) use self::options::OriginOptions;
use self::token::Tokens;
use super::body::RequestBody;
use super::callers::{Callers, Peer};
use super::counts::Counts;
use super::names::{Allowed, HostPort};
use super::refused::Refused;
use crate::failure::Failure;

/// The allowed origins.
pub(crate) struct Origins {
    allowed: Allowed,
    all: Vec<Origin>,
    clients: Clients,
}

/// One of them.
pub(crate) struct Origin {
    name: HostPort,
    client: Client,
    /// `None`: all that may use the egress.
    callers: Option<OnlyCallers>,
    /// Requests whose proof is for them alone.
    request_bound: Option<Routes>,
    /// The only requests that are passed on.
    requests: Option<Routes>,
    tokens: Tokens,
}

/// A request that may be sent, and what gives its token.
pub(crate) struct Admitted(Option<Authorized>);

/// A request was not answered.
pub(crate) enum SendError {
    /// The agent did not send all of its body.
    Body(hyper::Error),
    /// There is no token for it.
    Token(bowline::token::Error),
    /// The origin did not answer it.
    Origin(bowline::Error),
}

/// A longer body is not kept for a second attempt with another token.
const MAX_KEPT_BODY: u64 = 64 * 1024;

impl Origins {
    /// Reads everything that the options name, to be [put into use](Self::put_into_use). What did not
    /// change since `former` stays in use: its connections, and their proofs. `callers` are all that
    /// may use the egress.
    ///
    /// # Errors
    /// Something cannot be used: then nothing has changed.
    pub(crate) fn new(
        options: &OriginOptions,
        callers: &Callers,
        counts: &Arc<Counts>,
        former: Option<&Self>,
    ) -> Result<Self, Failure> {
        make_undumpable()?;
        let settings = options.settings().map_err(Failure::usage)?;
        for setting in &settings {
            let mut only = setting.callers.iter();
            let checked = only.try_for_each(|only| only.check_admitted(callers));
            checked
                .map_err(|error| Failure::usage(format!("https://{}: {error}", setting.name)))?;
        }
        let clients = Clients::new(&settings, counts, former.map(|former| &former.clients))?;
        let mut all = Vec::new();
        for setting in settings {
            let client = clients.of(&setting).clone();
            let former = former.filter(|_| clients.is_kept(&setting));
            let former = former.and_then(|former| former.find(&setting.name));
            let former = former.map(|former| &former.tokens);
            all.push(Origin {
                tokens: Tokens::new(&setting.token, &setting.name, &client, former)?,
                client,
                name: setting.name,
                callers: setting.callers,
                request_bound: setting.request_bound,
                requests: setting.requests,
            });
        }
        let allowed = all.iter().map(|origin| origin.name.clone()).collect();
        Ok(Self {
            allowed,
            all,
            clients,
        })
    }

    /// From now on connections are opened with the new certificates.
    ///
    /// # Errors
    /// None that [`new`](Self::new) has not found.
    pub(crate) fn put_into_use(&self) -> Result<(), Failure> {
        self.clients.put_into_use()
    }

    /// The token sources of these that `next` does not have are not in use any more: says it before
    /// the new ones count.
    pub(crate) fn retire_for(&self, next: &Self) {
        for origin in &self.all {
            let same = next.find(&origin.name);
            if !same.is_some_and(|same| same.tokens.is_same(&origin.tokens)) {
                origin.tokens.retire();
            }
        }
    }

    /// The names alone.
    pub(crate) fn allowed(&self) -> &Allowed {
        &self.allowed
    }

    /// The files of private keys, tokens and other secrets.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let mut secrets = self.clients.keys();
        for origin in &self.all {
            for file in origin.tokens.secrets() {
                let file = file.display().to_string();
                if !secrets.contains(&file) {
                    secrets.push(file);
                }
            }
        }
        secrets
    }

    /// Those that are for certain users alone.
    pub(crate) fn for_users(&self) -> impl Iterator<Item = &HostPort> {
        let origins = self.all.iter();
        let origins = origins.filter(|origin| origin.callers.is_some());
        origins.map(|origin| &origin.name)
    }

    /// Whether the agents get tokens that they do not have.
    pub(crate) fn have_tokens(&self) -> bool {
        self.all.iter().any(|origin| origin.tokens.are_ambient())
    }

    /// # Errors
    /// 403: it is not allowed, or not any more.
    pub(crate) fn named(&self, name: &HostPort) -> Result<&Origin, Refused> {
        self.find(name).ok_or_else(|| {
            Refused::new(
                StatusCode::FORBIDDEN,
                "not_allowed",
                "this origin is not allowed: --allow names those that are",
            )
        })
    }

    /// An answer of `from` must not lead an agent to another origin whose token it would use there
    /// (GW-7).
    ///
    /// # Errors
    /// 502.
    pub(crate) fn check_redirect(
        &self,
        from: &Origin,
        answer: &Response<Body>,
    ) -> Result<(), Refused> {
        if !answer.status().is_redirection() {
            return Ok(());
        }
        for location in answer.headers().get_all(LOCATION) {
            let targets = redirects::readings(&from.name, location);
            let others = targets.iter().filter(|target| **target != from.name);
            let mut found = others.filter_map(|target| self.find(target));
            if let Some(to) = found.find(|to| !to.tokens.takes_redirects_of(&from.name)) {
                return Err(Refused::new(
                    StatusCode::BAD_GATEWAY,
                    "redirect",
                    format!(
                        "https://{} redirects to https://{}, whose token it does not have: if it \
                         may, `redirects-from` in the token's table says so",
                        from.name, to.name
                    ),
                ));
            }
        }
        Ok(())
    }

    fn find(&self, name: &HostPort) -> Option<&Origin> {
        self.all.iter().find(|origin| origin.name == *name)
    }
}

impl Origin {
    pub(crate) fn name(&self) -> &HostPort {
        &self.name
    }

    /// Whether the token of a request is exchanged for another.
    pub(crate) fn exchanges(&self) -> bool {
        self.tokens.exchanges()
    }

    /// Whether a request of `peer` may be sent here, by its fields as they came: a `Connection` option
    /// could take out what is to be checked. Takes out what is for this egress alone.
    ///
    /// # Errors
    /// 401 or 403.
    pub(crate) fn admit(&self, parts: &mut Parts, peer: Peer) -> Result<Admitted, Refused> {
        if let Some(callers) = &self.callers {
            callers.check(&self.name, peer)?;
        }
        let authorized = self.tokens.admit(&self.name, &mut parts.headers)?;
        Ok(Admitted(authorized))
    }

    /// # Errors
    /// 403: configuration does not let this request pass, or not in every way that its path can be
    /// read (GW-7).
    pub(crate) fn check(&self, request: &Parts) -> Result<(), Refused> {
        let Some(requests) = &self.requests else {
            return Ok(());
        };
        let refused = |why: &str| {
            let text = format!("{}: {why} (--requests)", self.name);
            Err(Refused::new(StatusCode::FORBIDDEN, "requests", text))
        };
        if !requests.surely_contain(request) {
            return refused("this request is not among those that may pass");
        }
        if overrides_method(&request.headers) {
            return refused("a field of this request names another method, and not all may pass");
        }
        Ok(())
    }

    /// Sends a request, whose URI names this origin and whose fields were checked.
    pub(crate) async fn send(
        &self,
        Admitted(authorized): Admitted,
        mut parts: Parts,
        body: RequestBody,
    ) -> Result<Response<Body>, SendError> {
        if let Some(routes) = &self.request_bound
            && routes.contain(&parts)
        {
            parts.extensions.insert(RequestBoundProof);
        }
        let Some(authorized) = authorized else {
            // The token is in the request, or there is none: discovery needs that (GW-7).
            let sent = self.client.send(Request::from_parts(parts, body)).await;
            return sent.map_err(SendError::Origin);
        };
        let size = HttpBody::size_hint(&body).exact();
        let sent = match size.filter(|bytes| *bytes <= MAX_KEPT_BODY) {
            Some(_) => {
                let body = body.collect().await.map_err(SendError::Body)?;
                match body.trailers() {
                    Some(_) => authorized.send_once(Request::from_parts(parts, body)).await,
                    None => {
                        let body = Full::new(body.to_bytes());
                        authorized.send(Request::from_parts(parts, body)).await
                    }
                }
            }
            None => authorized.send_once(Request::from_parts(parts, body)).await,
        };
        sent.map_err(SendError::Token)
    }
}

/// The files that these options name.
pub(crate) fn files(options: &OriginOptions) -> Vec<PathBuf> {
    // What cannot be read is reported where it is used.
    let settings = options.settings().unwrap_or_default();
    let mut files: Vec<PathBuf> = Vec::new();
    for setting in &settings {
        let of = &setting.credentials;
        let all = [Some(&of.cert), Some(&of.key), of.cacert.as_ref()];
        let all = all.into_iter().flatten().map(PathBuf::as_path);
        for file in all.chain(setting.token.files()) {
            if !files.iter().any(|known| known == file) {
                files.push(file.to_owned());
            }
        }
    }
    files
}

/// The origins that these options allow, for `/stats`.
pub(crate) fn describe(options: &OriginOptions) -> Value {
    let settings = options.settings().unwrap_or_default();
    let origins = settings.iter().map(|setting| {
        json!({
            "url": format!("https://{}", setting.name),
            "proof_scope": setting.proof_scope.name(),
            "request_bound": setting.request_bound.is_some(),
            "requests": setting.requests.is_some(),
            "token": setting.token.name(),
            "callers": setting.callers.as_ref().map(OnlyCallers::names),
        })
    });
    origins.collect()
}

/// The hash of what a file holds.
fn hash(path: &Path) -> Option<[u8; 32]> {
    let content = std::fs::read(path).ok()?;
    digest(&SHA256, &content).as_ref().try_into().ok()
}

/// No other process of this user may read keys from this one's memory.
fn make_undumpable() -> Result<(), Failure> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|error| {
        Failure::failed(format!("this process cannot be made non-dumpable: {error}"))
    })
}
