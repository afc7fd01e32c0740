//! JSON-RPC 2.0 around a call and its answer.

use a2a::A2AError;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::reported::ErrorObject;
use crate::results::{Misread, Outcome, json};

const VERSION: &str = "2.0";

/// A request with this id.
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
    // Strings and a JSON value are always JSON.
    serde_json::to_vec(&request).unwrap_or_default().into()
}

/// Reads the response to the request with this id.
///
/// # Errors
/// The error that it holds, or why it is no such response.
pub(super) fn response<T: Outcome>(id: &str, bytes: &[u8]) -> Result<T, Misread> {
    let response: Response = json(bytes)?;
    let not_a2a = |why: &str| Err(Misread::NotA2a(why.to_owned()));
    if response.jsonrpc.as_deref() != Some(VERSION) {
        return not_a2a("it is no JSON-RPC 2.0");
    }
    match &response.id {
        Some(Value::String(echoed)) if echoed == id => {}
        // A server that could not read the request does not know its id.
        None | Some(Value::Null) if response.error.is_some() => {}
        _ => return not_a2a("it answers another request"),
    }
    match response.error {
        Some(error) => Err(Misread::Reported(A2AError::from(error))),
        None => T::read(response.result.unwrap_or_default()).map_err(Misread::NotA2a),
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
mod tests {
    use a2a::Task;
    use serde_json::json;

    use super::*;

    /// The task's id, or what is wrong.
    fn read(response_to_7: Value) -> Result<String, String> {
        match response::<Task>("7", response_to_7.to_string().as_bytes()) {
            Ok(task) => Ok(task.id),
            Err(Misread::Reported(error)) => Err(format!("{}", error.code)),
            Err(Misread::NotA2a(why)) => Err(why),
        }
    }

    #[test]
    fn a_response_has_the_request_s_id_and_a_result_or_an_error() {
        let task = json!({ "id": "t" });
        let error = json!({ "code": -32001, "message": "m" });
        for (given, expected) in [
            (
                json!({ "jsonrpc": "2.0", "id": "7", "result": task }),
                Ok("t"),
            ),
            (
                json!({ "jsonrpc": "2.0", "id": "7", "result": task, "error": null, "x": 1 }),
                Ok("t"),
            ),
            (
                json!({ "jsonrpc": "2.0", "id": "7", "error": error }),
                Err("-32001"),
            ),
            (
                json!({ "jsonrpc": "2.0", "id": "7", "error": error, "result": task }),
                Err("-32001"),
            ),
            (
                json!({ "jsonrpc": "2.0", "id": null, "error": error }),
                Err("-32001"),
            ),
            (json!({ "jsonrpc": "2.0", "error": error }), Err("-32001")),
            (
                json!({ "jsonrpc": "2.0", "id": "8", "error": error }),
                Err("it answers another request"),
            ),
            (
                json!({ "jsonrpc": "2.0", "id": "8", "result": task }),
                Err("it answers another request"),
            ),
            (
                json!({ "jsonrpc": "2.0", "id": 7, "result": task }),
                Err("it answers another request"),
            ),
            (
                json!({ "jsonrpc": "2.0", "result": task }),
                Err("it answers another request"),
            ),
            (
                json!({ "jsonrpc": "2.0", "id": "7" }),
                Err("there is no result"),
            ),
            (
                json!({ "jsonrpc": "2.0", "id": "7", "result": null }),
                Err("there is no result"),
            ),
            (
                json!({ "jsonrpc": "2.0", "id": "7", "result": {} }),
                Err("a task without an id"),
            ),
            (
                json!({ "jsonrpc": "1.0", "id": "7", "result": task }),
                Err("it is no JSON-RPC 2.0"),
            ),
            (
                json!({ "id": "7", "result": task }),
                Err("it is no JSON-RPC 2.0"),
            ),
            (
                json!({ "error": { "code": 403, "message": "a gateway's" } }),
                Err("it is no JSON-RPC 2.0"),
            ),
        ] {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(read(given.clone()), expected, "{given}");
        }
        assert!(read(json!([{ "jsonrpc": "2.0", "id": "7", "result": task }])).is_err());
    }

    #[test]
    fn what_answers_nothing_may_have_any_result() {
        for result in [json!(null), json!({}), json!(true)] {
            let given = json!({ "jsonrpc": "2.0", "id": "7", "result": result }).to_string();
            assert!(response::<()>("7", given.as_bytes()).is_ok(), "{given}");
        }
        assert!(response::<()>("7", b"").is_err());
    }

    #[test]
    fn json_as_deep_as_a_well_is_no_response_and_no_panic() {
        let deep = format!(
            r#"{{"jsonrpc":"2.0","id":"7","result":{}"#,
            "[".repeat(100_000)
        );
        assert!(matches!(
            response::<Task>("7", deep.as_bytes()),
            Err(Misread::NotA2a(_))
        ));
    }
}
