//! Protected resource metadata (RFC 9728) from a file.

use std::path::Path;

use bowline::server::ResourceMetadata;
use serde_json::{Map, Value};

use crate::failure::Failure;

/// The document's members, checked where this ingress knows what they must be.
pub(crate) fn read(path: &Path) -> Result<ResourceMetadata, Failure> {
    let file = path.display();
    let wrong = |what: String| Failure::usage(format!("--resource-metadata: {file}: {what}"));
    let text = std::fs::read(path).map_err(|error| wrong(format!("it cannot be read: {error}")))?;
    let members: Map<String, Value> = serde_json::from_slice(&text)
        .map_err(|error| wrong(format!("it is not a JSON object: {error}")))?;
    let resource = members
        .get("resource")
        .and_then(Value::as_str)
        .ok_or_else(|| wrong("it has no `resource` (RFC 9728 section 2)".to_owned()))?;
    let mut metadata =
        ResourceMetadata::new(resource).map_err(|error| wrong(format!("`resource`: {error}")))?;
    for (name, value) in &members {
        let is = |kind: &str| wrong(format!("`{name}` is not {kind}"));
        metadata = match name.as_str() {
            "resource" => metadata,
            "authorization_servers" => {
                metadata.authorization_servers(strings(value).ok_or_else(|| is("a list of texts"))?)
            }
            "scopes_supported" => {
                metadata.scopes(strings(value).ok_or_else(|| is("a list of texts"))?)
            }
            "tls_client_certificate_bound_access_tokens" => metadata
                .certificate_bound_tokens(value.as_bool().ok_or_else(|| is("true or false"))?),
            "dpop_bound_access_tokens_required" => {
                metadata.dpop(value.as_bool().ok_or_else(|| is("true or false"))?)
            }
            "dpop_signing_alg_values_supported" => {
                return Err(wrong(
                    "`dpop_signing_alg_values_supported` is written here; give \
                     `dpop_bound_access_tokens_required` only"
                        .to_owned(),
                ));
            }
            "bearer_methods_supported" if strings(value).is_some_and(|all| all == ["header"]) => {
                metadata
            }
            "bearer_methods_supported" => {
                return Err(wrong(
                    "`bearer_methods_supported` can only be [\"header\"]: tokens are accepted \
                     nowhere else (TK-0)"
                        .to_owned(),
                ));
            }
            other => metadata.with(other, value.clone()),
        };
    }
    Ok(metadata)
}

fn strings(value: &Value) -> Option<Vec<String>> {
    let items = value.as_array()?.iter();
    items.map(|item| item.as_str().map(str::to_owned)).collect()
}
