//! The JSON-RPC 2.0 envelope of requests and responses.

use a2a::A2AError;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::agent_error::ErrorObject;
use crate::decode::{Decode, DecodeError, parse_json};

const VERSION: &str = "2.0";

/// Writes a request.
pub(super) fn request(id: &str, method: &str, params: Value) -> Bytes {
    #[derive(Serialize)]
    struct Request<'a> {
        jsonrpc: &'a str,
        id: &'a str,
        method: &'a str,
        params: Value,
    }
    let request = Request {
        jsonrpc: VERSION,
        id,
        method,
        params,
    };
    // Strings and a JSON value can always be written.
    serde_json::to_vec(&request).unwrap_or_default().into()
}

/// Reads the response to the request with this id.
///
/// # Errors
/// The error that it holds, or why it is no such response.
pub(super) fn response<T: Decode>(id: &str, bytes: &[u8]) -> Result<T, DecodeError> {
    let response: Response = parse_json(bytes)?;
    let not_a2a = |why: &str| Err(DecodeError::NotA2a(why.to_owned()));
    if response.jsonrpc.as_deref() != Some(VERSION) {
        return not_a2a("it is not JSON-RPC 2.0");
    }
    match &response.id {
        Some(Value::String(echoed)) if echoed == id => {}
        // A server that could not read the request does not know its id.
        None | Some(Value::Null) if response.error.is_some() => {}
        _ => return not_a2a("it answers another request"),
    }
    match response.error {
        Some(error) => Err(DecodeError::Reported(A2AError::from(error))),
        None => T::decode(response.result.unwrap_or_default()).map_err(DecodeError::NotA2a),
    }
}

#[derive(Deserialize)]
struct Response {
    jsonrpc: Option<String>,
    id: Option<Value>,
    result: Option<Value>,
    error: Option<ErrorObject>,
}

#[cfg(test)]
mod tests;
