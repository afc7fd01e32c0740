//! The thief: has what a log leaked, the last request's token and proof, and tries them elsewhere.

use bowline_testkit::pki::Leaf;
use http::HeaderMap;
use serde::Serialize;

use crate::Result;
use crate::contender::reqwest_builder;
use crate::world::World;

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

/// Presents stolen credentials on a new connection that `who`'s certificate authenticates, and calls the tool.
///
/// With the victim's own certificate this is the harder attack: a process that can open connections as the victim
/// (RFC 8705 is satisfied), but cannot have a proof signed.
pub(crate) async fn replay(world: &World, url: &str, who: &Leaf, stolen: HeaderMap) -> Result<Attack> {
    let call = serde_json::json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": { "name": "echo", "arguments": { "text": "stolen" } },
    });
    let response = reqwest_builder(world, who)?
        .build()?
        .post(url)
        .headers(stolen)
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", "2025-06-18")
        .json(&call)
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
