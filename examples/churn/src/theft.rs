//! The thief: has what a log leaked, the last request's target, token and proof, and tries them elsewhere.

use axum::http::request::Parts;
use bowline_proof::PROOF_HEADER;
use bowline_proof::dpop::DPOP_HEADER;
use bowline_testkit::pki::Leaf;
use http::{HeaderMap, HeaderName, Method, header};
use serde::Serialize;

use crate::Result;
use crate::contender::reqwest_builder;
use crate::upstream::Upstream;
use crate::world::World;

/// What a careless log holds of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Loot {
    method: Method,
    path: String,
    fields: HeaderMap,
}

const FIELDS: [HeaderName; 10] = [
    header::AUTHORIZATION,
    header::ACCEPT,
    header::CONTENT_TYPE,
    header::TE,
    PROOF_HEADER,
    DPOP_HEADER,
    HeaderName::from_static("a2a-version"),
    HeaderName::from_static("mcp-session-id"),
    HeaderName::from_static("mcp-protocol-version"),
    HeaderName::from_static("mcp-method"),
];

impl Loot {
    pub(crate) fn of(request: &Parts) -> Self {
        let fields = FIELDS
            .into_iter()
            .filter_map(|name| request.headers.get(&name).cloned().map(|value| (name, value)));
        Self {
            method: request.method.clone(),
            path: request.uri.path().to_owned(),
            fields: fields.collect(),
        }
    }
}

/// What became of an attack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Attack {
    /// The server did as the thief asked.
    Accepted,
    /// The server refused, by this check.
    Refused(String),
}

impl Attack {
    pub(crate) fn got_through(&self) -> bool {
        *self == Self::Accepted
    }
}

/// Presents stolen credentials on a new connection that `who`'s certificate authenticates, and makes a call with them.
///
/// With the victim's own certificate this is the harder attack: a process that can open connections as the victim
/// (RFC 8705 is satisfied), but cannot have a proof signed.
pub(crate) async fn replay(world: &World, upstream: &Upstream, who: &Leaf, stolen: &Loot) -> Result<Attack> {
    let url = format!("{}{}", upstream.origin(), stolen.path);
    let response = reqwest_builder(world, who)?
        .build()?
        .request(stolen.method.clone(), url)
        .headers(stolen.fields.clone())
        .body(upstream.call_by_hand())
        .send()
        .await?;
    if response.status().is_success() {
        return Ok(Attack::Accepted);
    }
    let challenges = bowline_proof::challenges(response.headers());
    let description = challenges
        .iter()
        .find_map(|challenge| challenge.param("error_description"));
    match description.and_then(|text| text.split_once(':')) {
        Some((check, _)) => Ok(Attack::Refused(check.to_owned())),
        None => Err(format!(
            "the server answered {} to the thief without naming a check",
            response.status()
        )
        .into()),
    }
}
