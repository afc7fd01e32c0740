//! The allowed origins: of each, what a request to it needs.
//!
//! - [`options`]: what the command line and the configuration file say;
//! - [`clients`]: the connections outwards, shared by origins with the same certificate;
//! - [`token`]: where the access token of a request comes from.

mod clients;
mod options;
mod token;

use std::path::PathBuf;
use std::sync::Arc;

use bowline::server::Routes;
use bowline::{Body, Client, Error, RequestBoundProof};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use serde_json::{Value, json};

use self::clients::Clients;
pub(crate) use self::options::OriginOptions;
use self::token::TokenSource;
use super::body::RequestBody;
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
    /// Requests whose proof is for them alone.
    request_bound: Option<Routes>,
    /// The only requests that are passed on.
    requests: Option<Routes>,
    token: TokenSource,
}

impl Origins {
    /// Reads everything that the options name, to be [put into use](Self::put_into_use). What did not
    /// change since `former` stays in use: its connections, and their proofs.
    ///
    /// # Errors
    /// Something cannot be used: then nothing has changed.
    pub(crate) fn new(
        options: &OriginOptions,
        counts: &Arc<Counts>,
        former: Option<&Self>,
    ) -> Result<Self, Failure> {
        make_undumpable()?;
        let settings = options.settings().map_err(Failure::usage)?;
        let clients = Clients::new(&settings, counts, former.map(|former| &former.clients))?;
        let all = settings.into_iter().map(|setting| Origin {
            client: clients.of(&setting).clone(),
            name: setting.name,
            request_bound: setting.request_bound,
            requests: setting.requests,
            token: setting.token,
        });
        let all: Vec<Origin> = all.collect();
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

    /// The names alone.
    pub(crate) fn allowed(&self) -> &Allowed {
        &self.allowed
    }

    /// The files of private keys.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.clients.keys()
    }

    /// # Errors
    /// 403: it is not allowed, or not any more.
    pub(crate) fn named(&self, name: &HostPort) -> Result<&Origin, Refused> {
        let found = self.all.iter().find(|origin| origin.name == *name);
        found.ok_or_else(|| {
            Refused::new(
                StatusCode::FORBIDDEN,
                "not_allowed",
                "this origin is not allowed: --allow names those that are",
            )
        })
    }
}

impl Origin {
    pub(crate) fn name(&self) -> &HostPort {
        &self.name
    }

    /// # Errors
    /// 403: configuration does not let this request pass, or not in every way that its path can be
    /// read (GW-7).
    pub(crate) fn check(&self, request: &Parts) -> Result<(), Refused> {
        match &self.requests {
            Some(requests) if !requests.surely_contain(request) => Err(Refused::new(
                StatusCode::FORBIDDEN,
                "requests",
                format!(
                    "{}: this request is not among those that may pass (--requests)",
                    self.name
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Sends a request, whose URI names this origin and whose fields were checked.
    pub(crate) async fn send(
        &self,
        mut parts: Parts,
        body: RequestBody,
    ) -> Result<Response<Body>, Error> {
        match self.token {
            // It is in the request, or there is none: discovery needs that (GW-7).
            TokenSource::Caller => {}
        }
        if let Some(routes) = &self.request_bound
            && routes.contain(&parts)
        {
            parts.extensions.insert(RequestBoundProof);
        }
        self.client.send(Request::from_parts(parts, body)).await
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
        for file in all.into_iter().flatten() {
            if !files.contains(file) {
                files.push(file.clone());
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
        })
    });
    origins.collect()
}

/// No other process of this user may read keys from this one's memory.
fn make_undumpable() -> Result<(), Failure> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|error| {
        Failure::failed(format!("this process cannot be made non-dumpable: {error}"))
    })
}
